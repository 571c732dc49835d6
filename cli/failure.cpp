#include "cli/failure.h"

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/time.h"
#include "cli/json_view.h"

namespace lm::cli {
namespace {

std::string error_object(std::string_view message, std::string_view type, std::string_view code) {
  return boost::json::serialize(boost::json::object{
      {"error", {{"message", message}, {"type", type}, {"code", code}, {"param", nullptr}}}});
}

}  // namespace

Failure failure_of(const Error& error) {
  const std::string_view code = error.reason.empty() ? to_string(error.code) : std::string_view(error.reason);
  return {.code = exit_code_of(error),
          .message = error.message,
          .json = error_object(error.message, "client_error", code)};
}

Failure interrupted() {
  return failure_of(Error{.code = ErrorCode::kCancelled,
                          .message = "interrupted",
                          .reason = "interrupted",
                          .fields = {},
                          .retry_after = {}});
}

Failure failure_of_answer(int http_status, std::string_view body, std::string_view daemon) {
  const auto parsed = parse_json(body);
  const boost::json::value* error = parsed ? member_of(*parsed, "error") : nullptr;
  if (error == nullptr || !error->is_object()) {
    const std::string message = fmt::format(
        "what answers at {} is no LLM Manager (HTTP status {}); point LLM_MANAGER_URL at the daemon", daemon,
        http_status);
    return {.code = ExitCode::kUnreachable,
            .message = message,
            .json = error_object(message, "client_error", "not_a_daemon")};
  }
  const std::string_view code = text_of(*error, "code");
  // An error event of a stream came after a 200; its type says what the status would have been.
  if (http_status == 0 && text_of(*error, "type") == "not_found_error") http_status = 404;
  if (http_status == 0 && text_of(*error, "type") == "insufficient_memory_error") http_status = 507;
  Failure failure{.code = exit_code_of_answer(http_status, code),
                  .message = std::string(text_of(*error, "message")),
                  .json = std::string(body)};
  if (failure.message.empty())
    failure.message = fmt::format("the daemon refused (HTTP status {})", http_status);
  if (code == "no_such_route")
    failure.message = "this daemon does not know the command: it is of another version than this program";
  if (http_status == 401) failure.message += "; LLM_MANAGER_API_KEY is where the key goes";
  if (const auto after = number_of(*error, "retry_after_s");
      after && failure.message.find("again") == std::string::npos) {
    failure.message += fmt::format("; try again in {:.0f} s", *after < 1.0 ? 1.0 : *after);
  }
  return failure;
}

Failure failure_of_network(const Error& error, std::string_view daemon) {
  Failure failure = failure_of(error);
  if (failure.code != ExitCode::kUnreachable) return failure;
  if (error.reason == "connect_failed" || error.reason == "connect_timeout") {
    failure.message = fmt::format("no daemon answers at {}; start one with: llm-manager serve", daemon);
  } else if (error.reason == "bad_upstream") {
    failure.message = fmt::format(
        "what answers at {} is no LLM Manager, or it was cut off; llm-manager doctor says more", daemon);
  } else if (error.reason == "connection_lost") {
    failure.message =
        fmt::format("the daemon at {} went away before it had answered; llm-manager logs says why", daemon);
  } else if (error.reason != "tls_failed") {
    failure.message = fmt::format("the daemon at {} is silent; llm-manager doctor says more", daemon);
  }
  failure.json = error_object(failure.message, "client_error", error.reason);
  return failure;
}

}  // namespace lm::cli
