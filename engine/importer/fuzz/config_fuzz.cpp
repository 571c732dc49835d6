// libFuzzer: config.json. scripts/fuzz builds and runs it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "architecture.h"
#include "found_checkpoint.h"
#include "json_document.h"
#include "model_shape.h"

using namespace lm::importer;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto kind = kind_of_checkpoint({.config = std::string(text), .makes_vectors = false});
  const auto config = parse_json(text, "config.json");
  if (!config) return 0;
  const auto shape = read_shape(*config);
  if (!shape) return 0;
  const auto architecture = find_architecture(*shape);
  if (!architecture) {
    if (kind) std::abort();
    return 0;
  }
  // No product of two lengths overflows, and each row that is asked for is one of the tensor's.
  for (const auto rules : {(*architecture)->tensors, (*architecture)->layer}) {
    for (const auto& rule : rules) {
      const auto rows = length_of(rule.rows, *shape, **architecture);
      const auto columns = length_of(rule.columns, *shape, **architecture);
      if (columns < 0 || (columns > 0 && rows > (std::int64_t{1} << 60) / columns)) std::abort();
      const auto there = rows + rows_left_out(rule.order, *shape);
      for (const auto row : {std::int64_t{0}, rows / 2, rows - 1}) {
        if (row < 0 || rows < 1) continue;
        const auto from = source_row(rule.order, row, *shape);
        if (from < 0 || from >= there) std::abort();
      }
    }
  }
  return 0;
}
