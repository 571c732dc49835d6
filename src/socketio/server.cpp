#include "socketio/server.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "http/websocket.h"
#include "socketio/wire.h"

namespace lm::socketio {
namespace {

constexpr std::size_t kScratch = std::size_t{16} << 10;
constexpr std::size_t kMostPackets = 1000;  // of a post
constexpr Duration kShortestBeat = std::chrono::milliseconds(10);
constexpr Duration kStopPatience = std::chrono::seconds(2);
constexpr std::string_view kProbe = "probe";

http::Headers text_headers() {
  return {{"Content-Type", "text/plain; charset=UTF-8"}, {"Cache-Control", "no-store"}};
}

Packet noop() {
  return {.type = PacketType::kNoop, .data = {}};
}

// A poll while it runs. One that ends without its answer, since its client has left, may have lost packets:
// the session cannot go on.
class Polling {
 public:
  explicit Polling(std::shared_ptr<Session> session) : session_(std::move(session)) {
    session_->polling = true;
  }
  ~Polling() {
    session_->polling = false;
    if (!answered) session_->close("transport error");
  }
  Polling(const Polling&) = delete;
  Polling& operator=(const Polling&) = delete;
  bool answered = false;

 private:
  std::shared_ptr<Session> session_;
};

class Posting {
 public:
  explicit Posting(std::shared_ptr<Session> session) : session_(std::move(session)) {
    session_->posting = true;
  }
  ~Posting() { session_->posting = false; }
  Posting(const Posting&) = delete;
  Posting& operator=(const Posting&) = delete;

 private:
  std::shared_ptr<Session> session_;
};

// A WebSocket while its route runs.
class Reading {
 public:
  Reading(std::shared_ptr<Wire> wire, std::shared_ptr<Session> session)
      : wire_(std::move(wire)), session_(std::move(session)) {}
  ~Reading() {
    wire_->leave();
    if (attached) session_->close("transport close");
    // It came to nothing: the client goes on polling.
    if (!attached && probed) session_->set_transport(Session::Transport::kPolling);
  }
  Reading(const Reading&) = delete;
  Reading& operator=(const Reading&) = delete;
  bool attached = false;
  bool probed = false;

