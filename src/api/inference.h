// The engine's own endpoints, passed through: the model is made ready, then request and answer go byte for
// byte.
#pragma once

#include <string_view>

#include "domain/model.h"
#include "http/router.h"
#include "runtime/runtime.h"
#include "runtime/transcript_keeper.h"

namespace lm::api {

// /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank, /v1/responses, /v1/messages, …
// `runtime` and `transcripts`, which keeps chats that ask for it, must outlive the router.
void add_inference_routes(http::Router& router, runtime::Runtime& runtime,
                          runtime::TranscriptKeeper& transcripts);

// The way of a request from its body to the end of its answer, for routes of other APIs that have made its
// body into the one that `path` takes: one of the above, or Ollama's own /api/chat, /api/generate, /api/embed
// and /api/embeddings, which only an Ollama behind us understands.
http::RouteFunction inference_at(runtime::Runtime& runtime, std::string_view path);
// The same way up to the point where the model is ready; answers with an empty 200 then. Of the body only
// "model", "stream" and the like matter.
http::RouteFunction readying(runtime::Runtime& runtime, ModelKind kind);

}  // namespace lm::api
