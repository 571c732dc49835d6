#include "runtime/named_source.h"

#include <algorithm>
#include <set>
#include <system_error>

#include <fmt/format.h>

#include "config/arriving.h"
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

bool is_checkpoint(const fs::path& folder, const std::set<fs::path>& arriving) {
  std::error_code error;
  bool weights = false;
  for (fs::directory_iterator each(folder, error), end; !error && each != end; each.increment(error)) {
    if (arriving.contains(each->path())) return false;
    weights = weights || each->path().extension() == ".safetensors";
  }
  return weights && fs::is_regular_file(folder / "config.json", error);
}

}  // namespace

std::optional<hub::Source> named_source(std::string_view model_path) {
  constexpr std::string_view kSchemes[] = {"hf:", "ollama:", "npm:", "https://", "http://"};
  const bool has_scheme =
      std::ranges::any_of(kSchemes, [&](std::string_view scheme) { return model_path.starts_with(scheme); });
  // Without one it is most likely a path: only what can be nothing but a repository's name is one.
  const bool plain = model_path.find_first_of("@:") == std::string_view::npos &&
                     std::ranges::count(model_path, '/') == 1 && !model_path.ends_with(".gguf");
  if (!has_scheme && !plain) return std::nullopt;
  auto source = hub::parse_source(has_scheme ? std::string(model_path) : fmt::format("hf:{}", model_path));
  return source ? std::optional(*std::move(source)) : std::nullopt;
}

std::optional<fs::path> local_copy(const hub::Source& source, std::span<const fs::path> roots,
                                   const fs::path& huggingface, std::span<const Model> found) {
  const std::string place = hub::folder_of(source), pick = hub::pick_in_folder(source);
  for (const fs::path& root : roots) {
    if (place.empty()) break;
    const fs::path folder = root / place;
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
