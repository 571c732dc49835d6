// What Ollama answers about itself, and the little that it is told. Decoding trusts nothing, and is strict
// where a list that is half understood would pass for a shorter one: what is no list of models is an error
// that says what came instead.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "domain/model.h"

namespace lm::wire {

struct OllamaModel {
  std::string name;  // with its tag: "qwen3:latest"
  ModelKind kind = ModelKind::kGeneration;
  Bytes size;  // /api/tags: of its file; /api/ps: of what it has in memory, 0 where it does not know
  Bytes vram;  // /api/ps: the part of it that is not the host's
};

// The answers to GET /api/tags and /api/ps, in their order, each name once. kInvalidArgument "bad_upstream":
// a sentence's end, as in "the answer is no JSON". Names that are none (empty, longer than 512 bytes, with
// control characters) are left out of the first and an error in the second. At most 10,000.
Result<std::vector<OllamaModel>> decode_ollama_tags(std::string_view body);
Result<std::vector<OllamaModel>> decode_ollama_ps(std::string_view body);

// Of POST /api/generate: loads the model, or with `unload` ends its stay.
std::string encode_ollama_generate(std::string_view model, bool unload);
// Of POST /api/embed: loads an embedding model, which /api/generate refuses.
std::string encode_ollama_embed(std::string_view model);
// Whether the answer to one of these is what comes once the model is in memory: "done", or embeddings. Errors
// as above.
Result<void> check_ollama_loaded(std::string_view body);

}  // namespace lm::wire
