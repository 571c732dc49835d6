// What will be written: every tensor with its source and its type, decided before the first byte is.
#pragma once

#include <cstdint>
#include <ggml.h>
#include <optional>
#include <string>
#include <vector>

#include "architecture.h"
#include "base/result.h"
#include "checkpoint_folder.h"
#include "pooling.h"
#include "quantization.h"
#include "tokenizer.h"
#include "weights.h"

namespace lm::importer {

struct PlannedTensor {
  std::string name;                 // in GGUF
  std::vector<std::int64_t> shape;  // outermost first
  ggml_type type = GGML_TYPE_F32;
  const Weight* source = nullptr;  // nullptr: `values` are it
  Rows order = Rows::kSame;
  std::vector<float> values;

  std::int64_t columns() const { return shape.back(); }
  std::int64_t rows() const { return shape.size() > 1 ? shape.front() : 1; }
  std::int64_t bytes() const { return static_cast<std::int64_t>(ggml_row_size(type, columns())) * rows(); }
};

struct Plan {
  const Architecture* architecture = nullptr;
  ModelShape shape;
  std::optional<Pooling> pooling;
  std::string name;  // for people
  Quantization quantization = Quantization::kNone;
  WeightType source = WeightType::kF16;  // what most weights are in the checkpoint
  Tokenizer tokenizer;
  Weights weights;
  std::vector<PlannedTensor> tensors;  // point into `weights`
  std::vector<std::string> notices;    // what people should know, in sentences

  Plan() = default;
  Plan(Plan&&) = default;
  Plan& operator=(Plan&&) = default;
};

// `quantization` empty: 4-bit for a model that generates, 8-bit for one that embeds. The folder must outlive
// the plan. Errors: as those of the readers; kInvalidArgument invalid_checkpoint for a tensor that is
// missing, of another shape, or of a type that is no float; kUnimplemented unsupported_model for tensors that
// nobody knows, and for weights that are quantised already.
Result<Plan> make_plan(const CheckpointFolder& folder, std::optional<Quantization> quantization);

}  // namespace lm::importer
