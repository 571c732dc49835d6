#include "runtime/inventory.h"

#include <algorithm>
#include <array>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "config/arriving.h"
#include "config/load.h"
#include "config/model_folder.h"
#include "runtime/import_folder.h"
#include "runtime/local_copy.h"

namespace lm::runtime {
namespace {

constexpr std::array<std::string_view, 4> kRoles = {"chat", "knowledge", "translation", "embedding"};

// What names the model's file: a key of the file, or the variable that stands in for it.
std::string_view where_to_correct(const Model& model) {
  for (const std::string_view variable : {"EMBEDDING_MODEL_NAME", "MODEL_NAME"})
    if (model.origin.starts_with(variable)) return variable;
  return "model_path";
}

Error missing(const Model& model, std::string_view why) {
  return {.code = ErrorCode::kNotFound,
          .message = fmt::format("{}: {} {}", model.origin, model.artifact.path.string(), why),
          .reason = "io_error",
          .fields = {{"path", model.artifact.path.string()}},
          .retry_after = {}};
}

// Whether the file is there and which one it is: a file that was replaced has another fingerprint. Its
// content is read by workers only.
void look_at(Model& model) {
  // Also of one with a problem, so that it is known when the file is another one.
  model.artifact.fingerprint = fingerprint_of(model.artifact.path);
  if (model.problem) return;
  struct stat found{};
  if (::stat(model.artifact.path.c_str(), &found) != 0) {
    model.problem = missing(model, fmt::format("is not there; correct {}", where_to_correct(model)));
  } else if (S_ISDIR(found.st_mode)) {
    model.problem =
        missing(model, fmt::format("is a folder without config.json; {} names a GGUF file or a Hugging "
                                   "Face checkpoint",
                                   where_to_correct(model)));
  } else if (::access(model.artifact.path.c_str(), R_OK) != 0) {
    model.problem = missing(model, "may not be read by this user");
  } else {
    if (model.artifact.size == Bytes()) model.artifact.size = Bytes(found.st_size);
    model.artifact.modified_s = found.st_mtim.tv_sec;
  }
}

// A checkpoint's model is what is made of it; of one that nobody wants nothing is.
void look_for_checkpoint(Model& model, const std::string& quantize, bool is_wanted,
                         const InventoryPlaces& places, Inventory& inventory) {
  struct stat found{};
  if (model.problem || ::stat(model.artifact.path.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) return;
  const std::filesystem::path folder = model.artifact.path;
  const std::vector<std::string> all = quantisations(quantize, model.kind);
  std::string chosen = quantize;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto file = imported_file(folder, all[i], places.imports);
    if (!file) return;
    model.artifact.path = *file;
    chosen = all[i];
    if (places.is_unusable && places.is_unusable(*file)) continue;
    if (i + 1 < all.size()) inventory.otherwise.emplace(*file, all[i + 1]);
    break;
  }
  if (chosen != quantize) {
    inventory.warnings.push_back(fmt::format(
        "{}: what was made of {} cannot be loaded quantised as wished; it is imported as {} instead",
        model.id.str(), folder.string(), chosen));
  }
  if (::stat(model.artifact.path.c_str(), &found) == 0) return;
  if (!is_wanted) {
    inventory.unimported.emplace(model.id, folder);
    model.problem =
        Error{.code = ErrorCode::kUnavailable,
              .message = fmt::format("{} is a checkpoint in {}: it is imported once it is asked for",
                                     model.id.str(), folder.string()),
              .reason = "not_imported",
              .fields = {{"path", folder.string()}},
              .retry_after = std::chrono::seconds(5)};
    return;
  }
  inventory.missing.push_back(
      {.model = model.id, .folder = folder, .file = model.artifact.path, .quantize = chosen});
  model.problem =
      Error{.code = ErrorCode::kUnavailable,
            .message = fmt::format("{} is being imported from {}", model.id.str(), folder.string()),
            .reason = "importing",
            .fields = {{"path", folder.string()}},
            .retry_after = std::chrono::seconds(5)};
}

// Where entries name a source, the path of its copy here takes its place; those without one are told.
std::map<ModelId, std::string> find_copies(config::Config& config, const InventoryPlaces& places,
                                           const std::vector<Model>& found) {
  std::map<ModelId, std::string> unfetched;
  for (auto& [name, entry] : config.models) {
    const auto source = hub::named_source(entry.model_path);
    std::error_code error;
    if (!source || std::filesystem::exists(config::resolve_path(entry.model_path, entry.folder, {}), error))
      continue;
    if (const auto copy = local_copy(*source, places.pulled, places.huggingface, found))
      entry.model_path = copy->string();
    else
      unfetched.emplace(ModelId(name), source->secret_text());
  }
  return unfetched;
}

Error not_fetched(const Model& model, const std::string& source) {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("{} is {}, which is not here yet: it is fetched once it is asked for; "
                                 "llm-manager pulls shows how far it is",
                                 model.id.str(), source),
          .reason = "not_fetched",
          .fields = {{"source", source}},
          .retry_after = std::chrono::seconds(5)};
}

// Models of their own, unless the configuration names them: what pulls have brought, then what was found. One
// of a name that a model has already is taken for what that was made of.
void add_checkpoints(std::vector<Model>& models, const InventoryPlaces& places, const Inventory& inventory,
                     const std::set<std::filesystem::path>& arriving) {
  const auto add = [&](const Checkpoint& checkpoint) {
    Model& model = models.emplace_back();
    model.id = ModelId(config::canonical_name(checkpoint.name));
    model.kind = checkpoint.kind;
    model.artifact.path = checkpoint.folder;
    model.origin = checkpoint.origin;
  };
  const auto in = [](const auto& all, const std::filesystem::path& folder) {
    return std::ranges::find(all, folder, &Checkpoint::folder);
  };
  for (const std::filesystem::path& folder : places.checkpoints) {
    if (!is_checkpoint(folder, arriving)) continue;
    const std::string name = folder.filename().string();
    const auto known = in(places.found, folder);
    add({.name = name,
         .folder = folder,
         .origin = folder.string(),
         .kind =
             known != places.found.end() ? known->kind : config::guess_kind(config::canonical_name(name))});
  }
  std::set<std::string> names;
  for (const Model& model : models) {
    names.insert(model.id.str());
    names.insert(model.aliases.begin(), model.aliases.end());
  }
  for (const Checkpoint& found : places.found) {
    if (names.contains(config::canonical_name(found.name))) continue;
    const bool is_pulled = std::ranges::find(places.checkpoints, found.folder) != places.checkpoints.end();
    if (!is_pulled && in(inventory.candidates, found.folder) != inventory.candidates.end()) add(found);
  }
}

}  // namespace

