#include "prediction.h"

#include <algorithm>
#include <ggml.h>
#include <string>

namespace lm::worker {
namespace {

// Measured with v0.5.0: a worker with nothing loaded, and what the engine keeps for each token and merge of a
// vocabulary.
constexpr std::int64_t kProcess = std::int64_t{24} << 20;
constexpr std::int64_t kPerToken = 260;
constexpr std::int64_t kPerMerge = 200;

}  // namespace

DeviceMemory predict_on_host(const Artifact& artifact, const Artifact* projector,
                             const EffectiveOptions& options) {
  const auto& gguf = artifact.first();
  const std::string architecture(gguf.text("general.architecture").value_or(""));
  const auto number = [&](std::string_view name, std::int64_t otherwise) {
    return gguf.largest(architecture + "." + std::string(name)).value_or(otherwise);
  };

  std::int64_t weights = 0;
  for (const auto* each : {&artifact, projector}) {
    if (each == nullptr) continue;
    for (const auto& part : each->parts()) {
      for (const auto& tensor : part.tensors) weights += static_cast<std::int64_t>(tensor.bytes);
    }
  }

  const auto layers = number("block_count", 0);
  const auto width = number("embedding_length", 0);
  const auto heads = std::max<std::int64_t>(1, number("attention.head_count", 1));
  const auto kv_heads_sum =
      gguf.sum_over(architecture + ".attention.head_count_kv", layers).value_or(heads * layers);
  const auto key_length = number("attention.key_length", width / heads);
  const auto value_length = number("attention.value_length", width / heads);
  const auto row = [](int type, std::int64_t elements) {
    const auto t = static_cast<ggml_type>(type);
    return static_cast<std::int64_t>(ggml_type_size(t)) * elements / ggml_blck_size(t);
  };

  DeviceMemory out;
  out.device = host_device();
  (options.mmap ? out.mapped : out.weights) = Bytes(weights);
  const bool keeps_nothing = architecture.find("bert") != std::string::npos;  // encoders have no cache
  if (!keeps_nothing) {
    // The cache is rounded up to 256 cells.
    const std::int64_t cells = (std::int64_t{options.context} + 255) / 256 * 256;
    out.context = Bytes(cells * (row(options.kv_type_k, kv_heads_sum * key_length) +
                                 row(options.kv_type_v, kv_heads_sum * value_length)));
  }

  const auto* tokens = gguf.array("tokenizer.ggml.tokens");
  const auto* merges = gguf.array("tokenizer.ggml.merges");
  const auto vocabulary = tokens ? static_cast<std::int64_t>(tokens->count) : number("vocab_size", 0);
  const auto feed_forward = number("feed_forward_length", 4 * width);
  std::int64_t scratch = kProcess;
  scratch += vocabulary * kPerToken + (merges ? static_cast<std::int64_t>(merges->count) * kPerMerge : 0);
  // Activations of one micro-batch, the mask of attention, the logits of every slot and the samplers' copies
  // of them.
  scratch += options.micro_batch * std::int64_t{4} * (8 * width + 2 * feed_forward);
  scratch += options.micro_batch * std::int64_t{options.context} * 4;
  scratch += std::int64_t{options.parallel} * vocabulary * 4 * 4;
  out.compute = Bytes(scratch);
  return out;
}

}  // namespace lm::worker
