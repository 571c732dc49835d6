// JSON in and out of an exchange.
#pragma once

#include <optional>
#include <string>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/value_from.hpp>
#include <fmt/format.h>

#include "api/error_shape.h"
#include "api/json_text.h"
#include "http/exchange.h"

namespace lm::api {

inline http::Response json_response(boost::json::value value, int status = 200) {
  return {.status = status,
          .headers = {{"Content-Type", "application/json; charset=utf-8"}},
          .body = json_text(value) + "\n"};
}

inline Task<> answer_json(http::Exchange& exchange, boost::json::value value, int status = 200) {
  co_await exchange.respond(json_response(std::move(value), status));
}

inline Task<> answer_error(http::Exchange& exchange, Error error) {
  const int status = http_status(error);
  co_await exchange.fail(status, std::move(error));
}

// The request's body, which must be a JSON object; an empty body is an empty object.
inline Result<boost::json::object> object_body(const http::Request& request) {
  if (request.body.empty()) return boost::json::object();
  boost::json::error_code error;
  boost::json::parse_options options;
  options.max_depth = 64;  // as in the bodies that are passed on unread
  boost::json::value value = boost::json::parse(request.body, error, {}, options);
  if (error || !value.is_object()) {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("the body is not a JSON object: {}", error ? error.message() : "it is something else"),
        "invalid_json");
  }
  return std::move(value.as_object());
}

// A field of a type; absent and null are empty, another type is an error that names it.
inline Result<std::optional<std::string>> string_field(const boost::json::object& object,
                                                       std::string_view name) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  if (!value->is_string())
    return fail(ErrorCode::kInvalidArgument, fmt::format("\"{}\" must be a string", name), "invalid_field");
  return std::string(value->as_string());
}

inline Result<std::optional<int>> int_field(const boost::json::object& object, std::string_view name,
                                            int least) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  const auto* number = value->if_int64();
  if (number == nullptr || *number < least || *number > (1 << 30))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("\"{}\" must be a whole number from {} on", name, least), "invalid_field");
  return static_cast<int>(*number);
}

inline Result<bool> bool_field(const boost::json::object& object, std::string_view name, bool otherwise) {
  const boost::json::value* value = object.if_contains(name);
  if (value == nullptr || value->is_null()) return otherwise;
  if (!value->is_bool())
    return fail(ErrorCode::kInvalidArgument, fmt::format("\"{}\" must be true or false", name),
                "invalid_field");
  return value->as_bool();
}

}  // namespace lm::api
