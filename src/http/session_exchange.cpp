#include "http/session_exchange.h"

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <iterator>
#include <utility>

#include <boost/asio/post.hpp>
#include <fmt/format.h>

#include "base/assert.h"
#include "http/session.h"

namespace lm::http {
namespace {

bool has_no_body(int status) {
  return status / 100 == 1 || status == 204 || status == 304;
}

// What frames a message is decided here, never by a route.
bool is_framing(std::string_view name) {
  return equals_ignoring_case(name, "Content-Length") || equals_ignoring_case(name, "Transfer-Encoding") ||
         equals_ignoring_case(name, "Connection");
}

std::optional<std::uint64_t> content_length(const Headers& headers) {
  const auto text = headers.get("Content-Length");
  std::uint64_t value = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), value).ec != std::errc())
    return std::nullopt;
  return value;
}

}  // namespace

Task<Result<std::size_t>> RawStream::read(std::span<char> into, Duration silence) {
  std::string& early = session_->input_;
  if (!early.empty()) {
    const std::size_t n = std::min(early.size(), into.size());
    std::copy_n(early.begin(), n, into.begin());
    early.erase(0, n);
    co_return n;
  }
  co_return co_await session_->socket_->read(into, deadline_in(silence));
}

Task<Result<void>> RawStream::write(std::string_view bytes) {
  return session_->socket_->write({bytes}, session_->core_->limits.write_silence);
}

void RawStream::close() {
  session_->socket_->close();
}

SessionExchange::SessionExchange(Session& session, Request request)
    : Exchange(std::move(request)), session_(session) {}

boost::asio::any_io_executor SessionExchange::executor() const {
  return session_.core_->executor;
}

bool SessionExchange::client_gone() const {
  return session_.gone_;
}

std::string SessionExchange::make_head(int status, const Headers& headers,
                                       std::optional<std::uint64_t> length) {
  if (session_.core_->draining) keep_alive_ = false;
  std::string head;
  head.reserve(256);
  auto out = std::back_inserter(head);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  for (const Headers* fields : std::initializer_list<const Headers*>{&headers, &extra_headers_}) {
    for (const Header& field : *fields) {
      if (!is_framing(field.name)) fmt::format_to(out, "{}: {}\r\n", field.name, field.value);
    }
  }
  if (!headers.has("Date")) fmt::format_to(out, "Date: {}\r\n", session_.core_->date());
  if (length && status / 100 != 1 && status != 204) fmt::format_to(out, "Content-Length: {}\r\n", *length);
  if (framing_ == Framing::kChunked) head += "Transfer-Encoding: chunked\r\n";
  if (!keep_alive_) {
    head += "Connection: close\r\n";
  } else if (request_.version == 10) {
    head += "Connection: keep-alive\r\n";
  }
  head += "\r\n";
  return head;
}

void SessionExchange::add_header(std::string_view name, std::string_view value) {
  LM_ASSERT(state_ == State::kOpen, "the head of an answer travels first");
  extra_headers_.set(name, value);
}

Task<Result<void>> SessionExchange::respond(Response response) {
  LM_ASSERT(state_ == State::kOpen, "an exchange is answered once");
  const bool bodiless = request_.method == Method::kHead || has_no_body(response.status);
  framing_ = bodiless ? Framing::kNone : Framing::kLength;
  remaining_ = response.body.size();
  head_ = make_head(response.status, response.headers, response.body.size());
  state_ = State::kBegun;
  co_return co_await send(response.body, true);
}

Task<Result<void>> SessionExchange::fail(int status, Error error) {
  Body body = session_.core_->error_body(error, request_);
  Response response{.status = status, .headers = {}, .body = std::move(body.text)};
  response.headers.add("Content-Type", body.content_type);
  if (error.retry_after) {
    const auto whole = std::chrono::ceil<std::chrono::seconds>(*error.retry_after).count();
    response.headers.add("Retry-After", std::to_string(std::max<std::int64_t>(whole, 1)));
  }
  return respond(std::move(response));
}

