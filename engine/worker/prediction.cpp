#include "prediction.h"

#include <algorithm>
#include <charconv>
#include <ggml.h>
#include <limits>
#include <string>

namespace lm::worker {
namespace {

// Measured with v0.5.0: a worker with nothing loaded, and what the engine keeps for each token and merge of a
// vocabulary.
constexpr std::int64_t kProcess = std::int64_t{24} << 20;
constexpr std::int64_t kPerToken = 260;
constexpr std::int64_t kPerMerge = 200;
// What a context on a card takes of the card and of the host, whatever the model. Guesses: no card was
// measured yet (docs/gpu.md). The first load's measurement replaces them.
constexpr std::int64_t kContextOnCard = std::int64_t{512} << 20;
constexpr std::int64_t kContextOnHost = std::int64_t{192} << 20;

std::int64_t row_bytes(int type, std::int64_t elements) {
  const auto t = static_cast<ggml_type>(type);
  return static_cast<std::int64_t>(ggml_type_size(t)) * elements / ggml_blck_size(t);
}

// The sizes that everything here is made of.
struct Shape {
  std::int64_t layers = 0, width = 0, feed_forward = 0, vocabulary = 0, merges = 0;
  std::int64_t cache = 0;  // bytes of the key-value cache

  Shape(const Gguf& gguf, const EffectiveOptions& options) {
    const std::string architecture(gguf.text("general.architecture").value_or(""));
    const auto number = [&](std::string_view name, std::int64_t otherwise) {
      return gguf.largest(architecture + "." + std::string(name)).value_or(otherwise);
    };
    layers = number("block_count", 0);
    width = number("embedding_length", 0);
    feed_forward = number("feed_forward_length", 4 * width);
    const auto* tokens = gguf.array("tokenizer.ggml.tokens");
    vocabulary = tokens ? static_cast<std::int64_t>(tokens->count) : number("vocab_size", 0);
    const auto* pairs = gguf.array("tokenizer.ggml.merges");
    merges = pairs ? static_cast<std::int64_t>(pairs->count) : 0;
    if (architecture.find("bert") != std::string::npos) return;  // encoders have no cache

    const auto heads = std::max<std::int64_t>(1, number("attention.head_count", 1));
    const auto kv_heads_sum =
        gguf.sum_over(architecture + ".attention.head_count_kv", layers).value_or(heads * layers);
    const auto key_length = number("attention.key_length", width / heads);
    const auto value_length = number("attention.value_length", width / heads);
    // The cache is rounded up to 256 cells.
    const std::int64_t cells = (std::int64_t{options.context} + 255) / 256 * 256;
    cache = cells * (row_bytes(options.kv_type_k, kv_heads_sum * key_length) +
                     row_bytes(options.kv_type_v, kv_heads_sum * value_length));
  }

