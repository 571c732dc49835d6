#include "runtime/local_copy.h"

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "config/arriving.h"
#include "config/split_name.h"
#include "hub/listing.h"
#include "runtime/stores.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

// The one of the folder's GGUF files that a pull would have taken.
std::optional<fs::path> file_in(const fs::path& folder, std::string_view pick, std::span<const Model> found) {
  std::vector<wire::HubFile> files;
  for (const Model& model : found) {
    if (model.problem) continue;
    const std::string path = model.artifact.path.lexically_relative(folder).string();
    if (path.empty() || path.starts_with("..") || !path.ends_with(".gguf")) continue;
    files.push_back({.path = path, .size = model.artifact.size, .sha256 = {}, .git_sha1 = {}});
  }
  if (files.empty()) return std::nullopt;
  const auto chosen = hub::choose_files(files, pick);
  return chosen ? std::optional(folder / chosen->front().path) : std::nullopt;
}

}  // namespace

bool is_checkpoint(const fs::path& folder, const std::set<fs::path>& arriving) {
  std::error_code error;
  bool weights = false;
  std::map<std::pair<std::string, int>, int> parts;  // of weights in several files: how many are there
  for (fs::directory_iterator each(folder, error), end; !error && each != end; each.increment(error)) {
    if (arriving.contains(each->path())) return false;
    std::error_code gone;
    if (each->path().extension() != ".safetensors" || !each->is_regular_file(gone)) continue;
    weights = true;
    if (const auto name = config::split_name(each->path().stem().string()))
      ++parts[{name->base, name->count}];
  }
  const auto is_whole = [](const auto& part) { return part.second == part.first.second; };
  return weights && std::ranges::all_of(parts, is_whole) &&
         fs::is_regular_file(folder / "config.json", error);
}

std::optional<fs::path> local_copy(const hub::Source& source, std::span<const fs::path> roots,
                                   const fs::path& huggingface, std::span<const Model> found) {
  const std::string place = hub::folder_of(source), pick = hub::pick_in_folder(source);
  for (const fs::path& root : roots) {
    if (place.empty()) break;
    fs::path folder = root / place;
    if (auto file = file_in(folder, pick, found)) return file;
    if (pick.empty() && is_checkpoint(folder, config::arriving_files(root))) return folder;
  }
  if (source.kind != hub::Source::Kind::kHuggingFace || source.revision != "main") return std::nullopt;
  const auto snapshot = cached_snapshot(huggingface, source.name);
  if (!snapshot) return std::nullopt;
  if (auto file = file_in(*snapshot, source.pick, found)) return file;
  return source.pick.empty() && is_checkpoint(*snapshot, {}) ? snapshot : std::nullopt;
}

}  // namespace lm::runtime
