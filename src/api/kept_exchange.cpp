#include "api/kept_exchange.h"

#include <chrono>
#include <tuple>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>

namespace lm::api {
namespace {

namespace json = boost::json;

// The first choice of an answer or of a piece of one; null where it has none.
const json::object* choice_in(const json::value& answer) {
  const auto* object = answer.if_object();
  const auto* choices = object == nullptr ? nullptr : object->if_contains("choices");
  if (choices == nullptr || !choices->is_array()) return nullptr;
  for (const json::value& choice : choices->get_array()) {
    const auto* one = choice.if_object();
    if (one == nullptr) continue;
    const auto* index = one->if_contains("index");
    if (index == nullptr || *index == 0) return one;
  }
  return nullptr;
}

std::string_view text_in(const json::object& choice, std::string_view part) {
  const auto* value = choice.if_contains(part);
  const auto* object = value == nullptr ? nullptr : value->if_object();
  const auto* text = object == nullptr ? nullptr : object->if_contains("content");
  return text == nullptr || !text->is_string() ? std::string_view() : std::string_view(text->get_string());
}

}  // namespace

KeptExchange::KeptExchange(http::Exchange& client, http::Request question,
                           runtime::TranscriptKeeper::Answer answer)
    : Exchange(std::move(question)),
      to_(client),
      answer_(std::move(answer)),
      parser_([this](const http::SseEvent& event) { take(event); }) {
  principal_ = client.principal();
  client_ = client.client();
}

void KeptExchange::take(const http::SseEvent& event) {
  if (event.data == "[DONE]") {
    is_whole_ = true;
    return;
  }
  boost::system::error_code broken;
  const json::value chunk = json::parse(event.data, broken);
  if (broken) return;
  const json::object* choice = choice_in(chunk);
  if (choice == nullptr) return;
  answer_.append(text_in(*choice, "delta"));
  const auto* finish = choice->if_contains("finish_reason");
  is_whole_ = is_whole_ || (finish != nullptr && !finish->is_null());
}

Task<Result<void>> KeptExchange::store() {
  is_stored_ = true;
  co_return co_await answer_.end();
}

Task<Result<void>> KeptExchange::respond(http::Response response) {
  boost::system::error_code broken;
  const json::value body = response.status == 200 ? json::parse(response.body, broken) : json::value();
  const json::object* choice = broken ? nullptr : choice_in(body);
  if (choice != nullptr && !is_stored_) {
    answer_.append(text_in(*choice, "message"));
    if (const auto stored = co_await store(); !stored) to_.add_header("X-Conversation-Kept", "no");
  }
  co_return co_await to_.respond(std::move(response));
}

Result<void> KeptExchange::begin(int status, http::Headers headers) {
  const std::string_view type = headers.get("Content-Type").value_or("");
  is_stream_ = status == 200 && type.starts_with("text/event-stream");
  if (status != 200 || is_stream_) return to_.begin(status, std::move(headers));
  is_held_ = true;
  headers.erase("Content-Length");
  held_ = {.status = status, .headers = std::move(headers), .body = {}};
  if (to_.client_gone()) return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
  return {};
}

Task<Result<void>> KeptExchange::write(std::string_view bytes) {
  if (is_held_) {
    held_.body += bytes;
    co_return Result<void>();
  }
  if (!is_stream_ || is_stored_) co_return co_await to_.write(bytes);
  // What is no event of an answer is nothing to be kept.
  std::ignore = parser_.feed(bytes);
  if (is_whole_) {
    if (const auto stored = co_await store(); !stored)
      LM_CO_TRY_VOID(co_await to_.write(http::sse_comment("not kept: " + stored.error().message)));
  }
  co_return co_await to_.write(bytes);
}

Task<Result<void>> KeptExchange::end(std::string_view last) {
  if (is_held_) {
    held_.body += last;
    is_held_ = false;
    co_return co_await respond(std::move(held_));
  }
  if (!last.empty()) LM_CO_TRY_VOID(co_await write(last));
  co_return co_await to_.end();
}

Task<> KeptExchange::close() {
  if (!is_held_ || to_.client_gone()) co_return;
  co_await to_.fail(503, {.code = ErrorCode::kUnavailable,
                          .message = "the answer broke off in the middle; asking again may work",
                          .reason = "worker_died",
                          .fields = {},
                          .retry_after = std::chrono::seconds(1)});
}

}  // namespace lm::api
