#include "safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>

#include <fmt/format.h>

#include "json_document.h"
#include "refusal.h"

namespace lm::importer {
namespace {

constexpr std::uint64_t kLength = 8;                                // of the header's length
constexpr std::uint64_t kLongestHeader = std::uint64_t{100} << 20;  // the format's own limit
constexpr std::size_t kMostTensors = 65'536;  // a model of 600 B parameters has 92,000 in 163 files
constexpr std::size_t kMostDimensions = 8;
constexpr std::size_t kLongestName = 1'024;

struct TypeSize {
  std::string_view name;
  WeightType type;
  std::uint64_t bits;
};
constexpr std::array kTypes = {
    TypeSize{"F32", WeightType::kF32, 32},      TypeSize{"F16", WeightType::kF16, 16},
    TypeSize{"BF16", WeightType::kBf16, 16},    TypeSize{"F64", WeightType::kOther, 64},
    TypeSize{"I64", WeightType::kOther, 64},    TypeSize{"U64", WeightType::kOther, 64},
    TypeSize{"I32", WeightType::kOther, 32},    TypeSize{"U32", WeightType::kOther, 32},
    TypeSize{"I16", WeightType::kOther, 16},    TypeSize{"U16", WeightType::kOther, 16},
    TypeSize{"I8", WeightType::kOther, 8},      TypeSize{"U8", WeightType::kOther, 8},
    TypeSize{"BOOL", WeightType::kOther, 8},    TypeSize{"F8_E4M3", WeightType::kOther, 8},
    TypeSize{"F8_E5M2", WeightType::kOther, 8}, TypeSize{"F8_E8M0", WeightType::kOther, 8},
    TypeSize{"C64", WeightType::kOther, 64},    TypeSize{"F4", WeightType::kOther, 4}};

std::optional<std::uint64_t> length_of_header(std::string_view first) {
  static_assert(std::endian::native == std::endian::little);
  if (first.size() < kLength) return std::nullopt;
  std::uint64_t length = 0;
  std::memcpy(&length, first.data(), kLength);
  return length;
}

// Elements times bits, in bytes; nullopt where that is no number of bytes or none that a file can have.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, std::uint64_t bits) {
  constexpr std::uint64_t kMost = std::uint64_t{1} << 56;
  std::uint64_t elements = 1;
  for (const auto n : shape) {
    const auto size = static_cast<std::uint64_t>(n);
    if (size != 0 && elements > kMost / size) return std::nullopt;
    elements *= size;
  }
  if (elements > kMost / bits || elements * bits % 8 != 0) return std::nullopt;
  return elements * bits / 8;
}

Result<SafetensorsEntry> read_entry(std::string_view name, const json::value& value, std::uint64_t data,
                                    std::uint64_t data_size) {
  SafetensorsEntry entry{.name = std::string(name)};
  const auto wrong = [&](std::string_view what) {
    return refuse(fmt::format("its tensor {} {}", in_quotes(name), what));
  };
  if (name.empty() || name.size() > kLongestName) return wrong("has a name of no sensible length");
  const auto type = text_at(value, "dtype");
  const auto* shape = array_at(value, "shape");
  const auto* place = array_at(value, "data_offsets");
  if (!type || shape == nullptr || place == nullptr) return wrong("lacks dtype, shape or data_offsets");

  const auto known = std::ranges::find(kTypes, *type, &TypeSize::name);
  if (known == kTypes.end()) return wrong("is of the unknown type " + in_quotes(*type));
  entry.type = known->type;
  entry.type_name = std::string(*type);
  if (shape->size() > kMostDimensions) return wrong(fmt::format("has {} dimensions", shape->size()));
  for (const auto& each : *shape) {
    const auto n = as_integer(each);
    if (!n || *n < 0) return wrong("has a dimension that is no length");
    entry.shape.push_back(*n);
  }

  const auto begin = place->size() == 2 ? as_integer((*place)[0]) : std::nullopt;
  const auto end = place->size() == 2 ? as_integer((*place)[1]) : std::nullopt;
  if (!begin || !end || *begin < 0 || *end < *begin) return wrong("has no valid data_offsets");
  if (static_cast<std::uint64_t>(*end) > data_size) {
    return wrong(fmt::format("ends at byte {} of {}: the file is truncated or damaged", *end, data_size));
  }
  entry.begin = data + static_cast<std::uint64_t>(*begin);
  entry.size = static_cast<std::uint64_t>(*end - *begin);
  const auto size = bytes_of(entry.shape, known->bits);
  if (!size || *size != entry.size) {
    return wrong(fmt::format("has {} bytes, which its shape and type contradict", entry.size));
  }
  return entry;
}

}  // namespace

std::string_view to_string(WeightType type) {
  constexpr std::array<std::string_view, 4> kNames = {"F32", "F16", "BF16", "another type"};
  return kNames[static_cast<std::size_t>(type)];
}

std::uint64_t size_of(WeightType type) {
  return type == WeightType::kF32 ? 4 : 2;
}

std::uint64_t safetensors_head_size(std::string_view first_bytes, std::uint64_t file_size) {
  const auto length = length_of_header(first_bytes).value_or(0);
  return std::min(file_size, kLength + std::min(length, kLongestHeader));
}

Result<std::vector<SafetensorsEntry>> read_safetensors(std::string_view head, std::uint64_t file_size) {
  const auto length = length_of_header(head);
  if (!length) return refuse(fmt::format("it has {} bytes: it is no safetensors file", file_size));
  if (*length < 2 || *length > kLongestHeader) {
    return refuse(fmt::format("its header claims {} bytes: it is no safetensors file", *length));
  }
  if (*length > file_size - kLength || *length > head.size() - kLength) {
    return refuse(fmt::format("its header claims {} bytes of {}: the file is truncated or damaged", *length,
                              file_size));
  }
  // Deep enough for a list of numbers in a tensor in the object.
  LM_TRY(const auto header,
         parse_json(head.substr(kLength, *length), "its header", {.bytes = kLongestHeader, .depth = 4}));
  const auto* object = header.if_object();
  if (object == nullptr) return refuse("its header holds no object");
  if (object->size() > kMostTensors) return refuse(fmt::format("it claims {} tensors", object->size()));

  const std::uint64_t data = kLength + *length;
  std::vector<SafetensorsEntry> entries;
  entries.reserve(object->size());
  for (const auto& [name, value] : *object) {
    if (name == "__metadata__") continue;
    LM_TRY(auto entry, read_entry(name, value, data, file_size - data));
    entries.push_back(std::move(entry));
  }

  // The format leaves no byte unused and gives none to two, so that a file has one meaning only.
  std::ranges::sort(entries, [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.size) < std::pair(b.begin, b.size);
  });
  std::uint64_t at = data;
  for (const auto& entry : entries) {
    if (entry.begin < at) return refuse(fmt::format("its tensor {} overlaps another", in_quotes(entry.name)));
    if (entry.begin > at)
      return refuse(fmt::format("a gap lies before its tensor {}", in_quotes(entry.name)));
    at += entry.size;
  }
  if (at != file_size) return refuse(fmt::format("{} bytes follow its last tensor", file_size - at));
  return entries;
}

}  // namespace lm::importer
