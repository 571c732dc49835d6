#include "config/models.h"

#include <algorithm>
#include <map>
#include <set>

#include <fmt/format.h>

#include "config/load.h"
#include "config/model_folder.h"

namespace lm::config {
namespace {

// "TinyLlama.gguf" and "tinyllama" mean the found model "tinyllama"; anything with a slash is a path.
const Model* found_by_name(std::span<const Model> found, const std::string& text) {
  if (text.empty() || text.find('/') != std::string::npos) return nullptr;
  std::string name = canonical_name(text);
  if (name.ends_with(".gguf")) name.resize(name.size() - std::string_view(".gguf").size());
  for (const Model& model : found) {
    if (model.id.str() == name) return &model;
  }
  for (const Model& model : found) {
    if (std::ranges::find(model.aliases, name) != model.aliases.end()) return &model;
  }
  return nullptr;
}

const Model* found_by_path(std::span<const Model> found, const std::filesystem::path& path) {
  for (const Model& model : found) {
    if (model.artifact.path.lexically_normal() == path) return &model;
  }
  return nullptr;
}

ModelKind kind_of(const std::string& name, const ModelEntry& entry) {
  if (entry.kind) return *entry.kind;
  if (name == "llm") return ModelKind::kGeneration;
  if (name == "embedding") return ModelKind::kEmbedding;
  const ModelKind by_name = guess_kind(name);
  if (by_name != ModelKind::kGeneration) return by_name;
  return guess_kind(std::filesystem::path(entry.model_path).filename().string());
}

void look_into(Model& model, const KindIn& kind_in) {
  if (!kind_in) return;
  if (const auto kind = kind_in(model.artifact.path)) model.kind = kind_by(model.kind, *kind);
}

Model to_model(const std::string& name, const ModelEntry& entry) {
  Model model;
  model.id = ModelId(name);
  model.aliases = entry.aliases;
  model.kind = kind_of(name, entry);
  model.load = entry.load;
  const bool by_guide = name == "llm" || name == "embedding";
  model.placement.layout = entry.layout.value_or(by_guide ? Layout::kGuideFromFive : Layout::kCompact);
  for (const std::string& device : entry.devices) model.placement.devices.emplace_back(device);
  for (const auto& [device, bytes] : entry.reserve) model.placement.reserve.set(DeviceId(device), bytes);
  model.placement.max_devices = entry.max_devices;
  model.sampling = entry.sampling;
  model.policy = entry.policy;
  model.origin = entry.origin;
  model.artifact.projector = entry.projector;
  return model;
}

// Gives names out so that each means one model.
class Names {
 public:
  bool take(const std::string& name) { return taken_.insert(name).second; }

  void add_alias(Model& model, const std::string& name) {
    if (!name.empty() && take(name)) model.aliases.push_back(name);
  }

 private:
  std::set<std::string> taken_;
};

void give_roles(const Config& config, std::vector<Model>& models, Names& names) {
  const auto named = [&models](const std::string& name) -> Model* {
    for (Model& model : models) {
      if (model.id.str() == name || std::ranges::find(model.aliases, name) != model.aliases.end())
        return &model;
    }
    return nullptr;
  };
  const auto first_of = [&models](ModelKind kind) -> Model* {
    const auto it = std::ranges::find_if(
        models, [kind](const Model& model) { return model.kind == kind && !model.problem; });
    return it == models.end() ? nullptr : &*it;
  };
  Model* text = named("llm");
  if (text == nullptr) text = first_of(ModelKind::kGeneration);
  Model* vectors = named("embedding");
  if (vectors == nullptr) vectors = first_of(ModelKind::kEmbedding);
  const auto give = [&](const std::string& role, const std::string& wanted, Model* otherwise) {
    // A role that names no model of ours names an upstream's: whoever knows those resolves it.
    Model* model = wanted.empty() ? otherwise : named(wanted);
    if (model != nullptr) names.add_alias(*model, role);
  };
  give("local_default", "", text);
  give("chat", config.roles.chat, text);
  give("knowledge", config.roles.knowledge, text);
  give("translation", config.roles.translation, text);
  give("embedding", config.roles.embedding, vectors);
}

}  // namespace

bool says_kind(const std::string& name, const ModelEntry& entry) {
  return entry.kind || name == "llm" || name == "embedding";
}

ModelKind kind_by(ModelKind name, ModelKind file) {
  static_assert(ModelKind::kGeneration < ModelKind::kEmbedding && ModelKind::kEmbedding < ModelKind::kRerank,
                "each says more than the one before");
  return std::max(name, file);
}

std::vector<Model> to_models(const Config& config, std::span<const Model> found, const KindIn& kind_in) {
  std::vector<Model> models;
  Names names;
  for (const auto& [name, entry] : config.models) names.take(name);
  for (const auto& [name, entry] : config.models) {
    Model& model = models.emplace_back(to_model(name, entry));
    for (const std::string& alias : model.aliases) names.take(alias);
  }

  std::set<ModelId> named;
  for (Model& model : models) {
    const ModelEntry& entry = config.models.at(model.id.str());
    if (entry.model_path.empty()) {
      model.problem =
          Error{.code = ErrorCode::kFailedPrecondition,
                .message = fmt::format("models.{} has no model_path; give it one in the configuration",
                                       model.id.str()),
                .reason = "no_model_path",
                .fields = {},
                .retry_after = {}};
      continue;
    }
    const auto path = resolve_path(entry.model_path, entry.folder, {});
    const Model* file = found_by_path(found, path);
    if (file == nullptr) file = found_by_name(found, entry.model_path);
    if (file == nullptr) {
      model.artifact.path = path;
      if (!says_kind(model.id.str(), entry)) look_into(model, kind_in);
      continue;
    }
    const std::filesystem::path projector = model.artifact.projector;
    model.artifact = file->artifact;
    if (!says_kind(model.id.str(), entry)) look_into(model, kind_in);
    if (!projector.empty()) model.artifact.projector = projector;
    model.problem = file->problem;
    // Two entries may load one file in two ways; its own name then means the first.
    if (named.insert(file->id).second) {
      names.add_alias(model, file->id.str());
      for (const std::string& alias : file->aliases) names.add_alias(model, alias);
    }
  }

  for (const Model& file : found) {
    if (named.contains(file.id)) continue;
    Model& model = models.emplace_back(file);
    look_into(model, kind_in);
    std::string name = file.id.str();
    for (int number = 2; !names.take(name); ++number) name = fmt::format("{}-{}", file.id.str(), number);
    model.id = ModelId(name);
    std::erase_if(model.aliases, [&names](const std::string& alias) { return !names.take(alias); });
  }
  give_roles(config, models, names);
  return models;
}

}  // namespace lm::config
