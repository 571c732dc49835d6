#include "gguf_check.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <ggml.h>
#include <gguf.h>
#include <limits>
#include <type_traits>
#include <unordered_set>

#include <fmt/format.h>

namespace lm::worker {
namespace {

// The engine compares every key and every tensor's name with all before it, so these bound its time; the
// largest models of today have some 100 keys and 2,500 tensors.
constexpr std::uint64_t kMostKeys = 8'192;
constexpr std::uint64_t kMostTensors = 32'768;
constexpr std::uint64_t kLongestKey = 65'535;          // the format's own limit
constexpr std::uint64_t kSmallestKey = 8 + 1 + 4 + 1;  // length, a letter, type, a byte
constexpr std::uint64_t kSmallestTensor =
    8 + 1 + 4 + 8 + 4 + 8;  // length, a letter, dimensions, one of them, type, offset

std::unexpected<Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message), "invalid_artifact");
}

// A name for a message: printable, short.
std::string shown(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 64)) out += c >= 0x20 && c < 0x7f ? c : '?';
  if (text.size() > 64) out += "…";
  return out + "'";
}

std::uint64_t size_of(std::uint32_t type) {
  switch (type) {
    case GGUF_TYPE_UINT8:
    case GGUF_TYPE_INT8:
    case GGUF_TYPE_BOOL:
      return 1;
    case GGUF_TYPE_UINT16:
    case GGUF_TYPE_INT16:
      return 2;
    case GGUF_TYPE_UINT32:
    case GGUF_TYPE_INT32:
    case GGUF_TYPE_FLOAT32:
      return 4;
    case GGUF_TYPE_UINT64:
    case GGUF_TYPE_INT64:
    case GGUF_TYPE_FLOAT64:
      return 8;
    default:
      return 0;
  }
}

template <class T>
T load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

GgufValue scalar(std::uint32_t type, const char* at) {
  switch (type) {
    case GGUF_TYPE_UINT8:
      return std::uint64_t{load<std::uint8_t>(at)};
    case GGUF_TYPE_INT8:
      return std::int64_t{load<std::int8_t>(at)};
    case GGUF_TYPE_UINT16:
      return std::uint64_t{load<std::uint16_t>(at)};
    case GGUF_TYPE_INT16:
      return std::int64_t{load<std::int16_t>(at)};
    case GGUF_TYPE_UINT32:
      return std::uint64_t{load<std::uint32_t>(at)};
    case GGUF_TYPE_INT32:
      return std::int64_t{load<std::int32_t>(at)};
    case GGUF_TYPE_FLOAT32:
      return double{load<float>(at)};
    case GGUF_TYPE_UINT64:
      return load<std::uint64_t>(at);
    case GGUF_TYPE_INT64:
      return load<std::int64_t>(at);
    case GGUF_TYPE_FLOAT64:
      return load<double>(at);
    default:
      return load<std::uint8_t>(at) != 0;  // bool
  }
}

std::optional<std::int64_t> as_integer(const GgufValue& value) {
  if (const auto* i = std::get_if<std::int64_t>(&value)) return *i;
  if (const auto* u = std::get_if<std::uint64_t>(&value);
      u && *u <= std::numeric_limits<std::int64_t>::max()) {
    return static_cast<std::int64_t>(*u);
  }
  return std::nullopt;
}

// Walks the head, and knows when it ends.
class Cursor {
 public:
  Cursor(std::string_view head, std::uint64_t file_size) : head_(head), file_size_(file_size) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return head_.size() - at_; }

  template <class T>
  bool take(T& value) {
    if (left() < sizeof(T)) return false;
    value = load<T>(head_.data() + at_);
    at_ += sizeof(T);
    return true;
  }
  bool take(std::string_view& bytes, std::uint64_t size) {
    if (left() < size) return false;
    bytes = head_.substr(at_, size);
    at_ += size;
    return true;
  }
  bool take_text(std::string_view& text) {
    std::uint64_t size = 0;
    return take(size) && take(text, size);
  }
  // Why there is nothing more: the file's own end, or that of what we are willing to read as metadata.
  std::unexpected<Error> ended(std::string_view where) const {
    if (head_.size() < file_size_)
      return invalid(fmt::format("its metadata is longer than {} MB ({})", head_.size() >> 20, where));
    return invalid(
        fmt::format("it ends after {} bytes in {}: the file is truncated or damaged", file_size_, where));
  }

 private:
  std::string_view head_;
  std::uint64_t file_size_;
  std::uint64_t at_ = 0;
};

