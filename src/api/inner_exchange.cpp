#include "api/inner_exchange.h"

#include <utility>

#include <boost/json/parse.hpp>

#include "api/error_shape.h"
#include "base/assert.h"

namespace lm::api {
namespace {

namespace json = boost::json;

constexpr std::string_view kPath = "/v1/chat/completions";
constexpr std::size_t kMostRefusal = std::size_t{1} << 20;

http::Request question(std::string body) {
  http::Request request;
  request.method = http::Method::kPost;
  request.method_text = "POST";
  request.target = kPath;
  request.path = kPath;
  request.headers = {{"Content-Type", "application/json"}};
  request.body = std::move(body);
  return request;
}

Error broken(std::string what) {
  return {.code = ErrorCode::kUnavailable,
          .message = std::move(what),
          .reason = "bad_upstream",
          .fields = {},
          .retry_after = {}};
}

std::optional<json::object> object_of(std::string_view text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.get_object());
}

std::string text_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

}  // namespace

InnerExchange::InnerExchange(boost::asio::any_io_executor executor, std::string body,
                             http::Principal principal, std::string client, Say say)
    : Exchange(question(std::move(body))),
      executor_(std::move(executor)),
      say_(std::move(say)),
      parser_([this](const http::SseEvent& event) { take(event.data); }) {
  principal_ = principal;
  client_ = std::move(client);
}

std::optional<Error> InnerExchange::error() const {
  if (error_) return error_;
  if (gone_ || !finish_.empty()) return std::nullopt;
  return broken("the answer broke off in the middle");
}

Task<Result<void>> InnerExchange::respond(http::Response response) {
  LM_CO_TRY_VOID(begin(response.status, std::move(response.headers)));
  if (!refused_) error_ = broken("what came is no stream");
  co_return co_await end(refused_ ? std::string_view(response.body) : std::string_view());
}

Task<Result<void>> InnerExchange::fail(int, Error error) {
  error_ = std::move(error);
  begun_ = ended_ = true;
  co_return Result<void>();
}

Result<void> InnerExchange::begin(int status, http::Headers) {
  LM_ASSERT(!begun_, "an exchange is answered once");
  begun_ = true;
  refused_ = status >= 400;
  return {};
}

Task<Result<void>> InnerExchange::write(std::string_view bytes) {
  LM_ASSERT(begun_ && !ended_, "an answer is begun before it is written, and ends once");
  if (gone_) co_return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
  if (error_) co_return Result<void>();
  if (refused_) {
    refusal_ += bytes.substr(0, kMostRefusal - std::min(kMostRefusal, refusal_.size()));
    co_return Result<void>();
  }
  if (auto fed = parser_.feed(bytes); !fed) error_ = std::move(fed).error();
  for (Piece& piece : std::exchange(pieces_, {})) {
    if (co_await say_(std::move(piece))) continue;
    gone_ = true;
    co_return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
  }
  co_return Result<void>();
}

Task<Result<void>> InnerExchange::end(std::string_view last) {
  if (!last.empty()) LM_CO_TRY_VOID(co_await write(last));
  ended_ = true;
  if (!refused_) co_return Result<void>();
  const auto body = object_of(refusal_);
  if (body) error_ = error_in(*body);
  if (!error_) error_ = broken("refused without a word");
  co_return Result<void>();
}

// One event of the stream.
void InnerExchange::take(std::string_view datum) {
  if (error_ || datum == "[DONE]") return;
  const auto chunk = object_of(datum);
  if (!chunk) {
    error_ = broken("a piece of the answer is no JSON object");
    return;
  }
  error_ = error_in(*chunk);
  const json::value* choices = chunk->if_contains("choices");
  if (error_ || choices == nullptr || !choices->is_array() || choices->get_array().empty()) return;
  const json::object* choice = choices->get_array().front().if_object();
  if (choice == nullptr) return;
  if (std::string finish = text_in(*choice, "finish_reason"); !finish.empty()) finish_ = std::move(finish);
  const json::value* delta = choice->if_contains("delta");
  if (delta == nullptr || !delta->is_object()) return;
  std::string thought = text_in(delta->get_object(), "reasoning_content");
  if (thought.empty()) thought = text_in(delta->get_object(), "reasoning");
  if (!thought.empty()) pieces_.push_back({.is_thinking = true, .text = std::move(thought)});
  if (std::string text = text_in(delta->get_object(), "content"); !text.empty())
    pieces_.push_back({.is_thinking = false, .text = std::move(text)});
}

http::RawStream InnerExchange::take_over() {
  LM_ASSERT(false, "what is asked from inside has no connection to take over");
  std::unreachable();
}

}  // namespace lm::api
