// The numbers of a model, as its config.json tells them, each within a range that no product can leave.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "json_document.h"

namespace lm::importer {

// How positions beyond those of the training are turned.
struct RopeScaling {
  enum class Kind : std::uint8_t { kNone, kLinear, kYarn, kLlama3 } kind = Kind::kNone;
  double factor = 1;
  std::int64_t original_context = 0;
  double low_frequency_factor = 1, high_frequency_factor = 4;    // of kLlama3
  std::optional<double> attention_factor, beta_fast, beta_slow;  // of kYarn
};

struct ModelShape {
  std::string model_type;  // "qwen3"
  std::string class_name;  // "Qwen3ForCausalLM"; may be empty
  std::int64_t layers = 0;
  std::int64_t width = 0;  // of what flows between layers
  std::int64_t feed_forward = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head = 0;  // width of one
  std::int64_t vocabulary = 0;
  std::int64_t context = 0;      // positions that the weights or the training know
  std::int64_t token_types = 0;  // 0 where the model has none
  std::int64_t padding_token = 0;
  double norm_epsilon = 0;
  double rope_base = 0;  // 0 where the model has learned positions
  RopeScaling rope;
  std::optional<std::int64_t> sliding_window;  // tokens that a layer looks back, where it is in use
  bool tied = false;                           // the output is the embedding
  std::string activation;                      // "silu", "gelu"
};

// Errors: kInvalidArgument invalid_checkpoint (a number is missing or out of its range), kUnimplemented
// unsupported_model (a rope scaling that nobody has built).
Result<ModelShape> read_shape(const json::value& config);

}  // namespace lm::importer
