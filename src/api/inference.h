// The engine's own endpoints, passed through: the model is made ready, then request and answer go byte for
// byte.
#pragma once

#include "http/router.h"
#include "runtime/runtime.h"

namespace lm::api {

// /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/rerank, /v1/responses, /v1/messages, …
// `runtime` must outlive the router.
void add_inference_routes(http::Router& router, runtime::Runtime& runtime);

}  // namespace lm::api
