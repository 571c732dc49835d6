// Ollama's API on the daemon's own port: /api/chat, /api/generate, /api/embed, /api/embeddings, /api/tags,
// /api/ps, /api/show, /api/version, /api/pull, /api/delete. docs/ollama.md says what is the same and what is
// not.
#pragma once

#include "api/manager_routes.h"
#include "http/router.h"
#include "runtime/runtime.h"

namespace lm::api {

// `runtime` and `facts` must outlive the router.
void add_ollama_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts);

}  // namespace lm::api
