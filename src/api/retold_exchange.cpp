#include "api/retold_exchange.h"

#include <utility>

#include <boost/json/parse.hpp>

#include "api/error_shape.h"
#include "api/json_text.h"
#include "base/assert.h"

namespace lm::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kMostRefusal = 1u << 20;

// What a refusal says, in whatever shape; its text where it has none.
Error error_of(std::string_view body, int status) {
  boost::system::error_code broken;
  const json::value value = json::parse(body, broken);
  if (!broken && value.is_object()) {
    if (auto error = error_in(value.get_object())) return *std::move(error);
  }
  return {.code = ErrorCode::kInternal,
          .message = body.empty() ? "refused with status " + std::to_string(status) : std::string(body),
          .reason = {},
          .fields = {},
          .retry_after = {}};
}

}  // namespace

RetoldExchange::RetoldExchange(http::Exchange& client, http::Request question,
                               std::unique_ptr<Retelling> retelling, std::function<TimePoint()> now)
    : Exchange(std::move(question)),
      to_(client),
      retelling_(std::move(retelling)),
      now_(std::move(now)),
      told_at_(now_()) {
  principal_ = client.principal();
  client_ = client.client();
}

http::Headers RetoldExchange::head() const {
  http::Headers headers{{"Content-Type", std::string(retelling_->content_type())}};
  if (retelling_->streams()) {
    headers.add("Cache-Control", "no-cache");
    headers.add("X-Accel-Buffering", "no");
  }
  return headers;
}

Task<Result<void>> RetoldExchange::respond(http::Response response) {
  if (response.status >= 400)
    co_return co_await end_with(response.status, error_of(response.body, response.status));
  LM_CO_TRY_VOID(begin(response.status, std::move(response.headers)));
  co_return co_await end(response.body);
}

Task<Result<void>> RetoldExchange::fail(int status, Error error) {
  return end_with(status, std::move(error));
}

void RetoldExchange::add_header(std::string_view name, std::string_view value) {
  to_.add_header(name, value);
}

Result<void> RetoldExchange::begin(int status, http::Headers headers) {
  LM_ASSERT(!begun_, "an exchange is answered once");
  begun_ = true;
  if (status >= 400) {
    refused_ = status;
  } else {
    retelling_->begin(headers.get("Content-Type").value_or(""));
  }
  if (to_.client_gone()) return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
  return {};
}

Task<Result<void>> RetoldExchange::write(std::string_view bytes) {
  LM_ASSERT(begun_ && !ended_, "an answer is begun before it is written, and ends once");
  if (failure_) co_return Result<void>();
  if (refused_ != 0) {
    refusal_ += bytes.substr(0, kMostRefusal - std::min(kMostRefusal, refusal_.size()));
    co_return Result<void>();
  }
  auto told = retelling_->piece(bytes);
  if (!told) {
    failure_ = std::move(told).error();
    co_return Result<void>();
  }
  if (told->empty() && retelling_->streams() && now_() - told_at_ >= kQuiet)
    *told = retelling_->sign_of_life();
  if (told->empty()) co_return Result<void>();
  co_return co_await tell(*std::move(told));
}

Task<Result<void>> RetoldExchange::tell(std::string text) {
  told_at_ = now_();
  if (!to_.begun()) LM_CO_TRY_VOID(to_.begin(200, head()));
  co_return co_await to_.write(text);
}

Task<Result<void>> RetoldExchange::end(std::string_view last) {
  if (!last.empty()) LM_CO_TRY_VOID(co_await write(last));
  if (refused_ != 0) co_return co_await end_with(refused_, error_of(refusal_, refused_));
  if (failure_) co_return co_await end_with(http_status(*failure_), *failure_);
  auto told = retelling_->last();
  if (!told) co_return co_await end_with(http_status(told.error()), told.error());
  ended_ = true;
  if (to_.begun()) co_return co_await to_.end(*told);
  if (!retelling_->streams())
    co_return co_await to_.respond({.status = 200, .headers = head(), .body = *std::move(told)});
  LM_CO_TRY_VOID(to_.begin(200, head()));
  co_return co_await to_.end(*told);
}

Task<Result<void>> RetoldExchange::end_with(int status, Error error) {
  begun_ = ended_ = true;
  if (!to_.begun()) co_return co_await to_.fail(status, std::move(error));
  co_return co_await to_.end(json_text(json::object{{"error", error.message}}) + "\n");
}

Task<> RetoldExchange::close() {
  if (!begun_ || ended_ || to_.client_gone()) co_return;
  Error error = failure_.value_or(Error{.code = ErrorCode::kUnavailable,
                                        .message = "the answer broke off in the middle",
                                        .reason = "bad_upstream",
                                        .fields = {},
                                        .retry_after = {}});
  const int status = http_status(error);
  co_await end_with(status, std::move(error));
}

http::RawStream RetoldExchange::take_over() {
  LM_ASSERT(false, "an answer that is retold leaves no connection to take over");
  std::unreachable();
}

}  // namespace lm::api