 private:
  std::shared_ptr<Wire> wire_;
  std::shared_ptr<Session> session_;
};

}  // namespace

Server::Server(boost::asio::any_io_executor executor, const Clock& clock, ServerOptions options)
    : executor_(executor),
      clock_(clock),
      options_(std::move(options)),
      gate_(executor),
      stopping_(executor),
      scratch_(kScratch) {}

Server::~Server() {
  while (!clients_.empty()) clients_.begin()->second->shared_session()->close("server stopped");
}

void Server::add_namespace(std::string name, Namespace& space) {
  spaces_.emplace(std::move(name), &space);
}

void Server::add_routes(http::Router& router, std::string_view path) {
  const auto run = [this](http::Exchange& exchange) { return answer(exchange); };
  using enum http::Method;
  for (const http::Method method : {kGet, kPost, kPut, kDelete, kPatch}) {
    for (const std::string& pattern : {std::string(path), std::string(path) + "/"})
      router.add(method, pattern, http::Route{run, http::Principal::kNone});
  }
}

// The way of a request, whichever transport it belongs to.
Task<> Server::answer(http::Exchange& exchange) {
  const http::Request& request = exchange.request();
  if (request.query_value("EIO") != "4") co_return co_await refuse(exchange, Fault::kUnsupportedVersion);
  const auto transport = request.query_value("transport");
  if (transport == "websocket") co_return co_await websocket(exchange);
  if (transport != "polling") co_return co_await refuse(exchange, Fault::kUnknownTransport);

  const auto sid = request.query_value("sid");
  if (!sid && request.method != http::Method::kGet) co_return co_await refuse(exchange, Fault::kBadMethod);
  if (!sid) co_return co_await open(exchange);
  const auto client = find(*sid);
  if (!client) co_return co_await refuse(exchange, Fault::kUnknownSession);
  if (client->session().transport() == Session::Transport::kWebSocket)
    co_return co_await refuse(exchange, Fault::kBadRequest);
  if (request.method == http::Method::kGet) co_return co_await poll(exchange, client);
  if (request.method == http::Method::kPost) co_return co_await post(exchange, client);
  co_await refuse(exchange, Fault::kBadRequest);
}

Task<> Server::refuse(http::Exchange& exchange, Fault fault) {
  static constexpr std::array<std::string_view, 6> kWords = {
      "Transport unknown", "Session ID unknown", "Bad handshake method",
      "Bad request",       "Forbidden",          "Unsupported protocol version"};
  const auto number = static_cast<std::size_t>(fault);
  co_await exchange.respond(
      {.status = 400,
       .headers = {{"Content-Type", "application/json"}, {"Cache-Control", "no-store"}},
       .body = fmt::format(R"({{"code":{},"message":"{}"}})", number, kWords.at(number))});
}

std::size_t Server::polls() const {
  return static_cast<std::size_t>(
      std::ranges::count_if(clients_, [](const auto& one) { return one.second->session().polling; }));
}

bool Server::is_full() const {
  return stopping_.is_open() || clients_.size() >= options_.sessions;
}

Task<> Server::open(http::Exchange& exchange) {
  if (is_full()) {
    co_await exchange.fail(
        503, fail(ErrorCode::kResourceExhausted, "too many connections", "too_many_connections").error());
    co_return;
  }
  const auto client = make_client(exchange, Session::Transport::kPolling);
  const auto session = client->shared_session();
  const auto answered = co_await exchange.respond(
      {.status = 200, .headers = text_headers(), .body = encode(open_packet(*session))});
  if (!answered) session->close("transport error");
}

std::shared_ptr<Client> Server::make_client(const http::Exchange& exchange, Session::Transport transport) {
  Caller caller{.principal = exchange.principal(), .client = exchange.client()};
  const auto key = exchange.request().query_value("key");
  if (key && options_.holder_of) {
    if (auto holder = options_.holder_of(*key); holder && holder->principal > caller.principal)
      caller = *std::move(holder);
  }
  auto session = std::make_shared<Session>(executor_, make_id(), options_.timing, std::move(caller),
                                           transport, clock_.now());
  auto client =
      std::make_shared<Client>(session, spaces_, options_.message, clock_.now() + options_.connect_time);
  clients_.emplace(session->sid(), client);
  session->on_closed = [this, sid = session->sid()] {
    const auto gone = clients_.extract(sid);
    log::debug("socket.io {}: closed, {}", sid, gone.mapped()->session().why_closed());
    gone.mapped()->end();
  };
  if (!std::exchange(beating_, true)) beating_ = gate_.start(heart());
  return client;
}

std::shared_ptr<Client> Server::find(std::string_view sid) const {
  const auto found = clients_.find(std::string(sid));
  return found == clients_.end() ? nullptr : found->second;
}

Packet Server::open_packet(const Session& session) const {
  const auto ms = [](Duration d) { return std::chrono::duration_cast<std::chrono::milliseconds>(d).count(); };
  const bool may_upgrade = session.transport() == Session::Transport::kPolling;
  return {.type = PacketType::kOpen,
          .data = fmt::format(
              R"({{"sid":"{}","upgrades":[{}],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}})",
              session.sid(), may_upgrade ? R"("websocket")" : "", ms(options_.timing.ping_interval),
              ms(options_.timing.ping_timeout), options_.max_payload)};
}

Task<> Server::poll(http::Exchange& exchange, std::shared_ptr<Client> client) {
  const auto session = client->shared_session();
  if (session->polling) {
    session->close("overlapping polls");
    co_return co_await refuse(exchange, Fault::kBadRequest);
  }
  Polling polling(session);
  if (session->transport() == Session::Transport::kPolling)
    co_await session->wait_for_packets(options_.timing.ping_interval + options_.timing.ping_timeout);
  std::vector<Packet> packets;
  // A WebSocket that has taken over takes them itself.
  if (session->transport() != Session::Transport::kWebSocket) packets = session->take(options_.max_payload);
  // Who wished the end needs no word of it.
  if (session->closed() && session->why_closed() != "transport close")
    packets.push_back({.type = PacketType::kClose, .data = {}});
  if (packets.empty()) packets.push_back(noop());
  session->begin_writing(clock_.now());
  const auto answered =
      co_await exchange.respond({.status = 200, .headers = text_headers(), .body = encode_payload(packets)});
  session->end_writing(clock_.now());
  polling.answered = answered.has_value();
}

Task<> Server::post(http::Exchange& exchange, std::shared_ptr<Client> client) {
  const auto session = client->shared_session();
  const std::string body = exchange.take_body();
  const bool is_too_large = body.size() > options_.max_payload;
  auto packets = decode_payload(body, kMostPackets);
  if (session->posting || is_too_large || !packets) {
    session->close(session->posting ? "overlapping posts"
                   : is_too_large   ? "payload too large"
                                    : "parse error");
    if (!is_too_large) co_return co_await refuse(exchange, Fault::kBadRequest);
    co_await exchange.respond({.status = 413, .headers = text_headers(), .body = "payload too large"});
    co_return;
  }
  const Posting posting(session);
  for (Packet& packet : *packets) client->take(std::move(packet), clock_.now());
  if (session->closed() && session->why_closed() != "transport close")
    co_return co_await refuse(exchange, Fault::kBadRequest);
  // Who does not take the answers is to ask no more.
  co_await session->wait_for_room();
  co_await exchange.respond({.status = 200, .headers = text_headers(), .body = "ok"});
}

Task<> Server::websocket(http::Exchange& exchange) {
  const auto answer = http::websocket_answer(exchange.request());
  if (!answer) co_return co_await refuse(exchange, Fault::kBadRequest);
  std::shared_ptr<Client> client;
  const auto sid = exchange.request().query_value("sid");
  if (sid) {
    client = find(*sid);
    if (!client) co_return co_await refuse(exchange, Fault::kUnknownSession);
    if (client->session().transport() != Session::Transport::kPolling)
      co_return co_await refuse(exchange, Fault::kBadRequest);
  } else {
    if (is_full()) {
      co_await exchange.fail(
          503, fail(ErrorCode::kResourceExhausted, "too many connections", "too_many_connections").error());
      co_return;
    }
    client = make_client(exchange, Session::Transport::kWebSocket);
    client->session().send(open_packet(client->session()));
  }
  const auto wire = std::make_shared<Wire>(executor_, exchange.take_over(), gate_, clock_);
  Reading reading(wire, client->shared_session());
  reading.attached = !sid;
  if (!co_await wire->stream().write(*answer)) co_return;
  if (reading.attached) wire->attach(client->shared_session());

  http::WebSocketReader reader(options_.max_payload);
  std::vector<http::WebSocketMessage> messages;
  bool ending = false;  // what comes now is only read away
  const TimePoint upgrade_by = clock_.now() + options_.upgrade_time;
  for (;;) {
    const auto session = client->shared_session();
    if (reading.attached && !ending) co_await session->wait_for_room();
    const Duration silence =
        reading.attached || ending ? options_.timing.ping_interval : upgrade_by - clock_.now();
    const auto got = co_await wire->stream().read(scratch_, std::max(silence, Duration()));
    if (!got && got.error().code == ErrorCode::kDeadlineExceeded && reading.attached && !session->closed())
      continue;
    if (!got || *got == 0) co_return;
    if (ending) continue;
    const auto fed = reader.feed({scratch_.data(), *got}, messages);
    for (http::WebSocketMessage& message : std::exchange(messages, {})) {
      if (ending) break;
      switch (message.kind) {
        case http::WebSocketKind::kPing:
          wire->say(http::WebSocketKind::kPong, message.bytes);
          continue;
        case http::WebSocketKind::kPong:
          continue;
        case http::WebSocketKind::kClose:
          ending = true;
          wire->close(http::WebSocketClose::kNormal);
          continue;
        case http::WebSocketKind::kText:
        case http::WebSocketKind::kBinary:
          break;
      }
      auto packet =
          message.kind == http::WebSocketKind::kText
              ? decode(message.bytes)
              : Packet{.type = PacketType::kMessage, .data = std::move(message.bytes), .binary = true};
      if (!packet) {
        ending = true;
        wire->close(http::WebSocketClose::kProtocolError);
        if (reading.attached) session->close("parse error");
      } else if (reading.attached) {
        client->take(*std::move(packet), clock_.now());
        ending = session->closed();
      } else if (packet->type == PacketType::kPing && packet->data == kProbe && !reading.probed &&
                 session->transport() == Session::Transport::kPolling && !session->closed()) {
        reading.probed = true;
        wire->say(http::WebSocketKind::kText,
                  encode({.type = PacketType::kPong, .data = std::string(kProbe)}));
        session->set_transport(Session::Transport::kProbed);
      } else if (packet->type == PacketType::kUpgrade && reading.probed && !session->closed()) {
        reading.attached = true;
        session->set_transport(Session::Transport::kWebSocket);
        wire->attach(session);
      } else {
        ending = true;
        wire->close(http::WebSocketClose::kPolicy);
      }
    }
    if (!fed && !std::exchange(ending, true)) {
      wire->close(fed.error());
      if (reading.attached) session->close("parse error");
    }
  }
}

Task<> Server::heart() {
  const Duration shortest = std::min(options_.timing.ping_interval, options_.timing.ping_timeout);
  while (!clients_.empty() && !co_await stopping_.wait(std::max(shortest / 8, kShortestBeat))) {
    std::vector<std::shared_ptr<Client>> all;
    all.reserve(clients_.size());
    for (const auto& [sid, client] : clients_) all.push_back(client);
    for (const auto& client : all) client->beat(clock_.now());
  }
  beating_ = false;
}

Task<> Server::stop() {
  stopping_.open();
  while (!clients_.empty()) clients_.begin()->second->shared_session()->close("server stopped");
  if (co_await gate_.wait_empty(kStopPatience)) co_return;
  gate_.cancel();
  co_await gate_.wait_empty(kStopPatience);
}

}  // namespace lm::socketio
