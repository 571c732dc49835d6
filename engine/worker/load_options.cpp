#include "load_options.h"

#include <algorithm>
#include <array>
#include <ggml.h>
#include <string>

#include <fmt/format.h>

namespace lm::worker {
namespace {

// What conversations of today need, at a size that a laptop has; explicit settings go beyond.
constexpr int kContext = 8'192;
constexpr int kSlots = 4;
// The engine sees a client's disconnect at batch borders, and a host takes seconds for 2048 tokens.
constexpr int kHostBatch = 512;
constexpr int kDeviceBatch = 2'048;
// Read within milliseconds.
constexpr std::uint64_t kMostPadding = std::uint64_t{16} << 20;

std::unexpected<Error> illegal(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message), "invalid_options");
}

}  // namespace

LoadOptions for_file(LoadOptions wanted, std::uint64_t padding) {
  if (padding > kMostPadding) wanted.mmap = false;
  return wanted;
}

Result<EffectiveOptions> choose_options(const LoadOptions& wanted, ModelKind kind, int context_train,
                                        bool on_host) {
  EffectiveOptions out;
  const auto within = [](const std::optional<int>& value, int least, int most) {
    return !value || (*value >= least && *value <= most);
  };
  if (!within(wanted.context, 8, 1 << 28))
    return illegal(fmt::format("context {} is not between 8 and {} tokens", *wanted.context, 1 << 28));
  if (!within(wanted.parallel, 1, 256))
    return illegal(fmt::format("parallel {} is not between 1 and 256 slots", *wanted.parallel));
  if (!within(wanted.batch, 1, 1 << 20))
    return illegal(fmt::format("batch {} is not between 1 and {} tokens", *wanted.batch, 1 << 20));
  if (!within(wanted.threads, 1, 512))
    return illegal(fmt::format("threads {} is not between 1 and 512", *wanted.threads));

  const int trained = context_train > 0 ? context_train : kContext;
  out.parallel = wanted.parallel.value_or(kSlots);
  out.context = wanted.context.value_or(std::min(trained, kContext));
  out.unified = out.parallel > 1;
  out.mmap = wanted.mmap;
  if (kind == ModelKind::kGeneration) {
    out.batch = std::min(wanted.batch.value_or(on_host ? kHostBatch : kDeviceBatch), out.context);
    out.micro_batch = std::min(out.batch, 512);
  } else {
    // An encoder sees a whole text at once, so the longest text is the micro-batch.
    out.batch = std::min(wanted.batch.value_or(std::min(trained, 2'048)), out.context);
    out.micro_batch = out.batch;
  }

  out.kv_type_k = out.kv_type_v = GGML_TYPE_F16;
  if (!wanted.kv_type.empty()) {
    constexpr std::array kTypes = {GGML_TYPE_F32,    GGML_TYPE_F16,  GGML_TYPE_BF16,
                                   GGML_TYPE_Q8_0,   GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                   GGML_TYPE_IQ4_NL, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1};
    const auto found =
        std::ranges::find_if(kTypes, [&](ggml_type type) { return wanted.kv_type == ggml_type_name(type); });
    if (found == kTypes.end()) {
      return illegal(fmt::format(
          "kv_type '{}' is none of f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1", wanted.kv_type));
    }
    out.kv_type_k = out.kv_type_v = *found;
  }
  return out;
}

}  // namespace lm::worker
