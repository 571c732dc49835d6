// The metadata and the tensor table of a GGUF file, read without trusting a byte: what the engine would crash
// on, hang on or allocate for is refused here with a sentence. Linear in the metadata, allocates in
// proportion to what is in the file.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/result.h"

namespace lm::worker {

struct GgufArray {
  std::uint32_t type = 0;  // of the elements
  std::uint64_t count = 0;
  std::string_view bytes;  // the elements as they stand in the file
};

// Integers of every width and sign, floats of both widths; views into the bytes that were read.
using GgufValue = std::variant<std::int64_t, std::uint64_t, double, bool, std::string_view, GgufArray>;

struct GgufTensor {
  std::string_view name;
  std::int64_t elements = 0;
  std::uint64_t bytes = 0;
  std::uint32_t type = 0;  // ggml_type
  std::int64_t rows = 0;   // elements / first dimension
};

// Views into the bytes given to read_gguf: these must outlive it.
struct Gguf {
  std::uint32_t version = 0;
  std::unordered_map<std::string_view, GgufValue> values;
  std::vector<GgufTensor> tensors;
  std::uint64_t data_offset = 0;  // where the weights begin
  std::uint64_t data_end = 0;     // and where they end; the file may be longer

  // Empty where the key is not there or is of another kind. `integer` takes every width that holds the
  // number.
  std::optional<std::string_view> text(std::string_view key) const;
  std::optional<std::int64_t> integer(std::string_view key) const;
  std::optional<double> real(std::string_view key) const;
  const GgufArray* array(std::string_view key) const;
  // An integer, or the largest of an array of integers, as per-layer values are written.
  std::optional<std::int64_t> largest(std::string_view key) const;
  // The sum over `layers` of a value that is one number for all or an array with one for each.
  std::optional<std::int64_t> sum_over(std::string_view key, std::int64_t layers) const;
};

// `head`: the file's first bytes, at least all of its metadata; `file_size`: of the whole. Errors:
// kInvalidArgument with reason invalid_artifact; the message says what is wrong, not which file.
Result<Gguf> read_gguf(std::string_view head, std::uint64_t file_size);

}  // namespace lm::worker
