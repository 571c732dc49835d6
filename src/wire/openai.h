// What OpenAI-compatible servers answer about themselves: lists of models, and what some of them add (vLLM,
// llama-server's router, LM Studio). Decoding trusts nothing: unknown fields are dropped, names that are none
// (empty, longer than 512 bytes, with control characters) are left out, as is what comes behind 10,000
// models.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "domain/model.h"

namespace lm::wire {

struct ListedModel {
  std::string name;
  std::optional<ModelKind> kind;  // where it says so
  Bytes size;                     // 0: it does not say
  std::string owner;              // "owned_by": "vllm", "llamacpp", …
  std::string status;             // of llama-server's router: "unloaded", "loading", "loaded", "sleeping", …
  bool failed = false;            // the router's last attempt to load it has
  std::vector<std::string> instances;  // LM Studio's names of it in memory
};

// The answer to GET …/models: {"data": […]} or a bare list. LM Studio's /api/v0/models as well, where a model
// with "state": "loaded" is its own instance. kInvalidArgument: no such list.
Result<std::vector<ListedModel>> decode_models(std::string_view body);
// Whether that list is one of LM Studio's own interface: all of its models have a "state".
bool has_states(std::string_view body);
// The answer to LM Studio's GET /api/v1/models.
Result<std::vector<ListedModel>> decode_lm_studio_models(std::string_view body);

// "role" of llama-server's /props, "version" of vLLM's /version; empty where the body is something else.
std::string decode_text(std::string_view body, std::string_view field);
// "is_sleeping" of vLLM; nullopt where the body is something else.
std::optional<bool> decode_flag(std::string_view body, std::string_view field);
// The sentence of an error's body, in any of the usual shapes, on one line of at most 300 bytes; empty where
// there is none.
std::string decode_complaint(std::string_view body);

// {"FIELD": "VALUE"}
std::string encode_text(std::string_view field, std::string_view value);

}  // namespace lm::wire
