// /api/v1/conversations, and what keeps a chat: docs/history.md describes them.
#pragma once

#include "http/router.h"
#include "runtime/runtime.h"
#include "runtime/transcript_keeper.h"

namespace lm::api {

// `transcripts` must outlive the router.
void add_conversation_routes(http::Router& router, runtime::TranscriptKeeper& transcripts);

// `chat` answers /v1/chat/completions. Where a request names a conversation (X-Conversation) its last message
// is stored before it goes on to `chat`, if it is a user's, and the answer as it is shown.
http::RouteFunction kept_chat(http::RouteFunction chat, const runtime::Runtime& runtime,
                              runtime::TranscriptKeeper& transcripts);

}  // namespace lm::api
