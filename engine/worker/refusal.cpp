#include "refusal.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

namespace lm::worker {
namespace {

namespace json = boost::json;

constexpr std::string_view kTooLong = "exceed_context_size_error";

bool is_anthropic(std::string_view path) {
  return path.starts_with("/v1/messages");
}

// Anthropic's names: https://docs.anthropic.com/en/api/errors
std::string_view anthropic_type(std::string_view engine_type) {
  if (engine_type == kTooLong || engine_type == "not_supported_error") return "invalid_request_error";
  if (engine_type == "server_error") return "api_error";
  if (engine_type == "unavailable_error") return "overloaded_error";
  return engine_type;
}

}  // namespace

std::string refusal_for(std::string_view path, std::string body) {
  boost::system::error_code broken;
  json::value parsed = json::parse(body, broken);
  if (broken || !parsed.is_object()) return body;
  json::value* const error = parsed.as_object().if_contains("error");
  if (error == nullptr || !error->is_object()) return body;
  json::object& told = error->as_object();
  const json::value* const type = told.if_contains("type");
  const json::value* const message = told.if_contains("message");
  if (type == nullptr || !type->is_string() || message == nullptr || !message->is_string()) return body;
  const std::string named(type->as_string());
  if (is_anthropic(path)) {
    return json::serialize(json::object{
        {"type", "error"}, {"error", {{"type", anthropic_type(named)}, {"message", message->as_string()}}}});
  }
  told["param"] = nullptr;
  told["code"] = nullptr;
  if (named == kTooLong) {
    told["type"] = "invalid_request_error";
    told["code"] = "context_length_exceeded";
  }
  return json::serialize(parsed);
}

std::string too_long_for(std::string_view path, std::size_t bytes, std::size_t slot_context) {
  return refusal_for(
      path,
      json::serialize(json::object{
          {"error",
           {{"code", 400},
            {"type", kTooLong},
            {"message", fmt::format("the request has {} bytes of text, more than a context of {} tokens can "
                                    "hold; send less, or load the model with a larger context (max_length)",
                                    bytes, slot_context)},
            {"n_ctx", slot_context}}}}));
}

}  // namespace lm::worker