Result<void> SessionExchange::begin(int status, Headers headers) {
  LM_ASSERT(state_ == State::kOpen, "an exchange is answered once");
  const auto length = content_length(headers);
  if (request_.method == Method::kHead || has_no_body(status)) {
    framing_ = Framing::kNone;
  } else if (length) {
    framing_ = Framing::kLength;
    remaining_ = *length;
  } else if (request_.version == 11) {
    framing_ = Framing::kChunked;
  } else {
    framing_ = Framing::kUntilClose;
    keep_alive_ = false;
  }
  head_ = make_head(status, headers, length);
  state_ = State::kBegun;
  boost::asio::post(session_.core_->executor, [weak = session_.weak_from_this()] {
    const auto session = weak.lock();
    if (session && session->current_ != nullptr) session->current_->flush_head();
  });
  return check_alive();
}

// The header alone, when the first piece is not at hand. What the socket does not take now goes with that
// piece.
void SessionExchange::flush_head() {
  if (state_ != State::kBegun || writing_ || head_.empty() || session_.gone_) return;
  if (const auto sent = session_.socket_->try_write({head_}); sent && *sent) head_.erase(0, **sent);
}

Task<Result<void>> SessionExchange::write(std::string_view bytes) {
  return send(bytes, false);
}

Task<Result<void>> SessionExchange::end(std::string_view last) {
  return send(last, true);
}

Result<void> SessionExchange::check_alive() const {
  if (session_.gone_ || state_ == State::kFailed) {
    return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
  }
  return {};
}

Task<Result<void>> SessionExchange::send(std::string_view bytes, bool last) {
  LM_ASSERT(state_ == State::kBegun || state_ == State::kFailed,
            "an answer is begun before it is written, and ends once");
  LM_ASSERT(!writing_, "one writer at a time");
  LM_CO_TRY_VOID(check_alive());

  const std::string head = std::exchange(head_, {});
  std::string_view body = bytes;
  char size_line[24];
  std::string_view size;
  std::string_view tail;
  switch (framing_) {
    case Framing::kNone:
      body = {};
      break;
    case Framing::kLength:
      LM_ASSERT(body.size() <= remaining_, "an answer is not longer than its Content-Length");
      remaining_ -= body.size();
      break;
    case Framing::kChunked:
      if (!body.empty()) {
        const auto end = fmt::format_to(size_line, "{:x}\r\n", body.size());
        size = {size_line, end};
        tail = last ? "\r\n0\r\n\r\n" : "\r\n";
      } else if (last) {
        tail = "0\r\n\r\n";
      }
      break;
    case Framing::kUntilClose:
      break;
  }

  writing_ = true;
  Result<void> sent =
      co_await session_.socket_->write({head, size, body, tail}, session_.core_->limits.write_silence);
  writing_ = false;
  if (sent && last && framing_ == Framing::kLength && remaining_ != 0) {
    sent = lm::fail(ErrorCode::kInternal, "the answer is shorter than its Content-Length", "short_answer");
  }
  if (!sent) {
    // A piece may be half out: nothing can follow it.
    state_ = State::kFailed;
    if (sent.error().code == ErrorCode::kDeadlineExceeded) {
      session_.gone_ = true;
      co_return lm::fail(ErrorCode::kDeadlineExceeded, "the client has stopped reading", "client_stalled");
    }
    if (sent.error().code == ErrorCode::kUnavailable) {
      session_.gone_ = true;
      co_return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
    }
    co_return sent;
  }
  if (last) state_ = State::kEnded;
  co_return sent;
}

RawStream SessionExchange::take_over() {
  LM_ASSERT(state_ == State::kOpen, "a connection is taken over before it is answered");
  state_ = State::kUpgraded;
  session_.stop_watching();
  return RawStream(session_);
}

}  // namespace lm::http
