#include "http/session.h"

#include <ctime>
#include <exception>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"
#include "http/session_exchange.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;

constexpr std::size_t kScratch = 32u << 10;
constexpr std::size_t kReadAhead = 64u << 10;  // of later requests, while one is answered
constexpr std::size_t kTurnedAwayAtOnce = 64;  // who gets a 503 above the limit; more are just closed
constexpr std::size_t kLingerBytes = 8u << 20;
constexpr std::size_t kSmallInput = 2u << 10;
constexpr Duration kLingerTime = std::chrono::seconds(1);
constexpr Duration kEndPoll = std::chrono::milliseconds(250);

Refusal timed_out(std::string what) {
  return {.status = 408,
          .error = fail(ErrorCode::kDeadlineExceeded, std::move(what), "request_timeout").error(),
          .headers = {}};
}

}  // namespace

ServerCore::ServerCore(asio::any_io_executor executor_, Router router_, ServerOptions options)
    : executor(std::move(executor_)),
      router(std::move(router_)),
      limits(options.limits),
      admission(options.admission),
      gate(executor),
      error_body_(std::move(options.error_body)) {}

void ServerCore::accept(int descriptor, Peer peer) {
  auto socket = Socket::adopt(executor, descriptor);
  auto hold = gate.enter();
  if (!hold || sessions_.size() >= limits.connections + kTurnedAwayAtOnce) return;
  if (scratch.empty()) scratch.resize(kScratch);
  const bool turn_away = sessions_.size() >= limits.connections;
  auto session = std::make_shared<Session>(shared_from_this(), std::move(socket), std::move(peer), turn_away);
  const auto slot = session->slot();
  auto* raw = session.get();
  asio::co_spawn(executor, raw->run(),
                 asio::bind_cancellation_slot(
                     slot, [session = std::move(session), hold = std::move(*hold)](std::exception_ptr) {}));
}

void ServerCore::end_idle_sessions() {
  for (Session* session : std::vector<Session*>(sessions_.begin(), sessions_.end())) session->end_if_idle();
}

void ServerCore::cancel_sessions() {
  for (Session* session : std::vector<Session*>(sessions_.begin(), sessions_.end())) session->cancel();
}

Body ServerCore::error_body(const Error& error, const Request& request) const {
  if (error_body_) return error_body_(error, request);
  return {.content_type = "text/plain; charset=utf-8", .text = error.message + "\n"};
}

std::string_view ServerCore::date() {
  const std::time_t now = std::time(nullptr);
  if (now != date_second_) {
    date_second_ = now;
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                              "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    date_ =
        fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[parts.tm_wday], parts.tm_mday,
                    kMonths[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min, parts.tm_sec);
  }
  return date_;
}

Session::Session(std::shared_ptr<ServerCore> core, std::shared_ptr<Socket> socket, Peer peer, bool turn_away)
    : core_(std::move(core)), socket_(std::move(socket)), peer_(std::move(peer)), turn_away_(turn_away) {
  core_->sessions_.insert(this);
}

Session::~Session() {
  core_->sessions_.erase(this);
}

void Session::end_if_idle() {
  if (idle_) signal_.emit(asio::cancellation_type::terminal);
}

void Session::cancel() {
  stopping_ = true;
  signal_.emit(asio::cancellation_type::terminal);
}

Task<void> Session::run() {
  const auto self = shared_from_this();
  try {
    while (co_await serve_one()) {
    }
    if (unread_ && !gone_) co_await linger();
  } catch (const std::exception& error) {
    // Only a cancellation comes this far by exception; anything else has been answered with a 500 before.
    if (!stopping_ && !gone_ && !core_->draining) log::error("http session: {}", error.what());
  }
  stop_watching();
  socket_->close();
}

