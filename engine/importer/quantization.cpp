#include "quantization.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

namespace lm::importer {
namespace {

// Vectors, norms and tables that are looked up in once a text are small, and what follows depends on them.
bool stays_whole(std::string_view name, std::size_t dimensions) {
  return dimensions < 2 || !name.ends_with(".weight") || name.ends_with("_norm.weight") ||
         name == "position_embd.weight" || name == "token_types.weight";
}

// The first and the last eighth of the layers, and each third between.
bool gets_more_bits(std::int64_t layer, std::int64_t layers) {
  const auto eighth = layers / 8;
  return layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2;
}

ggml_type wanted_of_4bit(std::string_view name, std::int64_t layer, bool output_tied,
                         const ModelShape& shape) {
  if (name == "output.weight" || (name == "token_embd.weight" && output_tied)) return GGML_TYPE_Q6_K;
  const bool value = name.ends_with("attn_v.weight");
  if ((value || name.ends_with("ffn_down.weight")) && gets_more_bits(layer, shape.layers))
    return GGML_TYPE_Q6_K;
  // Eight heads share it, so that it is small.
  if (value && shape.layers == 80 && shape.heads == 8 * shape.kv_heads) return GGML_TYPE_Q5_K;
  return GGML_TYPE_Q4_K;
}

// Blocks of 256 weights have a counterpart of 32; what does not fill those either stays in half precision.
ggml_type smaller_block(ggml_type type) {
  switch (type) {
    case GGML_TYPE_Q4_K:
      return GGML_TYPE_Q5_0;
    case GGML_TYPE_Q5_K:
      return GGML_TYPE_Q5_1;
    case GGML_TYPE_Q6_K:
      return GGML_TYPE_Q8_0;
    default:
      return GGML_TYPE_F16;
  }
}

}  // namespace

std::optional<Quantization> quantization_named(std::string_view name) {
  std::string plain;
  for (const char c : name) {
    if (c != '-' && c != '_' && c != ' ')
      plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  }
  constexpr auto kNames = std::to_array<std::pair<std::string_view, Quantization>>({
      {"none", Quantization::kNone},
      {"f16", Quantization::kNone},
      {"fp16", Quantization::kNone},
      {"bf16", Quantization::kNone},
      {"8bit", Quantization::k8Bit},
      {"int8", Quantization::k8Bit},
      {"q80", Quantization::k8Bit},
      {"4bit", Quantization::k4Bit},
      {"int4", Quantization::k4Bit},
      {"q4km", Quantization::k4Bit},
  });
  const auto* found = std::ranges::find(kNames, plain, &std::pair<std::string_view, Quantization>::first);
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

std::uint32_t file_type(Quantization quantization, WeightType source) {
  switch (quantization) {
    case Quantization::k8Bit:
      return 7;
    case Quantization::k4Bit:
      return 15;
    case Quantization::kNone:
      break;
  }
  return source == WeightType::kBf16 ? 32 : 1;
}

TypeChoice choose_type(std::string_view name, const std::vector<std::int64_t>& tensor_shape,
                       WeightType source, Quantization quantization, std::int64_t layer, bool output_tied,
                       const ModelShape& shape) {
  if (stays_whole(name, tensor_shape.size())) return {.type = GGML_TYPE_F32, .notice = {}};
  if (quantization == Quantization::kNone)
    return {.type = source == WeightType::kBf16 ? GGML_TYPE_BF16 : GGML_TYPE_F16, .notice = {}};
  const auto wanted =
      quantization == Quantization::k8Bit ? GGML_TYPE_Q8_0 : wanted_of_4bit(name, layer, output_tied, shape);
  const auto columns = tensor_shape.back();
  auto type = wanted;
  while (columns % ggml_blck_size(type) != 0) type = smaller_block(type);
  if (type == wanted) return {.type = type, .notice = {}};
  return {.type = type,
          .notice = fmt::format("{} has rows of {} weights, no whole blocks of {}: stored as {}", name,
                                columns, ggml_type_name(wanted), ggml_type_name(type))};
}

}  // namespace lm::importer
