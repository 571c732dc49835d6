// One table turns an error into an HTTP status and the shape that the client's library understands.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>

#include "base/error.h"
#include "http/message.h"

namespace lm::api {

int http_status(const Error& error);
// OpenAI's `type`: "invalid_request_error", "not_found_error", "server_error", …
std::string_view openai_type(const Error& error);

// {"error": {"message", "type", "code", "param", "details", "retry_after_s"}}
boost::json::object error_json(const Error& error);

// The way back: the error that a body or an event tells, ours, an engine's or a provider's {"error":
// {"message", …}} or Ollama's {"error": "…"}. Empty where it tells none. What has no word of ours and no
// status for a code is kInternal.
std::optional<Error> error_in(const boost::json::object& body);

// The body in the shape of the API that the path belongs to: Anthropic's under /v1/messages, Ollama's under
// /api/ but not /api/v1/, else OpenAI's.
http::Body error_body(const Error& error, const http::Request& request);

// The same as one server-sent event, for a stream whose 200 was sent already.
std::string error_event(const Error& error, std::string_view path);

}  // namespace lm::api
