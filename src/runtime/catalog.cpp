#include "runtime/catalog.h"

#include <algorithm>
#include <cctype>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/nearest.h"

namespace lm::runtime {
namespace {

std::string fold(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

}  // namespace

Catalog::Catalog(std::vector<Model> models, std::map<std::string, ModelId> roles, std::vector<Unseen> unseen,
                 std::map<std::string, Error> lost)
    : models_(std::move(models)),
      unseen_(std::move(unseen)),
      roles_(std::move(roles)),
      lost_(std::move(lost)) {
  // Who comes first has a name: upstreams' ids, then what Ollama calls its models (tags, which have a colon),
  // then local ids; ids before all other aliases, so that no alias hides a model.
  for (const Model& model : models_) {
    if (model.remote) names_.emplace(model.id.str(), model.id);
  }
  for (const Model& model : models_) {
    if (!model.remote || model.family != Family::kOllama) continue;
    for (const std::string& alias : model.aliases) {
      if (alias.find(':') != std::string::npos) names_.emplace(alias, model.id);
    }
  }
  for (const Model& model : models_) {
    if (!model.remote) names_.emplace(model.id.str(), model.id);
  }
  for (const Model& model : models_) {
    for (const std::string& alias : model.aliases) names_.emplace(alias, model.id);
  }
  for (const bool aliases : {false, true}) {
    for (const Model& model : models_) {
      if (model.remote) continue;
      if (!aliases) local_.emplace(fold(model.id.str()), model.id);
      for (const std::string& alias : model.aliases) {
        if (aliases) local_.emplace(fold(alias), model.id);
      }
    }
  }
  for (const auto& [name, id] : names_) folded_.emplace(fold(name), id);
}

const Model* Catalog::find(const ModelId& id) const {
  const auto it = std::ranges::find(models_, id, &Model::id);
  return it == models_.end() ? nullptr : &*it;
}

std::vector<std::string> Catalog::roles_of(const ModelId& id) const {
  std::vector<std::string> roles;
  for (const auto& [role, model] : roles_) {
    if (model == id && role != "local_default") roles.push_back(role);
  }
  return roles;
}

const ModelId* Catalog::lookup(std::string_view name) const {
  if (const auto it = names_.find(name); it != names_.end()) return &it->second;
  if (const auto it = folded_.find(fold(name)); it != folded_.end()) return &it->second;
  return nullptr;
}

// Whose name it must be: "ollama_NAME", "openai_NAME" where there is only one provider, "PROVIDER/NAME".
const Catalog::Unseen* Catalog::unseen_behind(std::string_view name) const {
  const std::string folded = fold(name);
  const Unseen* found = nullptr;
  for (const Unseen& one : unseen_) {
    const std::string family(to_string(one.upstream.family));
    if (folded.starts_with(fold(one.upstream.id.str()) + "/")) return &one;
    if (folded.starts_with(family + "_")) found = &one;
  }
  return found;
}

Result<ModelId> Catalog::resolve(std::string_view name, ModelKind kind) const {
  const std::string_view asked = name;
  if (name.empty()) name = kind == ModelKind::kEmbedding ? "embedding" : "chat";
  constexpr std::string_view kLocal = "local/";
  if (name.starts_with(kLocal)) {
    name.remove_prefix(kLocal.size());
    if (const auto it = local_.find(fold(name)); it != local_.end()) return it->second;
  } else if (const auto role = roles_.find(std::string(name)); role != roles_.end()) {
    return role->second;
  } else if (const auto role_lost = lost_.find(std::string(name)); role_lost != lost_.end()) {
    return fail(role_lost->second);
  }
  if (const ModelId* id = asked.starts_with(kLocal) ? nullptr : lookup(name)) return *id;

  const auto no_model = [](std::string message) -> Error {
    return {.code = ErrorCode::kNotFound,
            .message = std::move(message),
            .reason = "model_not_found",
            .fields = {{"param", "model"}},
            .retry_after = {}};
  };
  if (const Unseen* unseen = unseen_behind(asked)) {
    const Upstream& upstream = unseen->upstream;
    return fail(
        Error{.code = ErrorCode::kUnavailable,
              .message = fmt::format("{} at {} was never reached, so its models are not known ({}): start "
                                     "it, or say in the configuration where it is",
                                     upstream.id.str(), upstream.url, unseen->why),
              .reason = "upstream_unreachable",
              .fields = {{"upstream", upstream.id.str()}, {"url", upstream.url}},
              .retry_after = std::chrono::seconds(5)});
  }
  if (models_.empty()) {
    return fail(
        no_model("there is no model yet: put a GGUF file into a model folder, or name one under models: in "
                 "the configuration"));
  }
  if (asked.empty() || asked == "local_default") {
    return fail(no_model(fmt::format(
        "no model was named, and no model has the role {}; name one under roles: in the configuration",
        name)));
  }
  std::vector<std::pair<int, std::string>> nearest;
  const std::string folded = fold(name.substr(0, 200));
  const int letters = static_cast<int>(folded.size());
  // So few letters are in many a name, and an edit away from the beginning of many more.
  constexpr int kFewLetters = 4;
  for (const auto& [known, id] : folded_) {
    if (letters < kFewLetters) {
      if (letters > 0 && known.starts_with(folded)) nearest.emplace_back(0, id.str());
      continue;
    }
    const bool contains = known.find(folded) != std::string::npos || folded.find(known) != std::string::npos;
    const int edits = contains ? 0 : config::edit_distance_to_beginning(folded, known);
    if (edits <= std::min(letters / 2, std::max(2, letters / 3))) nearest.emplace_back(edits, id.str());
  }
  std::ranges::sort(nearest);
  std::vector<std::string> names;
  for (const auto& [edits, id] : nearest) {
    if (std::ranges::find(names, id) == names.end()) names.push_back(id);
    if (names.size() == 3) break;
  }
  Error error =
      no_model(names.empty() ? fmt::format("no model is named {}; llm-manager list shows those there are",
                                           asked.substr(0, 200))
                             : fmt::format("no model is named {}; did you mean {}?", asked.substr(0, 200),
                                           fmt::join(names, " or ")));
  if (!names.empty()) error.fields.emplace_back("nearest", fmt::format("{}", fmt::join(names, ", ")));
  return fail(std::move(error));
}

}  // namespace lm::runtime
