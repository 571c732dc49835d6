#include "api/request_scan.h"

#include <algorithm>

#include <boost/json/basic_parser_impl.hpp>
#include <fmt/format.h>

namespace lm::api {
namespace {

namespace json = boost::json;

// What of an answer would not be the same if it were given in two parts.
constexpr std::string_view kWhole[] = {
    "tools",        "functions",        "response_format",
    "grammar",      "json_schema",      "logprobs",
    "top_logprobs", "n_probs",          "echo",
    "suffix",       "return_tokens",    "id_slot",
    "lora",         "return_progress",  "modalities",
    "audio",        "t_max_predict_ms", "timings_per_token",
    "verbose",
};
constexpr std::string_view kCounts[] = {"n", "n_cmpl", "best_of"};

// Sees every token; remembers the two that matter, at depth one.
struct Scanner {
  static constexpr std::size_t max_object_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_array_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_key_size = static_cast<std::size_t>(-1);
  static constexpr std::size_t max_string_size = static_cast<std::size_t>(-1);

  std::string_view question;
  RequestScan found;
  bool is_object = false;
  bool bad_model = false;
  int depth = 0;
  std::string key;   // the part of a key that has come so far, at depth one
  std::string text;  // the same of a string
  enum { kOther, kModel, kStream, kWholeOnly, kCount, kPrompt } at = kOther;

  bool value() const { return depth == 1; }
  void other_value() {
    if (!value()) return;
    if (at == kModel) bad_model = true;
    if (at == kWholeOnly || at == kCount || at == kPrompt) found.continuable = false;
    at = kOther;
  }
  void integer(bool none, bool one) {
    if (value() && ((at == kWholeOnly && none) || (at == kCount && one))) at = kOther;
    other_value();
  }

  bool on_document_begin(json::error_code&) { return true; }
  bool on_document_end(json::error_code&) { return true; }
  bool on_object_begin(json::error_code&) {
    other_value();
    if (depth++ == 0) is_object = true;
    return true;
  }
  bool on_object_end(std::size_t, json::error_code&) { return --depth, true; }
  bool on_array_begin(json::error_code&) {
    other_value();
    return ++depth, true;
  }
  bool on_array_end(std::size_t, json::error_code&) { return --depth, true; }
  bool on_key_part(json::string_view part, std::size_t, json::error_code&) {
    if (value() && key.size() < 16) key.append(part.data(), part.size());
    return true;
  }
  bool on_key(json::string_view part, std::size_t, json::error_code&) {
    if (value()) {
      key.append(part.data(), part.size());
      if (key == question) found.asks = true;
      if (key == "model") found.model.reset();
      if (key == "stream") found.stream = false;
      const auto is_key = [this](std::string_view one) { return one == key; };
      at = key == "model"                         ? kModel
           : key == "stream"                      ? kStream
           : key == "prompt"                      ? kPrompt
           : std::ranges::any_of(kWhole, is_key)  ? kWholeOnly
           : std::ranges::any_of(kCounts, is_key) ? kCount
                                                  : kOther;
      key.clear();
    }
    return true;
  }
  bool on_string_part(json::string_view part, std::size_t, json::error_code&) {
    if (value() && at == kModel) text.append(part.data(), part.size());
    return true;
  }
  bool on_string(json::string_view part, std::size_t, json::error_code&) {
    if (value() && at == kModel) {
      text.append(part.data(), part.size());
      found.model = std::exchange(text, {});
    }
    if (value() && at == kWholeOnly) found.continuable = false;
    if (value()) at = kOther;
    return true;
  }
  bool on_number_part(json::string_view, json::error_code&) { return true; }
  bool on_int64(std::int64_t n, json::string_view, json::error_code&) {
    return integer(n == 0, n == 1), true;
  }
  bool on_uint64(std::uint64_t, json::string_view, json::error_code&) { return other_value(), true; }
  bool on_double(double, json::string_view, json::error_code&) { return other_value(), true; }
  bool on_bool(bool b, json::error_code&) {
    if (value() && at == kStream) found.stream = b;
    if (value() && at == kWholeOnly && !b) at = kOther;
    return other_value(), true;
  }
  bool on_null(json::error_code&) {
    if (value()) at = kOther;  // "model": null is no model
    return true;
  }
  bool on_comment_part(json::string_view, json::error_code&) { return true; }
  bool on_comment(json::string_view, json::error_code&) { return true; }
};

}  // namespace

Result<RequestScan> scan_request(std::string_view body, std::string_view question) {
  json::parse_options options;
  options.max_depth = 64;
  json::basic_parser<Scanner> parser(options);
  parser.handler().question = question;
  json::error_code error;
  const std::size_t taken = parser.write_some(false, body.data(), body.size(), error);
  const Scanner& scanner = parser.handler();
  if (error || !scanner.is_object) {
    const std::string why =
        error ? fmt::format("{} at byte {}", error.message(), taken) : std::string("it is not an object");
    return fail(ErrorCode::kInvalidArgument, fmt::format("the body is not a JSON object: {}", why),
                "invalid_json");
  }
  if (body.find_first_not_of(" \t\r\n", taken) != std::string_view::npos) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("the body goes on after its JSON object, at byte {}", taken), "invalid_json");
  }
  if (scanner.bad_model)
    return fail(ErrorCode::kInvalidArgument, "\"model\" must be a string", "invalid_model");
  return scanner.found;
}

}  // namespace lm::api
