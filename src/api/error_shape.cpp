#include "api/error_shape.h"

#include <algorithm>
#include <array>
#include <chrono>

#include "api/json_text.h"
#include "http/sse.h"

namespace lm::api {
namespace {

struct Row {
  int status;
  std::string_view openai;
  std::string_view anthropic;
};

// In the order of ErrorCode. 499 is never seen by the client that has left; it stands in logs.
constexpr std::array<Row, kErrorCodeCount> kTable = {{
    {499, "request_cancelled", "api_error"},                  // cancelled
    {400, "invalid_request_error", "invalid_request_error"},  // invalid_argument
    {504, "timeout_error", "timeout_error"},                  // deadline_exceeded
    {404, "not_found_error", "not_found_error"},              // not_found
    {409, "conflict_error", "invalid_request_error"},         // already_exists
    {403, "permission_error", "permission_error"},            // permission_denied
    {401, "authentication_error", "authentication_error"},    // unauthenticated
    {429, "rate_limit_error", "rate_limit_error"},            // resource_exhausted
    {409, "conflict_error", "invalid_request_error"},         // failed_precondition
    {503, "unavailable_error", "overloaded_error"},           // unavailable
    {500, "server_error", "api_error"},                       // internal
    {501, "not_implemented_error", "api_error"},              // unimplemented
}};

const Row& row(const Error& error) {
  return kTable.at(static_cast<std::size_t>(error.code));
}

// No memory is not the client's rate: there is none, or an upstream does not give back what it has.
bool lacks_memory(const Error& error) {
  return error.reason == "insufficient_memory" || error.reason == "upstream_not_released";
}

enum class Shape { kOpenai, kAnthropic, kOllama };

Shape shape_of(std::string_view path) {
  if (path.starts_with("/v1/messages")) return Shape::kAnthropic;
  if (path.starts_with("/api/") && !path.starts_with("/api/v1/")) return Shape::kOllama;
  return Shape::kOpenai;
}

boost::json::object shaped(const Error& error, Shape shape) {
  switch (shape) {
    case Shape::kAnthropic:
      return {{"type", "error"}, {"error", {{"type", row(error).anthropic}, {"message", error.message}}}};
    case Shape::kOllama:
      return {{"error", error.message}};
    case Shape::kOpenai:
      break;
  }
  return error_json(error);
}

}  // namespace

int http_status(const Error& error) {
  if (lacks_memory(error) || error.reason == "disk_full") return 507;
  // What the client's request was cancelled by is not always the client.
  if (error.code == ErrorCode::kCancelled && error.reason != "client_gone") return 503;
  return row(error).status;
}

std::string_view openai_type(const Error& error) {
  if (lacks_memory(error)) return "insufficient_memory_error";
  return row(error).openai;
}

boost::json::object error_json(const Error& error) {
  boost::json::object body{{"message", error.message},
                           {"type", openai_type(error)},
                           {"code", nullptr},
                           {"param", nullptr},
                           {"status", to_string(error.code)}};
  body["code"] = error.reason.empty() ? std::string(to_string(error.code)) : error.reason;
  boost::json::object details;
  for (const auto& [name, value] : error.fields) {
    if (name == "param") {
      body["param"] = std::get<std::string>(value);
      continue;
    }
    std::visit([&](const auto& v) { details[name] = v; }, value);
  }
  if (!details.empty()) body["details"] = std::move(details);
  if (error.retry_after) body["retry_after_s"] = seconds(*error.retry_after);
  return {{"error", std::move(body)}};
}

std::optional<Error> error_in(const boost::json::object& body) {
  const auto* told = body.if_contains("error");
  if (told == nullptr || told->is_null()) return std::nullopt;
  Error error{.code = ErrorCode::kInternal, .message = {}, .reason = {}, .fields = {}, .retry_after = {}};
  if (told->is_string()) {
    error.message = told->get_string();
    return error;
  }
  const auto* object = told->if_object();
  if (object == nullptr) {
    error.message = json_text(*told);
    return error;
  }
  const auto text = [&](std::string_view name) {
    const auto* value = object->if_contains(name);
    return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
  };
  error.message = text("message");
  if (error.message.empty()) error.message = json_text(*object);
  error.reason = text("code");
  if (const auto word = error_code_from_string(text("status"))) {
    error.code = *word;
    if (error.reason == text("status")) error.reason.clear();
  } else if (const auto* status = object->if_contains("code"); status != nullptr && status->is_int64()) {
    // The first of the table with that status is the one that means it.
    const auto found = std::ranges::find(kTable, status->get_int64(), &Row::status);
    if (found != kTable.end()) error.code = static_cast<ErrorCode>(found - kTable.begin());
  }
  if (const auto* wait = object->if_contains("retry_after_s"); wait != nullptr && wait->is_number())
    error.retry_after = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>(std::clamp(wait->to_number<double>(), 0.0, 86'400.0)));
  return error;
}

http::Body error_body(const Error& error, const http::Request& request) {
  return {.content_type = "application/json; charset=utf-8",
          .text = json_text(shaped(error, shape_of(request.path)))};
}

std::string error_event(const Error& error, std::string_view path) {
  const Shape shape = shape_of(path);
  const std::string text = json_text(shaped(error, shape));
  return shape == Shape::kAnthropic ? http::sse_event(text, "error") : http::sse_event(text);
}

}  // namespace lm::api
