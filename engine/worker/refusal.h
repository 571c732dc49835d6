// The engine's refusals, in the form that clients know. The engine's own `code` is the HTTP status, a number;
// OpenAI's clients look for a name there ("context_length_exceeded") or null, and Anthropic's for another
// shape.
#pragma once

#include <string>
#include <string_view>

namespace lm::worker {

// `body`: the engine's {"error": {"code": 400, "message": …, "type": …, …}}. What else it tells
// (n_prompt_tokens, n_ctx) is kept for OpenAI's clients. A body of another shape comes back as it is.
std::string refusal_for(std::string_view path, std::string body);

// Of a request whose text cannot fit a context of `slot_context` tokens; with `bytes` of text.
std::string too_long_for(std::string_view path, std::size_t bytes, std::size_t slot_context);

}  // namespace lm::worker
