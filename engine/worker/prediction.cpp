#include "prediction.h"

#include <algorithm>
#include <charconv>
#include <ggml.h>
#include <limits>
#include <string>
#include <vector>

namespace lm::worker {
namespace {

// Measured with v0.5.0: what the engine keeps for each token and merge of a vocabulary. The process itself is
// the manager's to add.
constexpr std::int64_t kPerToken = 170;
constexpr std::int64_t kPerMerge = 120;
// Of a cache its cells, and of a sliding window's.
constexpr std::int64_t kCells = 256;
// What a context on a card takes of the card and of the host, whatever the model. Guesses: no card was
// measured yet (docs/gpu.md). The first load's measurement replaces them.
constexpr std::int64_t kContextOnCard = std::int64_t{512} << 20;
constexpr std::int64_t kContextOnHost = std::int64_t{192} << 20;
// Of a model that is cut over devices the engine keeps so many of everything that one part of it hands to
// another, so that they can work at different batches at the same time.
constexpr std::int64_t kCopies = 4;

std::int64_t row_bytes(int type, std::int64_t elements) {
  const auto t = static_cast<ggml_type>(type);
  return static_cast<std::int64_t>(ggml_type_size(t)) * elements / ggml_blck_size(t);
}

// The sizes that everything here is made of.
struct Shape {
  std::int64_t layers = 0, width = 0, feed_forward = 0, vocabulary = 0, merges = 0;
  std::int64_t cache = 0;            // bytes of the key-value cache
  std::vector<std::int64_t> caches;  // of each layer
  std::int64_t window_cells = 0;     // of the layers that look back a window; 0: none does
  std::int64_t heads_width = 0;      // of a layer's keys or values, where those are the widest
  bool encodes = false;              // BERT and its kin: no cache, no gate in its layers

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
    encodes = architecture.find("bert") != std::string::npos;
    caches.resize(static_cast<std::size_t>(std::max<std::int64_t>(0, layers)));
    if (encodes) return;

    const auto heads = std::max<std::int64_t>(1, number("attention.head_count", 1));
    const auto kv_heads_sum =
        gguf.sum_over(architecture + ".attention.head_count_kv", layers).value_or(heads * layers);
    const auto key_length = number("attention.key_length", width / heads);
    const auto value_length = number("attention.value_length", width / heads);
    heads_width = kv_heads_sum / std::max<std::int64_t>(1, layers) * std::max(key_length, value_length);
    const std::int64_t cells = padded(options.context);
    const std::int64_t a_cell = row_bytes(options.kv_type_k, kv_heads_sum * key_length) +
                                row_bytes(options.kv_type_v, kv_heads_sum * value_length);
    // Every so many layers one that sees everything; of other architectures all are taken to, which is too
    // much rather than too little.
    const std::int64_t period = architecture == "gemma2" ? 2 : architecture == "gemma3" ? 6 : 0;
    const auto window = number("attention.sliding_window", 0);
    if (period > 0 && window > 0) {
      const std::int64_t seen = window * (options.unified ? options.parallel : 1) + options.micro_batch;
      window_cells = padded(std::min<std::int64_t>(options.context, seen));
    }
    for (std::int64_t layer = 0; layer < layers; ++layer) {
      const bool sees_all = window_cells == 0 || layer % period == period - 1;
      auto& own = caches[static_cast<std::size_t>(layer)];
      own = (sees_all ? cells : window_cells) * a_cell / layers;
      cache += own;
    }
  }

  static std::int64_t padded(std::int64_t cells) { return (cells + kCells - 1) / kCells * kCells; }

  // What the engine keeps of the vocabulary.
  std::int64_t words() const { return vocabulary * kPerToken + merges * kPerMerge; }
  // The masks of attention for one micro-batch, half a float for each cell.
  std::int64_t masks(const EffectiveOptions& options) const {
    return options.micro_batch * (std::int64_t{options.context} + window_cells) * 2;
  }
  // So many numbers for each token of a micro-batch. What follows was fitted to the engine's account of
  // twelve shapes (docs/memory_model.md): it is exact for those.
  std::int64_t of_each_token(const EffectiveOptions& options, std::int64_t numbers) const {
    return options.micro_batch * std::int64_t{4} * numbers;
  }
  // Where layers are computed: what is alive at the same time of one with a gate, or of an encoder's.
  std::int64_t work(const EffectiveOptions& options) const {
    return of_each_token(options, encodes ? 2 * width + feed_forward : 3 * (width + feed_forward));
  }
  // Of the last layer alone: behind its attention only the rows go on that have an output.
  std::int64_t last_work(const EffectiveOptions& options) const {
    return encodes ? work(options)
                   : std::min(work(options), of_each_token(options, 4 * width + 2 * heads_width));
  }
  // On the one device that computes all of it.
  std::int64_t activations(const EffectiveOptions& options) const {
    return std::max(work(options), logits(options)) + masks(options);
  }
  // On the host, of a model that is computed elsewhere: its input, twice, and the masks.
  std::int64_t input(const EffectiveOptions& options) const {
    return of_each_token(options, (encodes ? 3 : 2) * width) + masks(options);
  }
  // The logits of every slot, for its sampler.
  std::int64_t logits(const EffectiveOptions& options) const {
    return std::int64_t{options.parallel} * vocabulary * 4;
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
  out.compute = Bytes(shape.words() + shape.activations(options) + shape.of_each_token(options, shape.width) +
                      shape.logits(options));
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
    extent.layers[layer].cache = Bytes(shape.caches[layer]);
  extent.scratch = Bytes(shape.work(options));
  extent.last_scratch = Bytes(shape.last_work(options));
  extent.inputs = Bytes(shape.masks(options));
  extent.output_scratch = Bytes(shape.logits(options));
  const std::int64_t handed_on = shape.of_each_token(options, shape.width);
  extent.pipelined = Bytes((kCopies - 1) * shape.masks(options) + kCopies * handed_on);
  extent.host_pipelined = Bytes((kCopies - 1) * (shape.masks(options) + handed_on));
  extent.first = Bytes(weights_of(projector));
  extent.device_context = Bytes(kContextOnCard);
  extent.host = Bytes(shape.words() + shape.logits(options) + shape.input(options));
  if (!options.mmap) extent.host += input;
  extent.host_with_cards = Bytes(kContextOnHost);
  extent.host_scratch = Bytes(shape.activations(options));
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
  std::int64_t cache_on_card = 0;
  for (std::int64_t i = shape.layers - layers_on_card; i < shape.layers; ++i)
    cache_on_card += shape.caches[static_cast<std::size_t>(i)];

  DeviceMemory host;
  host.device = host_device();
  (options.mmap ? host.mapped : host.weights) = Bytes(on_host);
  host.context = Bytes(shape.cache - cache_on_card);
  host.compute = Bytes(shape.words() + kContextOnHost + shape.logits(options) + shape.input(options) +
                       (first_on_card > 0 ? shape.activations(options) : 0));
  DeviceMemory there;
  there.device = card.device;
  there.weights = Bytes(on_card);
  there.context = Bytes(cache_on_card);
  there.compute = Bytes(kContextOnCard + shape.activations(options));
  return {std::move(host), std::move(there)};
}

}  // namespace lm::worker
