// The architectures that are imported: how a checkpoint names and shapes its tensors, and how GGUF does. One
// table in architecture.cpp; docs/models.md shows how to add a row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model_shape.h"

namespace lm::importer {

// A length that a tensor's dimension has, by its meaning.
enum class Dimension : std::uint8_t {
  kNone,  // no second dimension
  kVocabulary,
  kWidth,
  kFeedForward,
  kQueries,    // heads * head
  kKeyValues,  // kv_heads * head
  kHead,
  kPositions,
  kTokenTypes,
};

// Which row of the checkpoint's tensor becomes which of ours.
enum class Rows : std::uint8_t {
  kSame,
  kRotatedHalves,  // the two halves of each head are laced, as the engine rotates llama's
  kAfterPadding,   // the first rows, for padding, are left out (roberta's positions)
};

// Which weights are wanted.
enum class Need : std::uint8_t {
  kAlways,
  kMaybe,       // some models of the architecture have it
  kToGenerate,  // of a model that generates, unless its output is its embedding
};

struct TensorRule {
  std::string_view from;  // in the checkpoint; "#" stands for the layer's number
  std::string_view to;    // in GGUF
  Dimension rows = Dimension::kNone, columns = Dimension::kNone;  // columns: kNone for a vector
  Need need = Need::kAlways;
  Rows order = Rows::kSame;
};

enum class Family : std::uint8_t { kDecoder, kEncoder };

struct Architecture {
  std::string_view model_type;  // as config.json says it
  std::string_view gguf;        // as the engine says it
  Family family = Family::kDecoder;
  std::span<const std::string_view> classes;   // of config.json that are imported
  std::span<const std::string_view> prefixes;  // that names in the checkpoint may begin with
  std::span<const TensorRule> tensors;         // once
  std::span<const TensorRule> layer;           // for each layer
  std::span<const std::string_view> ignored;   // beginnings of names of tensors that the model does without
  std::span<const std::string_view> activations;
};

// Errors: kUnimplemented, reason unsupported_model: names what it is and all that are imported.
Result<const Architecture*> find_architecture(const ModelShape& shape);

// The length of a dimension; kPositions after the left-out rows.
std::int64_t length_of(Dimension dimension, const ModelShape& shape, const Architecture& architecture);

// The row of the checkpoint's tensor that becomes row `row`.
std::int64_t source_row(Rows order, std::int64_t row, const ModelShape& shape);
// How many rows of the checkpoint's tensor are left out.
std::int64_t rows_left_out(Rows order, const ModelShape& shape);

}  // namespace lm::importer
