#include "gguf_header.h"

#include <gguf.h>
#include <memory>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

namespace lm::importer {
namespace {

class Keys {
 public:
  explicit Keys(std::string architecture)
      : gguf_(gguf_init_empty(), gguf_free), architecture_(std::move(architecture)) {}

  gguf_context* get() { return gguf_.get(); }

  // A key that begins with a dot is the architecture's own.
  void set(std::string_view key, std::string_view value) {
    gguf_set_val_str(get(), full(key).c_str(), std::string(value).c_str());
  }
  void set(std::string_view key, const char* value) { set(key, std::string_view(value)); }
  void set(std::string_view key, bool value) { gguf_set_val_bool(get(), full(key).c_str(), value); }
  void set(std::string_view key, double value) {
    gguf_set_val_f32(get(), full(key).c_str(), static_cast<float>(value));
  }
  template <class Integer>
    requires std::is_integral_v<Integer>
  void set(std::string_view key, Integer value) {
    gguf_set_val_u32(get(), full(key).c_str(), static_cast<std::uint32_t>(value));
  }
  template <class T>
  void set(std::string_view key, const std::optional<T>& value) {
    if (value) set(key, *value);
  }
  void set(std::string_view key, const std::vector<std::string>& texts) {
    std::vector<const char*> pointers;
    pointers.reserve(texts.size());
    for (const auto& text : texts) pointers.push_back(text.c_str());
    gguf_set_arr_str(get(), full(key).c_str(), pointers.data(), pointers.size());
  }
  void set(std::string_view key, gguf_type type, const void* data, std::size_t count) {
    gguf_set_arr_data(get(), full(key).c_str(), type, data, count);
  }

 private:
  std::string full(std::string_view key) const {
    return key.starts_with('.') ? architecture_ + std::string(key) : std::string(key);
  }

