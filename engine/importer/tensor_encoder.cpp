#include "tensor_encoder.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <thread>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

// Weights in one part: 16 MB as floats on the way, so that the whole stays small beside the model.
constexpr std::int64_t kPart = std::int64_t{4} << 20;
// Below, a thread costs more than it brings.
constexpr std::int64_t kWorthAThread = std::int64_t{1} << 16;

// One row as floats; the source may begin at any byte.
void widen(const char* from, WeightType type, std::int64_t count, float* to) {
  const auto n = static_cast<std::size_t>(count);
  switch (type) {
    case WeightType::kF32:
      std::memcpy(to, from, n * sizeof(float));
      return;
    case WeightType::kBf16:
      for (std::size_t i = 0; i < n; ++i) {
        std::uint16_t half = 0;
        std::memcpy(&half, from + 2 * i, sizeof half);
        const std::uint32_t bits = std::uint32_t{half} << 16;
        std::memcpy(to + i, &bits, sizeof bits);
      }
      return;
    default:
      if (reinterpret_cast<std::uintptr_t>(from) % alignof(ggml_fp16_t) == 0) {
        ggml_fp16_to_fp32_row(reinterpret_cast<const ggml_fp16_t*>(from), to, count);
        return;
      }
      for (std::size_t i = 0; i < n; ++i) {
        ggml_fp16_t half = 0;
        std::memcpy(&half, from + 2 * i, sizeof half);
        to[i] = ggml_fp16_to_fp32(half);
      }
  }
}

// Neither infinite nor beyond what `type` holds. Without a branch in the loop, so that it is vectorised.
bool fits(const float* values, std::int64_t count, ggml_type type) {
  // Scales of blocks are half precision numbers too; no trained weight is anywhere near.
  const float most = type == GGML_TYPE_F32 || type == GGML_TYPE_BF16 ? 3.0e38f : 65'504.0f;
  int outside = 0;
  for (std::int64_t i = 0; i < count; ++i) outside |= !(std::fabs(values[i]) <= most);
  return outside == 0;
}

void narrow(const float* from, ggml_type type, std::int64_t rows, std::int64_t columns, char* to) {
  const auto count = rows * columns;
  switch (type) {
    case GGML_TYPE_F32:
      std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
      return;
    case GGML_TYPE_F16:
      ggml_fp32_to_fp16_row(from, reinterpret_cast<ggml_fp16_t*>(to), count);
      return;
    case GGML_TYPE_BF16:
      ggml_fp32_to_bf16_row(from, reinterpret_cast<ggml_bf16_t*>(to), count);
      return;
    default:
      ggml_quantize_chunk(type, from, to, 0, rows, columns, nullptr);
  }
}

}  // namespace

TensorEncoder::TensorEncoder(const ModelShape& shape, int threads)
    : shape_(shape), threads_(std::max(1, threads)), floats_(static_cast<std::size_t>(threads_)) {}

Result<void> TensorEncoder::encode(const PlannedTensor& tensor,
                                   const std::function<Result<void>(std::span<const char>)>& write) {
  if (tensor.source == nullptr) {
    return write({reinterpret_cast<const char*>(tensor.values.data()), tensor.values.size() * sizeof(float)});
  }
  // A vector of a rotated order is a column of single weights.
  const bool vector = tensor.shape.size() == 1;
  const bool by_element = vector && tensor.order != Rows::kSame;
  const std::int64_t columns = by_element ? 1 : tensor.columns();
  const std::int64_t rows = by_element ? tensor.columns() : tensor.rows();
  const auto& source = *tensor.source;
  const auto bytes = source.bytes();
  const auto row_bytes = static_cast<std::int64_t>(size_of(source.type)) * columns;
  const auto out_bytes = static_cast<std::int64_t>(ggml_row_size(tensor.type, columns));

  const auto in_part = std::clamp<std::int64_t>(kPart / columns, 1, rows);
  out_.resize(static_cast<std::size_t>(in_part * out_bytes));
  ggml_quantize_init(tensor.type);
  std::atomic<bool> bad = false;
  const auto work = [&](std::size_t thread, std::int64_t begin, std::int64_t end, std::int64_t part) {
    // A few rows at a time stay in the processor's cache.
    const auto at_once = std::clamp<std::int64_t>((std::int64_t{1} << 15) / columns, 1, end - begin);
    auto& floats = floats_[thread];
    floats.resize(static_cast<std::size_t>(at_once * columns));
    for (auto row = begin; row < end; row += at_once) {
      const auto count = std::min(at_once, end - row);
      for (std::int64_t i = 0; i < count; ++i) {
        const auto from = source_row(tensor.order, row + i, shape_);
        widen(bytes.data() + from * row_bytes, source.type, columns, floats.data() + i * columns);
      }
      if (!fits(floats.data(), count * columns, tensor.type)) bad = true;
      narrow(floats.data(), tensor.type, count, columns, out_.data() + (row - part) * out_bytes);
    }
  };

  for (std::int64_t part = 0; part < rows && !bad; part += in_part) {
    const auto end = std::min(rows, part + in_part);
    const auto threads = std::clamp<std::int64_t>((end - part) * columns / kWorthAThread, 1, threads_);
    {
      std::vector<std::jthread> others;
      const auto share = (end - part + threads - 1) / threads;
      for (std::int64_t i = 1; i < threads; ++i) {
        const auto begin = std::min(end, part + i * share);
        if (begin < end)
          others.emplace_back(work, static_cast<std::size_t>(i), begin, std::min(end, begin + share), part);
      }
      work(0, part, std::min(end, part + share), part);
    }
    // Rows move within their head only, so that what lies behind is not needed again.
    const auto first = source_row(Rows::kSame, part, shape_) * row_bytes;
    source.file->release(source.begin + static_cast<std::uint64_t>(first),
                         static_cast<std::uint64_t>((end - part) * row_bytes));
    if (bad) break;
    LM_TRY_VOID(write({out_.data(), static_cast<std::size_t>((end - part) * out_bytes)}));
  }
  if (!bad) return {};
  return refuse(fmt::format("the tensor {} holds weights that are no numbers, or too large for {}",
                            tensor.name, ggml_type_name(tensor.type)));
}

}  // namespace lm::importer
