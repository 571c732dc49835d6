#include "architecture.h"

#include <algorithm>
#include <array>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "refusal.h"

namespace lm::importer {
namespace {

using enum Dimension;
using Name = std::string_view;

// ---- decoders: llama and its heirs

constexpr auto kDecoderTensors = std::to_array<TensorRule>({
    {"embed_tokens.weight", "token_embd.weight", kVocabulary, kWidth},
    {"norm.weight", "output_norm.weight", kWidth},
    {"lm_head.weight", "output.weight", kVocabulary, kWidth, Need::kToGenerate},
});

// The engine rotates neighbours where Transformers rotates halves, in this architecture only.
constexpr auto kLlamaLayer = std::to_array<TensorRule>({
    {"layers.#.input_layernorm.weight", "blk.#.attn_norm.weight", kWidth},
    {"layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight", kQueries, kWidth, Need::kAlways,
     Rows::kRotatedHalves},
    {"layers.#.self_attn.q_proj.bias", "blk.#.attn_q.bias", kQueries, kNone, Need::kMaybe,
     Rows::kRotatedHalves},
    {"layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight", kKeyValues, kWidth, Need::kAlways,
     Rows::kRotatedHalves},
    {"layers.#.self_attn.k_proj.bias", "blk.#.attn_k.bias", kKeyValues, kNone, Need::kMaybe,
     Rows::kRotatedHalves},
    {"layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight", kKeyValues, kWidth},
    {"layers.#.self_attn.v_proj.bias", "blk.#.attn_v.bias", kKeyValues, kNone, Need::kMaybe},
    {"layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight", kWidth, kQueries},
    {"layers.#.self_attn.o_proj.bias", "blk.#.attn_output.bias", kWidth, kNone, Need::kMaybe},
    {"layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight", kWidth},
    {"layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight", kFeedForward, kWidth},
    {"layers.#.mlp.gate_proj.bias", "blk.#.ffn_gate.bias", kFeedForward, kNone, Need::kMaybe},
    {"layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight", kFeedForward, kWidth},
    {"layers.#.mlp.up_proj.bias", "blk.#.ffn_up.bias", kFeedForward, kNone, Need::kMaybe},
    {"layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight", kWidth, kFeedForward},
    {"layers.#.mlp.down_proj.bias", "blk.#.ffn_down.bias", kWidth, kNone, Need::kMaybe},
});

constexpr auto kQwen2Layer = std::to_array<TensorRule>({
    {"layers.#.input_layernorm.weight", "blk.#.attn_norm.weight", kWidth},
    {"layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight", kQueries, kWidth},
    {"layers.#.self_attn.q_proj.bias", "blk.#.attn_q.bias", kQueries},
    {"layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight", kKeyValues, kWidth},
    {"layers.#.self_attn.k_proj.bias", "blk.#.attn_k.bias", kKeyValues},
    {"layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight", kKeyValues, kWidth},
    {"layers.#.self_attn.v_proj.bias", "blk.#.attn_v.bias", kKeyValues},
    {"layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight", kWidth, kQueries},
    {"layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight", kWidth},
    {"layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight", kFeedForward, kWidth},
    {"layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight", kFeedForward, kWidth},
    {"layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight", kWidth, kFeedForward},
});

constexpr auto kQwen3Layer = std::to_array<TensorRule>({
    {"layers.#.input_layernorm.weight", "blk.#.attn_norm.weight", kWidth},
    {"layers.#.self_attn.q_proj.weight", "blk.#.attn_q.weight", kQueries, kWidth},
    {"layers.#.self_attn.q_norm.weight", "blk.#.attn_q_norm.weight", kHead},
    {"layers.#.self_attn.k_proj.weight", "blk.#.attn_k.weight", kKeyValues, kWidth},
    {"layers.#.self_attn.k_norm.weight", "blk.#.attn_k_norm.weight", kHead},
    {"layers.#.self_attn.v_proj.weight", "blk.#.attn_v.weight", kKeyValues, kWidth},
    {"layers.#.self_attn.o_proj.weight", "blk.#.attn_output.weight", kWidth, kQueries},
    {"layers.#.post_attention_layernorm.weight", "blk.#.ffn_norm.weight", kWidth},
    {"layers.#.mlp.gate_proj.weight", "blk.#.ffn_gate.weight", kFeedForward, kWidth},
    {"layers.#.mlp.up_proj.weight", "blk.#.ffn_up.weight", kFeedForward, kWidth},
    {"layers.#.mlp.down_proj.weight", "blk.#.ffn_down.weight", kWidth, kFeedForward},
});

// ---- encoders: bert and its heirs

constexpr auto kBertTensors = std::to_array<TensorRule>({
    {"embeddings.word_embeddings.weight", "token_embd.weight", kVocabulary, kWidth},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", kTokenTypes, kWidth},
    {"embeddings.position_embeddings.weight", "position_embd.weight", kPositions, kWidth},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight", kWidth},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias", kWidth},
});

constexpr auto kRobertaTensors = std::to_array<TensorRule>({
    {"embeddings.word_embeddings.weight", "token_embd.weight", kVocabulary, kWidth},
    {"embeddings.token_type_embeddings.weight", "token_types.weight", kTokenTypes, kWidth},
    {"embeddings.position_embeddings.weight", "position_embd.weight", kPositions, kWidth, Need::kAlways,
     Rows::kAfterPadding},
    {"embeddings.LayerNorm.weight", "token_embd_norm.weight", kWidth},
    {"embeddings.LayerNorm.bias", "token_embd_norm.bias", kWidth},
});

constexpr auto kBertLayer = std::to_array<TensorRule>({
    {"encoder.layer.#.attention.self.query.weight", "blk.#.attn_q.weight", kQueries, kWidth},
    {"encoder.layer.#.attention.self.query.bias", "blk.#.attn_q.bias", kQueries},
    {"encoder.layer.#.attention.self.key.weight", "blk.#.attn_k.weight", kKeyValues, kWidth},
    {"encoder.layer.#.attention.self.key.bias", "blk.#.attn_k.bias", kKeyValues},
    {"encoder.layer.#.attention.self.value.weight", "blk.#.attn_v.weight", kKeyValues, kWidth},
    {"encoder.layer.#.attention.self.value.bias", "blk.#.attn_v.bias", kKeyValues},
    {"encoder.layer.#.attention.output.dense.weight", "blk.#.attn_output.weight", kWidth, kQueries},
    {"encoder.layer.#.attention.output.dense.bias", "blk.#.attn_output.bias", kWidth},
    {"encoder.layer.#.attention.output.LayerNorm.weight", "blk.#.attn_output_norm.weight", kWidth},
    {"encoder.layer.#.attention.output.LayerNorm.bias", "blk.#.attn_output_norm.bias", kWidth},
    {"encoder.layer.#.intermediate.dense.weight", "blk.#.ffn_up.weight", kFeedForward, kWidth},
    {"encoder.layer.#.intermediate.dense.bias", "blk.#.ffn_up.bias", kFeedForward},
    {"encoder.layer.#.output.dense.weight", "blk.#.ffn_down.weight", kWidth, kFeedForward},
    {"encoder.layer.#.output.dense.bias", "blk.#.ffn_down.bias", kWidth},
    {"encoder.layer.#.output.LayerNorm.weight", "blk.#.layer_output_norm.weight", kWidth},
    {"encoder.layer.#.output.LayerNorm.bias", "blk.#.layer_output_norm.bias", kWidth},
});

// ---- the table

constexpr auto kLlamaClasses = std::to_array<Name>({"LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"});
constexpr auto kMistralClasses = std::to_array<Name>({"MistralForCausalLM", "MistralModel"});
constexpr auto kQwen2Classes = std::to_array<Name>({"Qwen2ForCausalLM", "Qwen2Model"});
constexpr auto kQwen3Classes = std::to_array<Name>({"Qwen3ForCausalLM", "Qwen3Model"});
constexpr auto kBertClasses = std::to_array<Name>({"BertModel", "BertForMaskedLM"});
constexpr auto kRobertaClasses = std::to_array<Name>({"XLMRobertaModel", "XLMRobertaForMaskedLM"});

constexpr auto kDecoderPrefixes = std::to_array<Name>({"model.", ""});
constexpr auto kBertPrefixes = std::to_array<Name>({"", "bert."});
constexpr auto kRobertaPrefixes = std::to_array<Name>({"", "roberta."});

// Tables that the engine computes itself.
constexpr auto kDecoderIgnored = std::to_array<Name>({"rotary_emb.", "layers.#.self_attn.rotary_emb."});
// Heads for tasks other than embedding.
constexpr auto kBertIgnored = std::to_array<Name>(
    {"embeddings.position_ids", "pooler.", "cls.predictions.", "cls.seq_relationship.", "lm_head."});

constexpr auto kSilu = std::to_array<Name>({"silu"});
constexpr auto kGelu = std::to_array<Name>({"gelu", "gelu_new", "gelu_python", "gelu_pytorch_tanh"});

constexpr auto kArchitectures = std::to_array<Architecture>({
    {"llama", "llama", Family::kDecoder, kLlamaClasses, kDecoderPrefixes, kDecoderTensors, kLlamaLayer,
     kDecoderIgnored, kSilu},
    {"mistral", "llama", Family::kDecoder, kMistralClasses, kDecoderPrefixes, kDecoderTensors, kLlamaLayer,
     kDecoderIgnored, kSilu},
    {"qwen2", "qwen2", Family::kDecoder, kQwen2Classes, kDecoderPrefixes, kDecoderTensors, kQwen2Layer,
     kDecoderIgnored, kSilu},
    {"qwen3", "qwen3", Family::kDecoder, kQwen3Classes, kDecoderPrefixes, kDecoderTensors, kQwen3Layer,
     kDecoderIgnored, kSilu},
    {"bert", "bert", Family::kEncoder, kBertClasses, kBertPrefixes, kBertTensors, kBertLayer, kBertIgnored,
     kGelu},
    {"xlm-roberta", "bert", Family::kEncoder, kRobertaClasses, kRobertaPrefixes, kRobertaTensors, kBertLayer,
     kBertIgnored, kGelu},
});

std::string all_classes() {
  std::vector<Name> names;
  for (const auto& each : kArchitectures) names.insert(names.end(), each.classes.begin(), each.classes.end());
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

Result<const Architecture*> find_architecture(const ModelShape& shape) {
  const auto found = std::ranges::find(kArchitectures, shape.model_type, &Architecture::model_type);
  if (found == kArchitectures.end()) {
    return unsupported(fmt::format("its architecture {} is not imported; these are: {}",
                                   in_quotes(shape.model_type), all_classes()));
  }
  if (!shape.class_name.empty() &&
      std::ranges::find(found->classes, shape.class_name) == found->classes.end()) {
    return unsupported(fmt::format("its class {} is not imported; these are: {}", in_quotes(shape.class_name),
                                   all_classes()));
  }
  if (!shape.activation.empty() &&
      std::ranges::find(found->activations, shape.activation) == found->activations.end()) {
    return unsupported(fmt::format("its activation {} is not what the engine computes for {}: {}",
                                   in_quotes(shape.activation), found->model_type,
                                   fmt::join(found->activations, ", ")));
  }
  return &*found;
}

std::int64_t length_of(Dimension dimension, const ModelShape& shape, const Architecture& architecture) {
  switch (dimension) {
    case kNone:
      return 1;
    case kVocabulary:
      return shape.vocabulary;
    case kWidth:
      return shape.width;
    case kFeedForward:
      return shape.feed_forward;
    case kQueries:
      return shape.heads * shape.head;
    case kKeyValues:
      return shape.kv_heads * shape.head;
    case kHead:
      return shape.head;
    case kPositions: {
      std::int64_t left_out = 0;
      for (const auto& rule : architecture.tensors)
        left_out = std::max(left_out, rows_left_out(rule.order, shape));
      return shape.context - left_out;
    }
    case kTokenTypes:
      return shape.token_types;
  }
  return 0;
}

std::int64_t rows_left_out(Rows order, const ModelShape& shape) {
  return order == Rows::kAfterPadding ? shape.padding_token + 1 : 0;
}

std::int64_t source_row(Rows order, std::int64_t row, const ModelShape& shape) {
  switch (order) {
    case Rows::kSame:
      return row;
    case Rows::kAfterPadding:
      return row + rows_left_out(order, shape);
    case Rows::kRotatedHalves: {
      const auto in_head = row % shape.head;
      return row - in_head + in_head / 2 + (in_head % 2) * (shape.head / 2);
    }
  }
  return row;
}

}  // namespace lm::importer