  std::unique_ptr<gguf_context, decltype(&gguf_free)> gguf_;
  std::string architecture_;
};

void set_shape(Keys& keys, const Plan& plan) {
  const auto& shape = plan.shape;
  keys.set(".block_count", shape.layers);
  keys.set(".embedding_length", shape.width);
  keys.set(".feed_forward_length", shape.feed_forward);
  keys.set(".attention.head_count", shape.heads);
  if (plan.pooling) keys.set(".pooling_type", static_cast<std::uint32_t>(*plan.pooling));
  if (plan.architecture->family == Family::kEncoder) {
    keys.set(".context_length", length_of(Dimension::kPositions, shape, *plan.architecture));
    keys.set(".attention.layer_norm_epsilon", shape.norm_epsilon);
    keys.set(".attention.causal", false);
    return;
  }
  keys.set(".context_length", shape.context);
  keys.set(".vocab_size", shape.vocabulary);
  keys.set(".attention.head_count_kv", shape.kv_heads);
  keys.set(".attention.key_length", shape.head);
  keys.set(".attention.value_length", shape.head);
  keys.set(".attention.layer_norm_rms_epsilon", shape.norm_epsilon);
  keys.set(".rope.dimension_count", shape.head);
  keys.set(".rope.freq_base", shape.rope_base);
  const auto& rope = shape.rope;
  if (rope.kind != RopeScaling::Kind::kLinear && rope.kind != RopeScaling::Kind::kYarn) return;
  keys.set(".rope.scaling.type", rope.kind == RopeScaling::Kind::kLinear ? "linear" : "yarn");
  keys.set(".rope.scaling.factor", rope.factor);
  if (rope.kind == RopeScaling::Kind::kLinear) return;
  keys.set(".rope.scaling.original_context_length", rope.original_context);
  keys.set(".rope.scaling.yarn_attn_factor", rope.attention_factor);
  keys.set(".rope.scaling.yarn_beta_fast", rope.beta_fast);
  keys.set(".rope.scaling.yarn_beta_slow", rope.beta_slow);
}

void set_tokenizer(Keys& keys, const Plan& plan) {
  const auto& tokenizer = plan.tokenizer;
  keys.set("tokenizer.ggml.model", tokenizer.model);
  keys.set("tokenizer.ggml.pre", tokenizer.pre);
  keys.set("tokenizer.ggml.tokens", tokenizer.tokens);
  static_assert(sizeof(TokenKind) == sizeof(std::int32_t));
  keys.set("tokenizer.ggml.token_type", GGUF_TYPE_INT32, tokenizer.kinds.data(), tokenizer.kinds.size());
  if (!tokenizer.scores.empty())
    keys.set("tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, tokenizer.scores.data(), tokenizer.scores.size());
  if (!tokenizer.merges.empty()) keys.set("tokenizer.ggml.merges", tokenizer.merges);
  if (!tokenizer.character_map.empty()) {
    keys.set("tokenizer.ggml.precompiled_charsmap", GGUF_TYPE_UINT8, tokenizer.character_map.data(),
             tokenizer.character_map.size());
  }
  if (plan.shape.token_types > 0) keys.set("tokenizer.ggml.token_type_count", plan.shape.token_types);
  keys.set("tokenizer.ggml.bos_token_id", tokenizer.bos);
  keys.set("tokenizer.ggml.eos_token_id", tokenizer.eos);
  keys.set("tokenizer.ggml.eot_token_id", tokenizer.eot);
  keys.set("tokenizer.ggml.unknown_token_id", tokenizer.unknown);
  keys.set("tokenizer.ggml.seperator_token_id", tokenizer.separator);  // the format's own spelling
  keys.set("tokenizer.ggml.padding_token_id", tokenizer.padding);
  keys.set("tokenizer.ggml.mask_token_id", tokenizer.mask);
  keys.set("tokenizer.ggml.add_bos_token", tokenizer.add_bos);
  keys.set("tokenizer.ggml.add_eos_token", tokenizer.add_eos);
  keys.set("tokenizer.ggml.add_space_prefix", tokenizer.space_first);
  keys.set("tokenizer.ggml.remove_extra_whitespaces", tokenizer.drops_spaces);
  keys.set("tokenizer.ggml.normalizer.lowercase", tokenizer.lowercase);
  keys.set("tokenizer.ggml.normalizer.strip_accents", tokenizer.strip_accents);
  if (!tokenizer.chat_template.empty()) keys.set("tokenizer.chat_template", tokenizer.chat_template);
}

}  // namespace

std::string make_header(Plan& plan) {
  Keys keys{std::string(plan.architecture->gguf)};
  keys.set("general.architecture", plan.architecture->gguf);
  keys.set("general.type", "model");
  keys.set("general.name", plan.name);
  keys.set("general.file_type", file_type(plan.quantization, plan.source));
  if (plan.quantization != Quantization::kNone) keys.set("general.quantization_version", GGML_QNT_VERSION);
  set_shape(keys, plan);
  set_tokenizer(keys, plan);
  plan.tokenizer = {};

  const std::unique_ptr<ggml_context, decltype(&ggml_free)> table(
      ggml_init({.mem_size = ggml_tensor_overhead() * (plan.tensors.size() + 1),
                 .mem_buffer = nullptr,
                 .no_alloc = true}),
      ggml_free);
  for (const auto& tensor : plan.tensors) {
    auto* out = tensor.shape.size() > 1
                    ? ggml_new_tensor_2d(table.get(), tensor.type, tensor.columns(), tensor.rows())
                    : ggml_new_tensor_1d(table.get(), tensor.type, tensor.columns());
    ggml_set_name(out, tensor.name.c_str());
    gguf_add_tensor(keys.get(), out);
  }
  std::string head(gguf_get_meta_size(keys.get()), '\0');
  gguf_get_meta_data(keys.get(), head.data());
  return head;
}

}  // namespace lm::importer
