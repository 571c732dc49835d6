#include "config/disk_check.h"

#include <algorithm>
#include <string>
#include <system_error>

#include <fmt/format.h>

#include "config/model_folder.h"
#include "config/models.h"

namespace lm::config {
namespace {

bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::exists(path, error);
}

}  // namespace

std::vector<Warning> check_disk(const Loaded& loaded, std::span<const std::filesystem::path> others,
                                const std::function<bool(const std::string& model_path)>& is_source) {
  std::vector<std::filesystem::path> folders(loaded.config.model_folders.begin(),
                                             loaded.config.model_folders.end());
  folders.insert(folders.end(), others.begin(), others.end());
  FolderScan scan = scan_model_folders(folders);
  std::vector<Warning> warnings;
  for (Warning& told : scan.warnings) {
    // Of a folder that the file names: at its line there.
    if (std::ranges::find(loaded.config.model_folders, told.file) != loaded.config.model_folders.end())
      told = {.file = loaded.file.string(),
              .at = loaded.position("model_folders"),
              .key = "model_folders",
              .message = fmt::format("{}: {}", told.file, told.message)};
    warnings.push_back(std::move(told));
  }
  const auto tell = [&](const Model& model, std::string_view word, std::string message) {
    const std::string key = fmt::format("models.{}.{}", model.id.str(), word);
    const bool in_file = loaded.positions.contains(fmt::format("models.{}", model.id.str()));
    warnings.push_back({.file = in_file ? loaded.file.string() : model.origin,
                        .at = in_file ? loaded.position(key) : Position(),
                        .key = key,
                        .message = std::move(message)});
  };
  for (const Model& model : to_models(loaded.config, scan.models)) {
    if (!loaded.config.models.contains(model.id.str())) continue;
    const auto& [path, projector] = std::pair(model.artifact.path, model.artifact.projector);
    if (model.problem) {
      tell(model, "model_path", model.problem->message);
    } else if (!is_there(path) && !is_source(loaded.config.models.at(model.id.str()).model_path)) {
      tell(model, "model_path",
           fmt::format("{} is not there, and no model in a model folder is called so", path.string()));
    }
    if (!projector.empty() && !is_there(projector))
      tell(model, "projector", fmt::format("{} is not there", projector.string()));
  }
  return warnings;
}

}  // namespace lm::config
