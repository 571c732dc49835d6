// Which type each tensor is stored in.
#pragma once

#include <cstdint>
#include <ggml.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model_shape.h"
#include "safetensors.h"

namespace lm::importer {

enum class Quantization : std::uint8_t {
  kNone,  // half precision, of the checkpoint's kind
  k8Bit,  // Q8_0
  k4Bit,  // Q4_K_M: Q4_K, and Q6_K where it matters most
};

// "none", "8bit", "4bit", and what others call these ("Q4_K_M", "int8"); nullopt for anything else.
std::optional<Quantization> quantization_named(std::string_view name);
// The number by which GGUF calls a file of it; `source`: of the checkpoint's weights.
std::uint32_t file_type(Quantization quantization, WeightType source);

struct TypeChoice {
  ggml_type type = GGML_TYPE_F32;
  std::string notice;  // why it is not the type that was wanted; empty
};

// `name`: in GGUF; `shape`: outermost first; `layer`: -1 outside the layers. `output_tied`: the embedding is
// the output too.
TypeChoice choose_type(std::string_view name, const std::vector<std::int64_t>& tensor_shape,
                       WeightType source, Quantization quantization, std::int64_t layer, bool output_tied,
                       const ModelShape& shape);

}  // namespace lm::importer
