// The header of a safetensors file, read without trusting a byte: a length, a JSON object of names with type,
// shape and place, then the weights one after the other without gap or overlap.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lm::importer {

enum class WeightType : std::uint8_t { kF32, kF16, kBf16, kOther };

// "F32"; what is neither of the first three is known by its size only.
std::string_view to_string(WeightType type);
// Bytes of one element; of the first three.
std::uint64_t size_of(WeightType type);

struct SafetensorsEntry {
  std::string name;
  WeightType type = WeightType::kOther;
  std::string type_name;            // as in the file
  std::vector<std::int64_t> shape;  // outermost first; empty for a scalar
  std::uint64_t begin = 0;          // in the file
  std::uint64_t size = 0;           // bytes
};

// `head`: the file's first bytes, at least 8 and its header; `file_size`: of the whole. The entries in the
// order of their bytes. Errors: kInvalidArgument, reason invalid_checkpoint; the message does not name the
// file. Linear in the header, allocates in proportion to it.
Result<std::vector<SafetensorsEntry>> read_safetensors(std::string_view head, std::uint64_t file_size);

// How many bytes of a file read_safetensors needs: the whole header, or what it takes to refuse it.
std::uint64_t safetensors_head_size(std::string_view first_bytes, std::uint64_t file_size);

}  // namespace lm::importer
