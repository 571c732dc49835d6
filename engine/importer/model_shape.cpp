#include "model_shape.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

constexpr std::int64_t kMostLayers = 1'024;
constexpr std::int64_t kWidest = std::int64_t{1} << 20;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;
constexpr std::int64_t kLongestContext = std::int64_t{1} << 30;

Result<std::int64_t> number(const json::value& config, std::string_view key, std::int64_t most,
                            std::optional<std::int64_t> otherwise = {}) {
  const auto* there = member(config, key);
  if (there == nullptr && otherwise) return *otherwise;
  if (there == nullptr) return refuse(fmt::format("config.json has no {}", key));
  const auto n = as_integer(*there);
  if (!n || *n < 0 || *n > most)
    return refuse(fmt::format("config.json: {} is not between 0 and {}", key, most));
  return *n;
}

Result<double> real(const json::value& config, std::string_view key, double least, double most,
                    std::optional<double> otherwise) {
  const auto* there = member(config, key);
  if (there == nullptr && otherwise) return *otherwise;
  const auto x = real_at(config, key);
  if (!x || !(*x >= least && *x <= most))
    return refuse(fmt::format("config.json: {} is not between {} and {}", key, least, most));
  return *x;
}

// Transformers wrote rope_scaling beside rope_theta, and from version 5 on rope_parameters with both in it.
Result<void> read_rope(const json::value& config, ModelShape& shape) {
  const auto* parameters = member(config, "rope_parameters");
  const json::value& base =
      parameters != nullptr && member(*parameters, "rope_theta") != nullptr ? *parameters : config;
  LM_TRY(shape.rope_base, real(base, "rope_theta", 1, 1e12, 10'000));
  const auto* scaling = parameters != nullptr ? parameters : member(config, "rope_scaling");
  if (scaling == nullptr) return {};
  const auto kind = text_at(*scaling, "rope_type").value_or(text_at(*scaling, "type").value_or("default"));
  if (kind == "default") return {};
  auto& rope = shape.rope;
  if (kind == "linear") {
    rope.kind = RopeScaling::Kind::kLinear;
  } else if (kind == "yarn") {
    rope.kind = RopeScaling::Kind::kYarn;
  } else if (kind == "llama3") {
    rope.kind = RopeScaling::Kind::kLlama3;
  } else {
    return unsupported(
        fmt::format("config.json: rope scaling {} is not imported; default, linear, yarn and llama3 are",
                    in_quotes(kind)));
  }
  LM_TRY(rope.factor, real(*scaling, "factor", 1e-3, 1e6, std::nullopt));
  LM_TRY(rope.original_context,
         number(*scaling, "original_max_position_embeddings", kLongestContext, shape.context));
  LM_TRY(rope.low_frequency_factor, real(*scaling, "low_freq_factor", 1e-3, 1e6, 1));
  LM_TRY(rope.high_frequency_factor, real(*scaling, "high_freq_factor", 1e-3, 1e6, 4));
  if (rope.kind == RopeScaling::Kind::kLlama3 && rope.low_frequency_factor >= rope.high_frequency_factor)
    return refuse("config.json: low_freq_factor is not below high_freq_factor");
  rope.attention_factor = real_at(*scaling, "attention_factor");
  rope.beta_fast = real_at(*scaling, "beta_fast");
  rope.beta_slow = real_at(*scaling, "beta_slow");
  return {};
}

}  // namespace

Result<ModelShape> read_shape(const json::value& config) {
  ModelShape shape;
  const auto type = text_at(config, "model_type");
  if (!type) return refuse("config.json has no model_type");
  shape.model_type = std::string(*type);
  if (const auto* classes = array_at(config, "architectures"); classes != nullptr && !classes->empty()) {
    if (const auto* first = classes->front().if_string()) shape.class_name = std::string(*first);
  }
  LM_TRY(shape.layers, number(config, "num_hidden_layers", kMostLayers));
  LM_TRY(shape.width, number(config, "hidden_size", kWidest));
  LM_TRY(shape.feed_forward, number(config, "intermediate_size", kWidest * 4));
  LM_TRY(shape.heads, number(config, "num_attention_heads", kWidest));
  LM_TRY(shape.vocabulary, number(config, "vocab_size", kMostTokens));
  LM_TRY(shape.context, number(config, "max_position_embeddings", kLongestContext));
  for (const auto& [n, name] : {std::pair(shape.layers, "num_hidden_layers"),
                                {shape.width, "hidden_size"},
                                {shape.feed_forward, "intermediate_size"},
                                {shape.heads, "num_attention_heads"},
                                {shape.vocabulary, "vocab_size"},
                                {shape.context, "max_position_embeddings"}}) {
    if (n == 0) return refuse(fmt::format("config.json: {} is 0", name));
  }
  LM_TRY(shape.kv_heads, number(config, "num_key_value_heads", kWidest, shape.heads));
  if (shape.kv_heads == 0 || shape.heads % shape.kv_heads != 0)
    return refuse("config.json: num_attention_heads is no multiple of num_key_value_heads");
  if (member(config, "head_dim") == nullptr && shape.width % shape.heads != 0)
    return refuse("config.json: hidden_size is no multiple of num_attention_heads");
  LM_TRY(shape.head, number(config, "head_dim", 65'536, shape.width / shape.heads));
  if (shape.head == 0 || shape.heads > kWidest / shape.head)
    return refuse("config.json: head_dim is out of its range");
  LM_TRY(shape.token_types, number(config, "type_vocab_size", 1'024, 0));
  // -1 where there is none.
  shape.padding_token =
      std::clamp<std::int64_t>(integer_at(config, "pad_token_id").value_or(0), 0, kMostTokens);
  LM_TRY(shape.norm_epsilon,
         real(config, member(config, "rms_norm_eps") != nullptr ? "rms_norm_eps" : "layer_norm_eps", 0, 1,
              std::nullopt));
  LM_TRY_VOID(read_rope(config, shape));
  // Qwen2 writes a window that it does not use.
  if (flag_at(config, "use_sliding_window").value_or(true)) {
    LM_TRY(const auto window, number(config, "sliding_window", kLongestContext, 0));
    if (window > 0) shape.sliding_window = window;
  }
  shape.tied = flag_at(config, "tie_word_embeddings").value_or(false);
  shape.activation = std::string(text_at(config, "hidden_act").value_or(""));
  return shape;
}

}  // namespace lm::importer
