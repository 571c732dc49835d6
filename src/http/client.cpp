#include "http/client.h"

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/assert.h"
#include "http/connect.h"
#include "http/parser.h"
#include "http/stream.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kScratch = 32u << 10;
constexpr std::size_t kSmallBody = 64u << 10;

// Gives a low-level failure its reason in this room's words, and says which upstream it was.
Error explain(Error error, std::string_view timeout_reason, const Endpoint& endpoint) {
  if (error.code == ErrorCode::kDeadlineExceeded) error.reason = timeout_reason;
  return std::move(error).with_context(endpoint.text());
}

}  // namespace

// A connection and when it was last used.
struct Kept {
  std::unique_ptr<Stream> stream;
  SteadyClock::time_point since;
};

struct ClientPool : std::enable_shared_from_this<ClientPool> {
  ClientPool(asio::any_io_executor e, Endpoint where, ClientOptions o)
      : executor(std::move(e)), endpoint(std::move(where)), options(std::move(o)), expiry(executor) {}

  // The most recently used connection that is still good, or none.
  std::unique_ptr<Stream> take() {
    while (!kept.empty()) {
      std::unique_ptr<Stream> stream = std::move(kept.back().stream);
      const bool old = kept.back().since + options.kept_for <= SteadyClock::now();
      kept.pop_back();
      if (old) continue;  // its server may be closing it now, and our timer is late
      stream->socket().watch(nullptr);
      if (endpoint.kind == Endpoint::Kind::kHttps) {
        if (stream->socket().peer_closed()) continue;
      } else {
        // Anything to read now is an end or an answer nobody asked for.
        char byte;
        const auto got = stream->socket().try_read({&byte, 1});
        if (!got || *got) continue;
      }
      return stream;
    }
    return nullptr;
  }

  void keep(std::unique_ptr<Stream> stream) {
    if (closed || options.kept_connections == 0) return;
    if (kept.size() >= options.kept_connections) kept.pop_front();
    // A server that closes an idle connection is noticed at once. TLS may talk to itself: there only the end
    // counts.
    Socket* socket = &stream->socket();
    if (endpoint.kind != Endpoint::Kind::kHttps) {
      socket->watch([weak = weak_from_this(), socket] {
        if (const auto pool = weak.lock()) pool->drop(socket);
      });
    }
    kept.push_back({std::move(stream), SteadyClock::now()});
    if (kept.size() == 1) expire_later();
  }

  void drop(const Socket* socket) {
    std::erase_if(kept, [&](const Kept& one) { return &one.stream->socket() == socket; });
  }

