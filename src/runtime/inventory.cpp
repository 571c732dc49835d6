#include "runtime/inventory.h"

#include <algorithm>
#include <array>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "config/model_folder.h"
#include "config/models.h"
#include "runtime/import_folder.h"

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

// A checkpoint's model is what is made of it.
void look_for_checkpoint(Model& model, const std::string& quantize, const std::filesystem::path& imports,
                         std::vector<Import>& missing) {
  struct stat found{};
  if (model.problem || ::stat(model.artifact.path.c_str(), &found) != 0 || !S_ISDIR(found.st_mode)) return;
  const std::filesystem::path folder = model.artifact.path;
  auto file = imported_file(folder, quantize, imports);
  if (!file) return;
  model.artifact.path = *std::move(file);
  if (::stat(model.artifact.path.c_str(), &found) == 0) return;
  missing.push_back({.model = model.id, .folder = folder, .file = model.artifact.path, .quantize = quantize});
  model.problem =
      Error{.code = ErrorCode::kUnavailable,
            .message = fmt::format("{} is being imported from {}", model.id.str(), folder.string()),
            .reason = "importing",
            .fields = {{"path", folder.string()}},
            .retry_after = std::chrono::seconds(5)};
}

}  // namespace

Inventory take_inventory(const config::Config& config, const std::vector<std::filesystem::path>& folders,
                         const std::filesystem::path& imports) {
  std::vector<std::filesystem::path> all;
  for (const std::string& folder : config.model_folders) all.emplace_back(folder);
  all.insert(all.end(), folders.begin(), folders.end());
  config::FolderScan scan = config::scan_model_folders(all);

  Inventory inventory;
  for (const config::Warning& warning : scan.warnings)
    inventory.warnings.push_back(config::to_string(warning));
  inventory.models = config::to_models(config, scan.models);
  for (Model& model : inventory.models) {
    const auto entry = config.models.find(model.id.str());
    look_for_checkpoint(model, entry == config.models.end() ? std::string() : entry->second.quantize, imports,
                        inventory.missing);
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
