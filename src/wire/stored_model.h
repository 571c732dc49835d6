// What llm-importer says of the models that other tools keep on this disk: one line of JSON for each.
// Decoding trusts nothing.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "domain/model.h"

namespace lm::wire {

// One of Ollama's.
struct StoredModel {
  std::string name;              // as Ollama writes it: "llama3.2:1b", "someone/model:7b"
  std::string sha256;            // of the model's file, lower-case hex; it lies in blobs/sha256-HEX
  std::string projector_sha256;  // empty: it has none
  bool operator==(const StoredModel&) const = default;
};

// One of the folders that were asked about, which can be imported.
struct StoredCheckpoint {
  std::size_t index = 0;  // among them
  ModelKind kind = ModelKind::kGeneration;
  bool operator==(const StoredCheckpoint&) const = default;
};

using StoredLine = std::variant<StoredModel, StoredCheckpoint>;

// A line without its end.
std::string encode(const StoredLine& line);
// kInvalidArgument where the line is neither: a name that is none, digests that are no hex, an index below
// zero or over a million.
Result<StoredLine> decode_stored(std::string_view line);

}  // namespace lm::wire
