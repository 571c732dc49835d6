#include "hub/fetcher.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

#include "base/latch.h"
#include "wire/openai.h"

namespace lm::hub {
namespace {

constexpr int kMostRedirections = 10;
constexpr std::size_t kComplaint = 64u << 10;
// A server that wants to be left alone for longer than this is not waited for.
constexpr Duration kLongestAsked = std::chrono::minutes(10);

std::optional<Duration> retry_after(const http::Headers& headers) {
  const auto text = headers.get("Retry-After");
  if (!text) return std::nullopt;
  int seconds = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), seconds);
  // Its other form is a date, which needs both clocks to be right: the usual back-off does instead.
  if (error != std::errc() || end != text->data() + text->size() || seconds < 0) return std::nullopt;
  return std::chrono::seconds(seconds);
}

Error refusal(int status, const Address& address, std::string_view said, const http::Headers& headers) {
  Error error{.code = ErrorCode::kUnavailable,
              .message = fmt::format("{} answered {}", address.text(), status),
              .reason = "bad_upstream",
              .fields = {{"status", std::int64_t{status}}},
              .retry_after = {}};
  if (!said.empty()) error.message += fmt::format(": {}", said);
  const auto is = [&](ErrorCode code, std::string reason) {
    error.code = code;
    error.reason = std::move(reason);
  };
  if (status == 404 || status == 410) is(ErrorCode::kNotFound, "not_found");
  // Not ours to be asked for: whoever talks to the daemon has the right key.
  if (status == 401) is(ErrorCode::kPermissionDenied, "unauthorized");
  if (status == 403) is(ErrorCode::kPermissionDenied, "forbidden");
  if (status == 429) is(ErrorCode::kResourceExhausted, "rate_limited");
  if (status >= 500) is(ErrorCode::kUnavailable, "server_error");
  if (status == 429 || status == 503) error.retry_after = retry_after(headers);
  return error;
}

}  // namespace

struct Fetcher::Impl {
  boost::asio::any_io_executor executor;
  const Surroundings& surroundings;
  std::optional<Address> hub;
  std::map<std::string, std::shared_ptr<http::Client>> clients;
};

Fetcher::Fetcher(boost::asio::any_io_executor executor, const Surroundings& surroundings)
    : impl_(std::make_unique<Impl>(
          Impl{.executor = std::move(executor), .surroundings = surroundings, .hub = {}, .clients = {}})) {
  if (auto hub = Address::parse(surroundings.hub_url)) impl_->hub = *std::move(hub);
}

Fetcher::~Fetcher() = default;

Result<std::shared_ptr<http::Client>> Fetcher::client_for(const http::Endpoint& endpoint) {
  auto& client = impl_->clients[endpoint.text()];
  if (!client) {
    LM_TRY(auto proxy, impl_->surroundings.proxy_for(endpoint));
    client = std::make_shared<http::Client>(
        impl_->executor, endpoint,
        http::ClientOptions{.kept_connections = 16, .ca_file = {}, .proxy = std::move(proxy)});
  }
  return client;
}

Task<Result<Fetched>> Fetcher::get(Address address, http::Headers headers) {
  const Tuning& tuning = impl_->surroundings.tuning;
  headers.set("User-Agent", "llm-manager");
  headers.set("Accept-Encoding", "identity");
  for (int hop = 0; hop <= kMostRedirections; ++hop) {
    http::Headers sent = headers;
    if (!impl_->surroundings.hub_token.empty() && impl_->hub && impl_->hub->same_origin(address))
      sent.set("Authorization", "Bearer " + impl_->surroundings.hub_token);
    LM_CO_TRY(const std::shared_ptr<http::Client> client, client_for(address.endpoint));
    http::ClientRequest request{.method = http::Method::kGet,
                                .target = address.target,
                                .headers = std::move(sent),
                                .body = {},
                                .interruption = {}};
    LM_CO_TRY(http::ClientResponse response,
              co_await client->send(
                  std::move(request),
                  {.connect = tuning.silence, .first_byte = tuning.silence, .silence = tuning.silence}));
    const int status = response.status();
    if (status == 200 || status == 206)
      co_return Fetched{.response = std::move(response), .from = std::move(address)};
    const auto location = response.headers().get("Location");
    const bool moves = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (moves && location) {
      LM_CO_TRY(address, address.redirected(*location));
      continue;
    }
    const auto body = co_await response.read_all(kComplaint);
    co_return fail(refusal(status, address, body ? wire::decode_complaint(*body) : "", response.headers()));
  }
  co_return fail(ErrorCode::kUnavailable, fmt::format("{}: it redirects in a circle", address.text()),
                 "bad_upstream");
}

Task<Result<std::string>> Fetcher::read(Address address, http::Headers headers, std::size_t limit) {
  for (int failures = 1;; ++failures) {
    Error error;
    auto fetched = co_await get(address, headers);
    if (fetched) {
      auto body = co_await fetched->response.read_all(limit);
      if (body) co_return body;
      error = std::move(body).error();
    } else {
      error = std::move(fetched).error();
    }
    if (!may_pass(error) || failures >= impl_->surroundings.tuning.attempts) co_return fail(std::move(error));
    co_await back_off(failures, error.retry_after);
  }
}

bool Fetcher::may_pass(const Error& error) {
  if (error.retry_after && *error.retry_after > kLongestAsked) return false;
  if (error.code == ErrorCode::kDeadlineExceeded || error.reason == "rate_limited") return true;
  if (error.code != ErrorCode::kUnavailable) return false;
  // A status of the four hundreds stays what it is, and so does a certificate.
  const auto status = error.number("status");
  if (status && *status < 500 && *status != 408) return false;
  return error.reason != "tls_failed" && error.reason != "proxy_refused";
}

Task<> Fetcher::back_off(int failures, std::optional<Duration> retry_after) {
  Duration wait = impl_->surroundings.tuning.backoff * (1 << std::min(failures - 1, 16));
  wait = std::min(wait, kLongestBackoff);
  if (retry_after) wait = *retry_after;
  const Latch never(impl_->executor);
  co_await never.wait(wait);
}

}  // namespace lm::hub