Task<bool> Session::serve_one() {
  auto received = co_await receive();
  if (!received) co_return false;
  SessionExchange exchange(*this, std::move(received->request));
  exchange.principal_ = received->visitor.principal;
  exchange.client_ = std::move(received->visitor.client);
  exchange.extra_headers_ = std::move(received->visitor.headers);
  exchange.keep_alive_ = received->keep_alive;
  const Route* route = received->route;
  std::optional<Refusal> refusal = std::move(received->refusal);
  std::optional<Response> preflight = std::move(received->visitor.preflight);
  received.reset();

  if (refusal) {
    const Body body = core_->error_body(refusal->error, exchange.request_);
    Response response{.status = refusal->status, .headers = std::move(refusal->headers), .body = body.text};
    response.headers.set("Content-Type", body.content_type);
    if (!co_await exchange.respond(std::move(response))) co_return false;
  } else if (preflight) {
    if (!co_await exchange.respond(std::move(*preflight))) co_return false;
  } else {
    co_await run_route(exchange, *route);
  }
  if (!exchange.keep_alive_ && !input_.empty()) unread_ = true;
  co_return exchange.keep_alive_&& exchange.state_ == SessionExchange::State::kEnded && !gone_;
}

Task<std::optional<Session::Received>> Session::receive() {
  RequestParser parser({.header = static_cast<std::size_t>(core_->limits.header.count()),
                        .body = static_cast<std::uint64_t>(core_->limits.body.count())});
  Received received;
  auto header = co_await receive_header(parser);
  idle_ = false;
  if (header && !*header) co_return std::nullopt;
  const bool understood = header.has_value();
  if (!understood) {
    received.request = std::move(parser.request());
    received.refusal = std::move(header).error();
    unread_ = true;
  } else {
    parser.request().peer = peer_;
    received.request = std::move(parser.request());
    judge(received);
    parser.request() = {};
  }
  const bool body_wanted = !received.refusal && !received.visitor.preflight;
  if (body_wanted && !parser.done()) {
    if (received.request.headers.has("Expect") && input_.empty() && received.request.version == 11) {
      if (!co_await socket_->write({"HTTP/1.1 100 Continue\r\n\r\n"}, core_->limits.write_silence))
        co_return std::nullopt;
    }
    auto body = co_await receive_body(parser);
    if (body && !*body) co_return std::nullopt;
    if (!body) {
      received.refusal = std::move(body).error();
      unread_ = true;
    }
    received.request.body = std::move(parser.request().body);
  }
  received.keep_alive = understood && parser.done() && parser.keep_alive() && !turn_away_;
  if (!parser.done()) unread_ = true;
  if (input_.empty() && input_.capacity() > kSmallInput) input_ = std::string();
  co_return received;
}

// False: closed without a word.
Task<std::expected<bool, Refusal>> Session::receive_header(RequestParser& parser) {
  Deadline deadline = deadline_in(core_->limits.idle);
  idle_ = true;
  for (;;) {
    while (!input_.empty()) {
      const auto taken = parser.feed(input_);
      if (!taken) co_return std::unexpected(taken.error());
      input_.erase(0, *taken);
      if (parser.header_done()) co_return true;
      if (*taken == 0) break;
    }
    if (parser.started() && idle_) {
      idle_ = false;
      deadline = deadline_in(core_->limits.header_time);
    }
    if (idle_ && core_->draining) co_return false;
    const auto got = co_await socket_->read(core_->scratch, deadline);
    if (!got && got.error().code == ErrorCode::kDeadlineExceeded && !idle_) {
      co_return std::unexpected(timed_out("the request's header took too long"));
    }
    if (!got || *got == 0) co_return false;
    input_.append(core_->scratch.data(), *got);
  }
}

Task<std::expected<bool, Refusal>> Session::receive_body(RequestParser& parser) {
  std::string_view fresh = input_;
  for (;;) {
    if (!fresh.empty()) {
      const auto taken = parser.feed(fresh);
      if (!taken) co_return std::unexpected(taken.error());
      fresh.remove_prefix(*taken);
      // `fresh` may lie in input_ itself.
      input_ = std::string(fresh);
      if (parser.done()) co_return true;
    }
    const auto got = co_await socket_->read(core_->scratch, deadline_in(core_->limits.body_silence));
    if (!got && got.error().code == ErrorCode::kDeadlineExceeded) {
      co_return std::unexpected(timed_out("the request's body stopped coming"));
    }
    if (!got || *got == 0) co_return false;
    fresh = {core_->scratch.data(), *got};
    if (!input_.empty()) {
      input_.append(fresh);
      fresh = input_;
    }
  }
}