std::vector<std::string> quantisations(const std::string& configured, ModelKind kind) {
  std::vector<std::string> all = {configured};
  const bool is_4bit = configured == "4bit" || (configured.empty() && kind == ModelKind::kGeneration);
  if (is_4bit) all.emplace_back("8bit");
  if (configured != "none") all.emplace_back("none");
  return all;
}

Inventory take_inventory(const config::Config& config, const InventoryPlaces& places) {
  std::vector<std::filesystem::path> all;
  for (const std::string& folder : config.model_folders) all.emplace_back(folder);
  all.insert(all.end(), places.folders.begin(), places.folders.end());
  config::FolderScan scan = config::scan_model_folders(all);
  if (places.with_stores) scan.models = places.with_stores(std::move(scan.models));

  Inventory inventory;
  for (const config::Warning& warning : scan.warnings)
    inventory.warnings.push_back(config::to_string(warning));
  std::set<std::filesystem::path> arriving;
  for (const std::filesystem::path& root : places.pulled) arriving.merge(config::arriving_files(root));
  inventory.candidates = cached_checkpoints(places.huggingface);
  for (const std::filesystem::path& folder : scan.checkpoints) {
    if (is_checkpoint(folder, arriving))
      inventory.candidates.push_back(
          {.name = folder.filename().string(), .folder = folder, .origin = folder.parent_path().string()});
  }
  add_checkpoints(scan.models, places, inventory, arriving);
  config::Config resolved = config;
  inventory.unfetched = find_copies(resolved, places, scan.models);
  inventory.models = config::to_models(resolved, scan.models, places.kind_in);
  for (Model& model : inventory.models) {
    const auto entry = resolved.models.find(model.id.str());
    if (const auto source = inventory.unfetched.find(model.id); source != inventory.unfetched.end()) {
      model.problem = not_fetched(model, hub::named_source(source->second)->text());
      model.artifact.path.clear();  // an address may have a key in it
    }
    const bool is_own = entry == resolved.models.end();
    const std::filesystem::path named = model.artifact.path;
    const std::filesystem::path& folder = model.artifact.path;
    const bool is_pulled =
        is_own && std::ranges::find(places.checkpoints, folder) != places.checkpoints.end();
    if (is_pulled) inventory.checkpoints.emplace(model.id, folder);
    look_for_checkpoint(model, is_own ? std::string() : entry->second.quantize,
                        !is_own || is_pulled || (places.is_wanted && places.is_wanted(folder)), places,
                        inventory);
    // What is made of a checkpoint is of the kind that it was made as.
    const bool is_made = model.artifact.path != named;
    if (!is_made && (is_own || !config::says_kind(model.id.str(), entry->second)))
      inventory.guessed.insert(model.id);
    look_at(model);
    for (const std::string_view role : kRoles) {
      if (std::erase(model.aliases, role) > 0) inventory.roles.emplace(role, model.id);
    }
    if (std::erase(model.aliases, "local_default") > 0) inventory.roles.emplace("local_default", model.id);
  }
  return inventory;
}

std::string fingerprint_of(const std::filesystem::path& file) {
  struct stat found{};
  if (::stat(file.c_str(), &found) != 0 || S_ISDIR(found.st_mode)) return {};
  return fmt::format("{}-{}-{}.{}", found.st_ino, found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec);
}

}  // namespace lm::runtime
