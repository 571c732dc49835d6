#include "ollama_store.h"

#include <fmt/format.h>

#include "small_file.h"
#include "wire/hub.h"

namespace lm::importer {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostManifests = 4'000;
constexpr std::size_t kLargestManifest = std::size_t{64} << 10;

// "registry.ollama.ai", "library", "llama3.2", "1b": Ollama leaves out what is usual.
std::string name_of(const fs::path& relative) {
  std::vector<std::string> parts;
  for (const auto& part : relative) parts.push_back(part.string());
  if (parts.size() != 4) return {};
  std::string name = fmt::format("{}:{}", parts[2], parts[3]);
  const bool usual = parts[0] == "registry.ollama.ai";
  if (!usual || parts[1] != "library") name = fmt::format("{}/{}", parts[1], name);
  return usual ? name : fmt::format("{}/{}", parts[0], name);
}

}  // namespace

std::vector<Manifest> collect_manifests(const fs::path& folder) {
  const fs::path root = folder / "manifests";
  std::vector<Manifest> found;
  std::error_code error;
  for (fs::recursive_directory_iterator each(root, fs::directory_options::skip_permission_denied, error), end;
       !error && each != end && found.size() < kMostManifests; each.increment(error)) {
    if (each.depth() >= 3) each.disable_recursion_pending();
    std::string name = name_of(each->path().lexically_relative(root));
    if (name.empty()) continue;
    if (std::string text = small_file(each->path(), kLargestManifest); !text.empty())
      found.push_back({.name = std::move(name), .text = std::move(text)});
  }
  return found;
}

std::vector<wire::StoredModel> read_manifests(const std::vector<Manifest>& manifests) {
  std::vector<wire::StoredModel> models;
  for (const Manifest& manifest : manifests) {
    const auto layers = wire::decode_ollama_manifest(manifest.text);
    if (!layers) continue;
    wire::StoredModel model{.name = manifest.name, .sha256 = {}, .projector_sha256 = {}};
    for (const wire::OllamaLayer& layer : *layers) {
      if (layer.media_type == "application/vnd.ollama.image.model" && model.sha256.empty())
        model.sha256 = layer.sha256;
      if (layer.media_type == "application/vnd.ollama.image.projector" && model.projector_sha256.empty())
        model.projector_sha256 = layer.sha256;
    }
    if (!model.sha256.empty()) models.push_back(std::move(model));
  }
  return models;
}

}  // namespace lm::importer