void Session::judge(Received& received) const {
  if (turn_away_) {
    Error error = fail(ErrorCode::kResourceExhausted, "too many connections", "too_many_connections").error();
    received.refusal = Refusal{.status = 503, .error = std::move(error), .headers = {{"Retry-After", "1"}}};
    return;
  }
  auto visitor = core_->admission.identify(received.request);
  if (!visitor) {
    received.refusal = std::move(visitor).error();
    return;
  }
  received.visitor = std::move(*visitor);
  if (received.visitor.preflight) return;
  const auto route = core_->router.find(received.request);
  if (!route) {
    received.refusal = route.error();
    return;
  }
  received.refusal = Admission::demand(received.visitor, (*route)->needs);
  received.route = *route;
}

Task<void> Session::run_route(SessionExchange& exchange, const Route& route) {
  current_ = &exchange;
  watch();
  std::string thrown;
  try {
    co_await route.run(exchange);
  } catch (const std::exception& error) {
    thrown = error.what();
  } catch (...) {
    thrown = "something that is no exception";
  }
  stop_watching();
  current_ = nullptr;
  if (gone_) co_return;
  const bool cancelled =
      (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none;
  if (cancelled) co_await asio::this_coro::reset_cancellation_state();
  const Request& request = exchange.request();
  if (!thrown.empty() && !cancelled)
    log::error("{} {}: the route threw: {}", request.method_text, request.path, thrown);

  if (exchange.ended()) co_return;
  if (exchange.begun()) {
    // The client must see that its answer is not whole.
    if (!cancelled) log::warning("{} {}: the answer was cut short", request.method_text, request.path);
    gone_ = true;
    socket_->close();
    co_return;
  }
  exchange.keep_alive_ = exchange.keep_alive_ && !cancelled;
  if (cancelled) {
    co_await exchange.fail(503,
                           lm::fail(ErrorCode::kUnavailable, "the server is stopping", "stopping").error());
  } else {
    if (thrown.empty()) log::error("{} {}: the route did not answer", request.method_text, request.path);
    co_await exchange.fail(500, lm::fail(ErrorCode::kInternal, "internal error", "no_answer").error());
  }
}

// Closing with unread bytes makes the kernel send a reset, which can overtake our last answer: read the rest
// away first.
Task<void> Session::linger() {
  socket_->shutdown_send();
  const Deadline deadline = deadline_in(kLingerTime);
  for (std::size_t total = 0; total < kLingerBytes;) {
    const auto got = co_await socket_->read(core_->scratch, deadline);
    if (!got || *got == 0) co_return;
    total += *got;
  }
}

void Session::watch() {
  socket_->watch([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->look();
  });
}

void Session::look() {
  while (input_.size() < kReadAhead) {
    const auto got = socket_->try_read(core_->scratch);
    if (!got || (*got && **got == 0)) return client_left();
    if (!*got) return watch();
    input_.append(core_->scratch.data(), **got);
  }
  look_for_end_only();
}

// With so much read ahead the rest stays in the kernel, where readiness says nothing new: ask now and then.
void Session::look_for_end_only() {
  if (socket_->peer_closed()) return client_left();
  if (!end_poll_) end_poll_.emplace(core_->executor);
  end_poll_->expires_after(kEndPoll);
  end_poll_->async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
    const auto self = weak.lock();
    if (!ec && self) self->look_for_end_only();
  });
}

void Session::stop_watching() {
  socket_->watch(nullptr);
  end_poll_.reset();
}

void Session::client_left() {
  gone_ = true;
  socket_->close();
  signal_.emit(asio::cancellation_type::terminal);
}

}  // namespace lm::http
