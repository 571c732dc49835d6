// What llm-importer says of the models that Ollama keeps on this disk: one line of JSON for each. Decoding
// trusts nothing.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::wire {

struct StoredModel {
  std::string name;              // as Ollama writes it: "llama3.2:1b", "someone/model:7b"
  std::string sha256;            // of the model's file, lower-case hex; it lies in blobs/sha256-HEX
  std::string projector_sha256;  // empty: it has none
  bool operator==(const StoredModel&) const = default;
};

// A line without its end.
std::string encode(const StoredModel& model);
// kInvalidArgument where the line is none: a name that is none, digests that are no hex.
Result<StoredModel> decode_stored_model(std::string_view line);

}  // namespace lm::wire
