#include "backend/caller.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/clock.h"
#include "base/latch.h"
#include "wire/openai.h"

namespace lm::backend {
namespace {

constexpr std::size_t kLargestAnswer = std::size_t{16} << 20;
constexpr Duration kConnect = std::chrono::seconds(5);

}  // namespace

TimePoint now() {
  return SteadyClock().now();
}

Caller::Caller(boost::asio::any_io_executor executor, std::shared_ptr<http::Client> client, std::string key)
    : executor_(std::move(executor)), client_(std::move(client)), key_(std::move(key)) {}

http::Headers Caller::headers() const {
  http::Headers headers;
  if (!key_.empty()) headers.add("Authorization", "Bearer " + key_);
  return headers;
}

Task<Result<Answer>> Caller::get(std::string target, TimePoint by) const {
  return ask({.method = http::Method::kGet, .target = std::move(target), .headers = headers(), .body = {}},
             by);
}

Task<Result<Answer>> Caller::post(std::string target, std::string json, TimePoint by,
                                  std::shared_ptr<http::Interruption> interruption) const {
  http::ClientRequest request{.method = http::Method::kPost,
                              .target = std::move(target),
                              .headers = headers(),
                              .body = std::move(json),
                              .interruption = std::move(interruption)};
  if (!request.body.empty()) request.headers.set("Content-Type", "application/json");
  return ask(std::move(request), by);
}

Task<Result<Answer>> Caller::ask(http::ClientRequest request, TimePoint by) const {
  const auto client = client_;  // this may be gone when the answer comes
  const auto late = [&client] {
    return fail(ErrorCode::kDeadlineExceeded, client->endpoint().text() + " has not answered in time",
                "first_byte_timeout");
  };
  const Duration left = by - now();
  if (left <= Duration::zero()) co_return late();
  // The parts of a request have limits of their own, which together are what is left.
  LM_CO_TRY(auto response, co_await client->send(std::move(request), {.connect = std::min(kConnect, left / 8),
                                                                      .first_byte = left * 3 / 4,
                                                                      .silence = left / 8}));
  Answer answer{.status = response.status(), .body = {}};
  for (;;) {
    LM_CO_TRY(const auto piece, co_await response.read());
    if (!piece) co_return answer;
    if (answer.body.size() + piece->size() > kLargestAnswer) {
      co_return fail(
          ErrorCode::kResourceExhausted,
          fmt::format("{}: the answer is larger than {} bytes", client->endpoint().text(), kLargestAnswer),
          "answer_too_large");
    }
    answer.body.append(*piece);
    // One that sends a byte now and then is never silent, and never done.
    if (now() > by) co_return late();
  }
}

Error Caller::unexpected(std::string_view method, std::string_view target, const Answer& answer) const {
  std::string words = wire::decode_complaint(answer.body);
  // Some quote the key that they refuse.
  if (!key_.empty()) {
    for (std::size_t at = 0; (at = words.find(key_, at)) != std::string::npos;)
      words.replace(at, key_.size(), "…");
  }
  std::string message = fmt::format("{}: {} {} was answered {}{}{}", where(), method, target, answer.status,
                                    words.empty() ? "" : ": ", words);
  if (answer.status == 401 || answer.status == 403) message += "; check its key (api_key_env, api_key_file)";
  return Error{.code = ErrorCode::kUnavailable,
               .message = std::move(message),
               .reason = "bad_upstream",
               .fields = {{"status", std::int64_t{answer.status}}},
               .retry_after = {}};
}

Task<bool> Caller::pause(Duration pause, TimePoint by) const {
  const Latch never(executor_);
  const Duration left = by - now();
  if (left > Duration::zero()) co_await never.wait(std::min(pause, left));
  co_return now() < by;
}

Error still_resident(std::string_view where, const std::vector<std::string>& models) {
  return Error{.code = ErrorCode::kDeadlineExceeded,
               .message = fmt::format("{} was asked to give up its memory and still shows {}", where,
                                      fmt::join(models, ", ")),
               .reason = "still_resident",
               .fields = {{"models", fmt::format("{}", fmt::join(models, ", "))}},
               .retry_after = {}};
}

Error cannot_yield(std::string_view where, std::string_view why) {
  return Error{.code = ErrorCode::kFailedPrecondition,
               .message = fmt::format("{} cannot be asked to give up its memory: {}", where, why),
               .reason = "cannot_yield",
               .fields = {},
               .retry_after = {}};
}

}  // namespace lm::backend
