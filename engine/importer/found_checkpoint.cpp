#include "found_checkpoint.h"

#include <system_error>

#include "architecture.h"
#include "json_document.h"
#include "model_shape.h"
#include "small_file.h"

namespace lm::importer {
namespace {

namespace fs = std::filesystem;

// Some have a table of labels in it.
constexpr std::size_t kLargestConfig = std::size_t{1} << 20;

}  // namespace

FoundCheckpoint collect_checkpoint(const fs::path& folder) {
  std::error_code error;
  return {.config = small_file(folder / "config.json", kLargestConfig),
          .makes_vectors = fs::is_regular_file(folder / "modules.json", error)};
}

std::optional<ModelKind> kind_of_checkpoint(const FoundCheckpoint& found) {
  const auto config = parse_json(found.config, "config.json");
  if (!config || member(*config, "quantization_config") != nullptr) return std::nullopt;
  const auto shape = read_shape(*config);
  if (!shape) return std::nullopt;
  const auto architecture = find_architecture(*shape);
  if (!architecture) return std::nullopt;
  const bool makes_vectors = found.makes_vectors || (*architecture)->family == Family::kEncoder ||
                             shape->class_name.ends_with("Model");
  return makes_vectors ? ModelKind::kEmbedding : ModelKind::kGeneration;
}

}  // namespace lm::importer