Result<GgufValue> read_value(Cursor& cursor, std::string_view key) {
  std::uint32_t type = 0;
  if (!cursor.take(type)) return cursor.ended("the value of " + shown(key));
  if (type == GGUF_TYPE_STRING) {
    std::string_view text;
    if (!cursor.take_text(text)) return cursor.ended("the value of " + shown(key));
    return GgufValue(text);
  }
  if (type != GGUF_TYPE_ARRAY) {
    const auto size = size_of(type);
    if (size == 0)
      return invalid(fmt::format("its key {} has a value of the unknown type {}", shown(key), type));
    std::string_view bytes;
    if (!cursor.take(bytes, size)) return cursor.ended("the value of " + shown(key));
    return scalar(type, bytes.data());
  }

  GgufArray array;
  if (!cursor.take(array.type) || !cursor.take(array.count)) return cursor.ended("the array " + shown(key));
  std::string_view bytes;
  if (array.type == GGUF_TYPE_STRING) {
    // Each element is at least its length, so a count that lies is found before anything is walked.
    if (array.count > cursor.left() / sizeof(std::uint64_t)) return cursor.ended("the array " + shown(key));
    const auto begin = cursor.at();
    Cursor ahead = cursor;
    for (std::uint64_t i = 0; i < array.count; ++i) {
      if (!ahead.take_text(bytes)) return cursor.ended("the array " + shown(key));
    }
    if (!cursor.take(array.bytes, ahead.at() - begin)) return cursor.ended("the array " + shown(key));
    return GgufValue(array);
  }
  const auto size = size_of(array.type);
  if (size == 0)
    return invalid(fmt::format("its array {} has elements of the unknown type {}", shown(key), array.type));
  if (array.count > cursor.left() / size) return cursor.ended("the array " + shown(key));
  if (!cursor.take(array.bytes, array.count * size)) return cursor.ended("the array " + shown(key));
  return GgufValue(array);
}