  void expire_later() {
    expiry.expires_at(kept.front().since + options.kept_for);
    expiry.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
      const auto pool = weak.lock();
      if (ec || !pool) return;
      const auto old = SteadyClock::now() - pool->options.kept_for;
      while (!pool->kept.empty() && pool->kept.front().since <= old) pool->kept.pop_front();
      if (!pool->kept.empty()) pool->expire_later();
    });
  }

  void close() {
    closed = true;
    kept.clear();
    expiry.cancel();
  }

  Task<Result<std::unique_ptr<Stream>>> open(Deadline deadline) {
    const auto self = shared_from_this();
    if (scratch.empty()) scratch.resize(kScratch);
    LM_CO_TRY(std::shared_ptr<Socket> socket,
              co_await connect(executor, options.proxy ? options.proxy->endpoint : endpoint, deadline));
    if (endpoint.kind != Endpoint::Kind::kHttps) co_return make_plain_stream(std::move(socket));
    if (options.proxy) LM_CO_TRY_VOID(co_await tunnel(socket, deadline));
    if (!tls) {
      LM_CO_TRY(tls, TlsContext::make(options.ca_file));
    }
    co_return co_await tls->connect(std::move(socket), endpoint.host, deadline);
  }

  // Has the proxy connect us with the endpoint. What follows on the socket is the endpoint's.
  Task<Result<void>> tunnel(std::shared_ptr<Socket> socket, Deadline deadline) {
    const std::string where = authority(endpoint.port);
    std::string head = fmt::format("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n", where);
    if (!options.proxy->authorization.empty())
      head += "Proxy-Authorization: " + options.proxy->authorization + "\r\n";
    head += "\r\n";
    const Duration left = std::max(Duration(), Duration(deadline - SteadyClock::now()));
    LM_CO_TRY_VOID(co_await socket->write({head, {}}, left));
    // Of a CONNECT's answer only the header matters, as of a HEAD's.
    ResponseParser parser({.header = options.header_limit, .body = 0}, true);
    std::string input, body;
    while (!parser.header_done()) {
      LM_CO_TRY(const std::size_t got, co_await socket->read(scratch, deadline));
      if (got == 0) co_return fail(ErrorCode::kUnavailable, "the proxy hung up", "proxy_refused");
      input.append(scratch.data(), got);
      LM_CO_TRY(const std::size_t taken, parser.feed(input, body));
      input.erase(0, taken);
    }
    if (parser.status() / 100 != 2) {
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("the proxy {} does not connect us: it answered {}",
                                 options.proxy->endpoint.text(), parser.status()),
                     "proxy_refused");
    }
    co_return Result<void>{};
  }

  std::string authority(std::optional<std::uint16_t> port) const {
    const bool is_v6 = endpoint.host.find(':') != std::string::npos;
    std::string text = is_v6 ? "[" + endpoint.host + "]" : endpoint.host;
    return port ? fmt::format("{}:{}", text, *port) : text;
  }

  std::string head_of(const ClientRequest& request) const {
    std::string head;
    head.reserve(256);
    auto out = std::back_inserter(head);
    const bool through_proxy = options.proxy && endpoint.kind == Endpoint::Kind::kHttp;
    fmt::format_to(out, "{} {}{}{} HTTP/1.1\r\n", to_string(request.method),
                   through_proxy ? "http://" + authority(endpoint.port) : "", endpoint.base_path,
                   request.target);
    if (through_proxy && !options.proxy->authorization.empty())
      fmt::format_to(out, "Proxy-Authorization: {}\r\n", options.proxy->authorization);
    if (endpoint.kind == Endpoint::Kind::kUnix) {
      head += "Host: localhost\r\n";
    } else {
      const bool is_default = endpoint.port == (endpoint.kind == Endpoint::Kind::kHttps ? 443 : 80);
      fmt::format_to(out, "Host: {}\r\n",
                     authority(is_default ? std::nullopt : std::optional(endpoint.port)));
    }
    for (const Header& field : request.headers) {
      if (equals_ignoring_case(field.name, "Host") || equals_ignoring_case(field.name, "Content-Length"))
        continue;
      fmt::format_to(out, "{}: {}\r\n", field.name, field.value);
    }
    const bool has_body = !request.body.empty() || request.method == Method::kPost ||
                          request.method == Method::kPut || request.method == Method::kPatch;
    if (has_body) fmt::format_to(out, "Content-Length: {}\r\n", request.body.size());
    head += "\r\n";
    return head;
  }

  const asio::any_io_executor executor;
  const Endpoint endpoint;
  const ClientOptions options;
  std::deque<Kept> kept;  // least recently used first
  asio::steady_timer expiry;
  std::shared_ptr<TlsContext> tls;
  // Where every answer is read into: bytes are taken out of it before anybody else runs.
  std::vector<char> scratch;
  bool closed = false;
};

struct ClientResponse::Impl {
  Impl(std::shared_ptr<ClientPool> p, std::unique_ptr<Stream> s, bool head_only, Timeouts t)
      : pool(std::move(p)),
        stream(std::move(s)),
        parser({.header = pool->options.header_limit, .body = UINT64_MAX}, head_only),
        timeouts(t) {}

  // Reads once from the connection and parses; decoded bytes are added to `body`.
  Task<Result<void>> advance(Deadline deadline) {
    LM_CO_TRY(const std::size_t got, co_await stream->read(pool->scratch, deadline));
    if (got == 0) {
      can_keep = false;
      if (!parser.started()) ended_at_once = true;
      co_return parser.feed_end();
    }
    std::string_view fresh(pool->scratch.data(), got);
    if (!input.empty()) {
      input.append(fresh);
      fresh = input;
    }
    LM_CO_TRY(const std::size_t taken, parser.feed(fresh, body));
    // `fresh` may lie in input itself.
    input = std::string(fresh.substr(taken));
    co_return Result<void>{};
  }

  void finish() {
    if (can_keep && parser.keep_alive() && input.empty()) {
      pool->keep(std::move(stream));
    } else {
      stream.reset();
    }
  }

  std::shared_ptr<ClientPool> pool;
  std::unique_ptr<Stream> stream;  // null once the answer has ended
  ResponseParser parser;
  Timeouts timeouts;
  std::string input;  // received, not yet parsed
  std::string body;   // parsed, not yet given out, or given out by the last read()
  Duration first_byte_after{};
  bool body_given = false;
  bool can_keep = true;
  bool ended_at_once = false;  // closed without a byte of an answer
  bool reading = false;
};