  // The process and its vocabulary.
  std::int64_t process() const { return kProcess + vocabulary * kPerToken + merges * kPerMerge; }
  // Activations of one micro-batch, and the mask of attention.
  std::int64_t activations(const EffectiveOptions& options) const {
    return options.micro_batch * std::int64_t{4} * (8 * width + 2 * feed_forward) +
           options.micro_batch * std::int64_t{options.context} * 4;
  }
  // The logits of every slot, and the samplers' copies of them.
  std::int64_t logits(const EffectiveOptions& options) const {
    return std::int64_t{options.parallel} * vocabulary * 4 * 4;
  }
};

std::int64_t weights_of(const Artifact* artifact) {
  std::int64_t weights = 0;
  if (artifact == nullptr) return weights;
  for (const auto& part : artifact->parts()) {
    for (const auto& tensor : part.tensors) weights += static_cast<std::int64_t>(tensor.bytes);
  }
  return weights;
}

// The number in "blk.17.attn_q.weight".
std::optional<std::int64_t> layer_of(std::string_view tensor) {
  if (!tensor.starts_with("blk.")) return std::nullopt;
  std::int64_t number = 0;
  if (std::from_chars(tensor.data() + 4, tensor.data() + tensor.size(), number).ec != std::errc())
    return std::nullopt;
  return number;
}

}  // namespace

DeviceMemory predict_on_host(const Artifact& artifact, const Artifact* projector,
                             const EffectiveOptions& options) {
  const Shape shape(artifact.first(), options);
  DeviceMemory out;
  out.device = host_device();
  (options.mmap ? out.mapped : out.weights) = Bytes(weights_of(&artifact) + weights_of(projector));
  out.context = Bytes(shape.cache);
  out.compute = Bytes(shape.process() + shape.activations(options) + shape.logits(options));
  return out;
}

std::optional<CardShare> card_of(const LoadOptions& options) {
  const std::string& name = options.device;
  const bool numbered = !name.empty() && name.back() >= '0' && name.back() <= '9';
  if (!numbered || options.gpu_layers == 0) return std::nullopt;
  return CardShare{.device = DeviceId(name), .layers = options.gpu_layers};
}

Extent extent_of(const Artifact& artifact, const Artifact* projector, const EffectiveOptions& options) {
  const Shape shape(artifact.first(), options);
  const auto output = static_cast<std::size_t>(shape.layers);
  Extent extent;
  extent.layers.resize(output + 1);
  Bytes input;
  Bytes embeddings;
  bool own_output = false;
  for (const auto& part : artifact.parts()) {
    for (const auto& tensor : part.tensors) {
      const Bytes bytes(static_cast<std::int64_t>(tensor.bytes));
      own_output |= tensor.name == "output.weight";
      if (tensor.name == "token_embd.weight") embeddings = bytes;
      if (tensor.name.starts_with("token_") || tensor.name.starts_with("position_")) {
        input += bytes;
        continue;
      }
      const auto layer = static_cast<std::size_t>(layer_of(tensor.name).value_or(shape.layers));
      extent.layers[std::min(layer, output)].weights += bytes;
    }
  }
  const bool generates = shape.cache > 0;
  if (generates && !own_output) extent.layers[output].weights += embeddings;
  for (std::size_t layer = 0; layer < output; ++layer)
    extent.layers[layer].cache = Bytes(shape.cache / shape.layers);
  extent.scratch = Bytes(shape.activations(options));
  // Logits are made for a whole micro-batch where it is reserved for the worst.
  extent.output_scratch = Bytes(std::int64_t{options.micro_batch} * shape.vocabulary * 4);
  extent.first = Bytes(weights_of(projector));
  extent.device_context = Bytes(kContextOnCard);
  extent.host = Bytes(shape.process() + shape.logits(options));
  if (!options.mmap) extent.host += input;
  extent.host_with_cards = Bytes(kContextOnHost);
  extent.host_scratch = extent.scratch;
  extent.mapped = options.mmap;
  return extent;
}

std::vector<DeviceMemory> predict_on_card(const Artifact& artifact, const Artifact* projector,
                                          const EffectiveOptions& options, const CardShare& card) {
  const Shape shape(artifact.first(), options);
  // As the engine counts: the output is the layer after the last, and the first to go.
  const std::int64_t wanted =
      card.layers && *card.layers >= 0 ? *card.layers : std::numeric_limits<int>::max();
  const std::int64_t first_on_card = std::max<std::int64_t>(0, shape.layers + 1 - wanted);

  std::int64_t on_card = weights_of(projector);
  std::int64_t on_host = 0;
  std::int64_t embeddings = 0;
  bool own_output = false;
  for (const auto& part : artifact.parts()) {
    for (const auto& tensor : part.tensors) {
      const auto bytes = static_cast<std::int64_t>(tensor.bytes);
      const bool input = tensor.name.starts_with("token_") || tensor.name.starts_with("position_");
      const bool there = !input && layer_of(tensor.name).value_or(shape.layers) >= first_on_card;
      (there ? on_card : on_host) += bytes;
      if (tensor.name == "token_embd.weight") embeddings = bytes;
      own_output |= tensor.name == "output.weight";
    }
  }
  const bool generates = shape.cache > 0;
  if (generates && !own_output) on_card += embeddings;
  const std::int64_t layers_on_card = std::max<std::int64_t>(0, shape.layers - first_on_card);
  const std::int64_t cache_on_card = shape.layers > 0 ? shape.cache / shape.layers * layers_on_card : 0;

  DeviceMemory host;
  host.device = host_device();
  (options.mmap ? host.mapped : host.weights) = Bytes(on_host);
  host.context = Bytes(shape.cache - cache_on_card);
  host.compute = Bytes(shape.process() + kContextOnHost + shape.logits(options) +
                       (first_on_card > 0 ? shape.activations(options) : 0));
  DeviceMemory there;
  there.device = card.device;
  there.weights = Bytes(on_card);
  there.context = Bytes(cache_on_card);
  // Logits are made for a whole micro-batch where it is reserved for the worst.
  there.compute = Bytes(kContextOnCard + shape.activations(options) +
                        std::int64_t{options.micro_batch} * shape.vocabulary * 4);
  return {std::move(host), std::move(there)};
}

}  // namespace lm::worker