// What the engine multiplies and divides by before it looks at it.
Result<void> check_shape(const Gguf& gguf) {
  const auto architecture = gguf.text("general.architecture");
  if (!architecture) return {};
  struct Range {
    std::string_view key;
    std::int64_t least, most;
  };
  constexpr std::array kRanges = {
      Range{"block_count", 0, 4'096},           Range{"context_length", 1, std::int64_t{1} << 31},
      Range{"embedding_length", 1, 1 << 20},    Range{"feed_forward_length", 0, 1 << 24},
      Range{"attention.head_count", 0, 16'384}, Range{"attention.head_count_kv", 0, 16'384},
      Range{"attention.key_length", 0, 65'536}, Range{"attention.value_length", 0, 65'536},
      Range{"expert_count", 0, 65'536},         Range{"expert_used_count", 0, 65'536},
      Range{"rope.dimension_count", 0, 65'536}, Range{"vocab_size", 0, 1 << 24},
  };
  for (const auto& range : kRanges) {
    const auto key = fmt::format("{}.{}", *architecture, range.key);
    const auto found = gguf.values.find(key);
    if (found == gguf.values.end()) continue;
    const auto outside = [&](std::optional<std::int64_t> n) {
      return !n || *n < range.least || *n > range.most;
    };
    bool bad = false;
    if (const auto* array = std::get_if<GgufArray>(&found->second)) {
      const auto size = size_of(array->type);
      if (size == 0 || array->count > 65'536) bad = true;
      for (std::uint64_t i = 0; !bad && i < array->count; ++i)
        bad = outside(as_integer(scalar(array->type, array->bytes.data() + i * size)));
    } else {
      bad = outside(as_integer(found->second));
    }
    if (bad)
      return invalid(fmt::format("its key {} is not between {} and {}", shown(key), range.least, range.most));
  }
  return {};
}

}  // namespace

std::optional<std::string_view> Gguf::text(std::string_view key) const {
  const auto found = values.find(key);
  if (found == values.end()) return std::nullopt;
  const auto* value = std::get_if<std::string_view>(&found->second);
  return value ? std::optional(*value) : std::nullopt;
}

std::optional<std::int64_t> Gguf::integer(std::string_view key) const {
  const auto found = values.find(key);
  return found == values.end() ? std::nullopt : as_integer(found->second);
}

std::optional<double> Gguf::real(std::string_view key) const {
  const auto found = values.find(key);
  if (found == values.end()) return std::nullopt;
  const auto* value = std::get_if<double>(&found->second);
  return value ? std::optional(*value) : std::nullopt;
}

const GgufArray* Gguf::array(std::string_view key) const {
  const auto found = values.find(key);
  return found == values.end() ? nullptr : std::get_if<GgufArray>(&found->second);
}

std::optional<std::int64_t> Gguf::largest(std::string_view key) const {
  const auto* list = array(key);
  if (!list) return integer(key);
  const auto size = size_of(list->type);
  std::optional<std::int64_t> most;
  for (std::uint64_t i = 0; size > 0 && i < list->count; ++i) {
    const auto n = as_integer(scalar(list->type, list->bytes.data() + i * size));
    if (n && (!most || *n > *most)) most = n;
  }
  return most;
}

std::optional<std::int64_t> Gguf::sum_over(std::string_view key, std::int64_t layers) const {
  const auto* list = array(key);
  if (!list) {
    const auto each = integer(key);
    return each ? std::optional(*each * layers) : std::nullopt;
  }
  const auto size = size_of(list->type);
  std::int64_t sum = 0;
  for (std::uint64_t i = 0; size > 0 && i < list->count && static_cast<std::int64_t>(i) < layers; ++i) {
    sum += as_integer(scalar(list->type, list->bytes.data() + i * size)).value_or(0);
  }
  return sum;
}

Result<Gguf> read_gguf(std::string_view head, std::uint64_t file_size) {
  static_assert(std::endian::native == std::endian::little, "GGUF is read as it stands in memory");
  Cursor cursor(head, file_size);
  Gguf gguf;

  std::string_view magic;
  if (!cursor.take(magic, 4)) return invalid(fmt::format("it has {} bytes: it is no model", file_size));
  if (magic != GGUF_MAGIC)
    return invalid(fmt::format("it begins with {} instead of 'GGUF': it is no GGUF file", shown(magic)));
  std::uint64_t tensor_count = 0, key_count = 0;
  if (!cursor.take(gguf.version) || !cursor.take(tensor_count) || !cursor.take(key_count))
    return cursor.ended("its header");
  if (gguf.version < 2 || gguf.version > GGUF_VERSION) {
    return invalid(
        fmt::format("it is of GGUF version {}, the engine reads 2 to {}", gguf.version, GGUF_VERSION));
  }
  if (key_count > std::min(kMostKeys, cursor.left() / kSmallestKey)) {
    return invalid(fmt::format("it claims {} keys, more than it can hold", key_count));
  }
  if (tensor_count > std::min(kMostTensors, cursor.left() / kSmallestTensor)) {
    return invalid(fmt::format("it claims {} tensors, more than it can hold", tensor_count));
  }

  gguf.values.reserve(key_count);
  for (std::uint64_t i = 0; i < key_count; ++i) {
    std::string_view key;
    if (!cursor.take_text(key)) return cursor.ended(fmt::format("its key {} of {}", i + 1, key_count));
    if (key.empty() || key.size() > kLongestKey)
      return invalid(fmt::format("its key {} has {} bytes", i + 1, key.size()));
    LM_TRY(auto value, read_value(cursor, key));
    if (!gguf.values.emplace(key, value).second) return invalid("its key " + shown(key) + " comes twice");
  }

  std::uint64_t alignment = GGUF_DEFAULT_ALIGNMENT;
  if (gguf.values.contains(GGUF_KEY_GENERAL_ALIGNMENT)) {
    const auto given = gguf.integer(GGUF_KEY_GENERAL_ALIGNMENT).value_or(0);
    if (given < 1 || given > (1 << 20) || !std::has_single_bit(static_cast<std::uint64_t>(given))) {
      return invalid(fmt::format("its alignment {} is no power of two", given));
    }
    alignment = static_cast<std::uint64_t>(given);
  }
  LM_TRY_VOID(check_shape(gguf));

  gguf.tensors.reserve(tensor_count);
  std::unordered_set<std::string_view> names;
  names.reserve(tensor_count);
  // Tensors lie one after the other, each padded; `end` is where the next must begin, counted from the data's
  // begin.
  std::uint64_t end = 0;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 62;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor tensor;
    const auto where = [&] { return fmt::format("its tensor {} of {}", i + 1, tensor_count); };
    if (!cursor.take_text(tensor.name)) return cursor.ended(where());
    if (tensor.name.empty() || tensor.name.size() >= GGML_MAX_NAME) {
      return invalid(fmt::format("{} has a name of {} bytes", where(), tensor.name.size()));
    }
    if (!names.insert(tensor.name).second)
      return invalid("its tensor " + shown(tensor.name) + " comes twice");
    std::uint32_t dimensions = 0;
    if (!cursor.take(dimensions)) return cursor.ended(where());
    if (dimensions > GGML_MAX_DIMS)
      return invalid(fmt::format("its tensor {} has {} dimensions", shown(tensor.name), dimensions));
    std::uint64_t elements = 1, first = 1;
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      std::uint64_t n = 0;
      if (!cursor.take(n)) return cursor.ended(where());
      if (n == 0 || n > kMost || elements > kMost / n) {
        return invalid(fmt::format("its tensor {} has an impossible shape", shown(tensor.name)));
      }
      elements *= n;
      if (d == 0) first = n;
    }
    std::uint64_t offset = 0;
    if (!cursor.take(tensor.type) || !cursor.take(offset)) return cursor.ended(where());
    const bool known = tensor.type < GGML_TYPE_COUNT &&
                       ggml_blck_size(static_cast<ggml_type>(tensor.type)) > 0 &&
                       ggml_type_size(static_cast<ggml_type>(tensor.type)) > 0;
    if (!known)
      return invalid(fmt::format("its tensor {} is of the unknown type {}", shown(tensor.name), tensor.type));
    const auto block = static_cast<std::uint64_t>(ggml_blck_size(static_cast<ggml_type>(tensor.type)));
    const auto block_bytes = static_cast<std::uint64_t>(ggml_type_size(static_cast<ggml_type>(tensor.type)));
    if (first % block != 0)
      return invalid(fmt::format("the rows of its tensor {} are no whole blocks", shown(tensor.name)));
    if (elements / block > kMost / block_bytes)
      return invalid(fmt::format("its tensor {} has an impossible shape", shown(tensor.name)));
    tensor.elements = static_cast<std::int64_t>(elements);
    tensor.rows = static_cast<std::int64_t>(elements / first);
    tensor.bytes = elements / block * block_bytes;
    if (offset != end)
      return invalid(
          fmt::format("its tensor {} begins at {} instead of {}", shown(tensor.name), offset, end));
    const auto padded = (tensor.bytes + alignment - 1) / alignment * alignment;
    if (padded > kMost - end)
      return invalid(fmt::format("its tensor {} has an impossible shape", shown(tensor.name)));
    end += padded;
    gguf.tensors.push_back(tensor);
  }

  gguf.data_offset = cursor.at();
  if (tensor_count > 0) gguf.data_offset = (cursor.at() + alignment - 1) / alignment * alignment;
  // The last tensor's padding is often left out.
  const auto last =
      gguf.tensors.empty()
          ? 0
          : (gguf.tensors.back().bytes + alignment - 1) / alignment * alignment - gguf.tensors.back().bytes;
  if (gguf.data_offset > file_size || end - last > file_size - gguf.data_offset) {
    return invalid(
        fmt::format("its weights need {} bytes but it has {}: the file is truncated, fetch it again",
                    gguf.data_offset + end - last, file_size));
  }
  gguf.data_end = gguf.data_offset + end - last;
  return gguf;
}

}  // namespace lm::worker
