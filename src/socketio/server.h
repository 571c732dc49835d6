// Engine.IO's server: sessions over long polling and WebSocket, the change from one to the other, heartbeats,
// limits; Socket.IO's namespaces on top of it.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/clock.h"
#include "base/gate.h"
#include "base/latch.h"
#include "http/exchange.h"
#include "http/router.h"
#include "socketio/client.h"

namespace lm::socketio {

class Wire;

struct ServerOptions {
  Timing timing;
  std::size_t max_payload = 1'000'000;  // bytes of a post, and of a WebSocket's message
  MessageLimits message;
  Duration connect_time = std::chrono::seconds(45);  // until a session is in a namespace
  Duration upgrade_time = std::chrono::seconds(10);  // until a WebSocket has taken a session over
  std::size_t sessions = 4096;                       // above it: 503, "too_many_connections"
  // Whose key that is; empty where it is none.
  std::function<std::optional<Caller>(std::string_view key)> holder_of;
};

// One thread. Outlives the HTTP server whose routes it answers. Refusals have the shape of Engine.IO's own
// server: 400 with {"code", "message"}.
class Server {
 public:
  // `clock` outlives it.
  Server(boost::asio::any_io_executor executor, const Clock& clock, ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Before anybody is served. `space` ("/", "/status") outlives it.
  void add_namespace(std::string name, Namespace& space);
  // Everything at `path`, "/socket.io". Open to everybody who may connect: a key may come with the connection
  // to a namespace, which then judges it.
  void add_routes(http::Router& router, std::string_view path);

  std::size_t sessions() const { return clients_.size(); }
  // Polls that wait now.
  std::size_t polls() const;
  // Ends every session, as far as its client takes it.
  Task<> stop();

 private:
  enum class Fault : int {
    kUnknownTransport,
    kUnknownSession,
    kBadMethod,
    kBadRequest,
    kForbidden,
    kUnsupportedVersion
  };

  Task<> answer(http::Exchange& exchange);
  Task<> open(http::Exchange& exchange);
  Task<> poll(http::Exchange& exchange, std::shared_ptr<Client> client);
  Task<> post(http::Exchange& exchange, std::shared_ptr<Client> client);
  Task<> websocket(http::Exchange& exchange);
  static Task<> refuse(http::Exchange& exchange, Fault fault);

  std::shared_ptr<Client> make_client(const http::Exchange& exchange, Session::Transport transport);
  std::shared_ptr<Client> find(std::string_view sid) const;
  Packet open_packet(const Session& session) const;
  bool is_full() const;
  Task<> heart();

  boost::asio::any_io_executor executor_;
  const Clock& clock_;
  ServerOptions options_;
  Namespaces spaces_;
  std::unordered_map<std::string, std::shared_ptr<Client>> clients_;  // by the session's id
  Gate gate_;
  Latch stopping_;
  bool beating_ = false;
  // What every WebSocket reads into: bytes are taken out of it before anybody else runs.
  std::vector<char> scratch_;
};

}  // namespace lm::socketio