ClientResponse::ClientResponse(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClientResponse::ClientResponse(ClientResponse&&) noexcept = default;
ClientResponse& ClientResponse::operator=(ClientResponse&&) noexcept = default;
ClientResponse::~ClientResponse() = default;

int ClientResponse::status() const {
  return impl_->parser.status();
}
const Headers& ClientResponse::headers() const {
  return impl_->parser.headers();
}
bool ClientResponse::complete() const {
  return impl_->parser.done();
}
Duration ClientResponse::first_byte_after() const {
  return impl_->first_byte_after;
}

Task<Result<std::optional<std::string_view>>> ClientResponse::read() {
  Impl& impl = *impl_;
  LM_ASSERT(!impl.reading, "one reader at a time");
  if (std::exchange(impl.body_given, false)) {
    impl.body.clear();
    if (impl.body.capacity() > kSmallBody) impl.body = std::string();
  }
  struct Reading {
    explicit Reading(bool& f) : flag(f) { flag = true; }
    ~Reading() { flag = false; }
    bool& flag;
  };
  const Reading reading(impl.reading);
  while (impl.body.empty()) {
    if (impl.parser.done()) {
      if (impl.stream) impl.finish();
      co_return std::nullopt;
    }
    if (!impl.stream) co_return fail(ErrorCode::kUnavailable, "the answer has failed before", "bad_upstream");
    auto more = co_await impl.advance(deadline_in(impl.timeouts.silence));
    if (!more) {
      impl.stream.reset();
      Error error = explain(std::move(more).error(), "silence_timeout", impl.pool->endpoint);
      if (error.reason == "connection_lost") error.reason = "bad_upstream";
      co_return std::unexpected(std::move(error));
    }
  }
  impl.body_given = true;
  co_return std::optional<std::string_view>(impl.body);
}

Task<Result<std::string>> ClientResponse::read_all(std::size_t limit) {
  std::string all;
  for (;;) {
    LM_CO_TRY(const std::optional<std::string_view> piece, co_await read());
    if (!piece) co_return all;
    if (all.size() + piece->size() > limit) {
      impl_->stream.reset();
      co_return fail(
          ErrorCode::kResourceExhausted,
          fmt::format("{}: the answer is larger than {} bytes", impl_->pool->endpoint.text(), limit),
          "answer_too_large");
    }
    all.append(*piece);
  }
}

void Interruption::interrupt() {
  interrupted_ = true;
  if (const auto socket = socket_.lock()) socket->close();
}

Client::Client(asio::any_io_executor executor, Endpoint endpoint, ClientOptions options)
    : pool_(std::make_shared<ClientPool>(std::move(executor), std::move(endpoint), std::move(options))) {}

Client::~Client() {
  pool_->close();
}

const Endpoint& Client::endpoint() const {
  return pool_->endpoint;
}

std::size_t Client::kept_connections() const {
  return pool_->kept.size();
}

Task<Result<ClientResponse>> Client::send(ClientRequest request, Timeouts timeouts) {
  const auto pool = pool_;
  const std::string head = pool->head_of(request);
  const bool head_only = request.method == Method::kHead;
  const auto may_be_repeated = [&] {
    return (request.repeatable || is_idempotent(request.method)) &&
           (!request.interruption || !request.interruption->interrupted_);
  };
  for (bool may_use_kept = true;; may_use_kept = false) {
    std::unique_ptr<Stream> stream = may_use_kept ? pool->take() : nullptr;
    const bool was_kept = stream != nullptr;
    if (!stream) {
      auto opened = co_await pool->open(deadline_in(timeouts.connect));
      if (!opened)
        co_return std::unexpected(explain(std::move(opened).error(), "connect_timeout", pool->endpoint));
      stream = std::move(*opened);
    }

    if (request.interruption) {
      request.interruption->socket_ = stream->socket().weak_from_this();
      if (request.interruption->interrupted_)
        co_return fail(ErrorCode::kCancelled, "the request was taken back", "interrupted");
    }
    const std::uint64_t written_before = stream->socket().bytes_written();
    auto sent = co_await stream->write({head, request.body}, timeouts.silence);
    if (!sent) {
      const bool nothing_sent = stream->socket().bytes_written() == written_before;
      const bool lost = sent.error().code == ErrorCode::kUnavailable;
      if (was_kept && lost && (nothing_sent || may_be_repeated())) continue;
      // A server may refuse a large body early and close: its answer is worth more than our broken pipe.
      if (!lost || nothing_sent) {
        co_return std::unexpected(explain(std::move(sent).error(), "silence_timeout", pool->endpoint));
      }
    }

    const auto sent_at = SteadyClock::now();
    const Deadline deadline = deadline_in(timeouts.first_byte);
    auto impl = std::make_unique<ClientResponse::Impl>(pool, std::move(stream), head_only, timeouts);
    impl->can_keep = sent.has_value();
    Result<void> got;
    while (got && !impl->parser.header_done()) got = co_await impl->advance(deadline);
    if (!got) {
      const bool lost =
          impl->ended_at_once || (got.error().reason == "connection_lost" && !impl->parser.started());
      if (was_kept && lost && may_be_repeated()) continue;
      if (lost)
        got = fail(ErrorCode::kUnavailable, "the connection was closed before an answer", "connection_lost");
      co_return std::unexpected(explain(std::move(got).error(), "first_byte_timeout", pool->endpoint));
    }
    impl->first_byte_after = SteadyClock::now() - sent_at;
    // Nothing more to come: the connection is free before anybody reads.
    if (impl->parser.done()) impl->finish();
    co_return ClientResponse(std::move(impl));
  }
}

}  // namespace lm::http
