// One connection of the server, and what all of them share. Inside of the room.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/gate.h"
#include "http/parser.h"
#include "http/server.h"
#include "http/socket.h"

namespace lm::http {

class Listener;
class SessionExchange;

// Shared by the server and its sessions; dies with the last of them.
class ServerCore : public std::enable_shared_from_this<ServerCore> {
 public:
  ServerCore(boost::asio::any_io_executor executor_, Router router_, ServerOptions options);
  ~ServerCore();

  // A connection is there: starts its session, or turns it away.
  void accept(int descriptor, Peer peer);
  void close_listeners();
  void end_idle_sessions();
  void cancel_sessions();

  Body error_body(const Error& error, const Request& request) const;
  // "Tue, 15 Nov 1994 08:12:31 GMT", made once a second.
  std::string_view date();

  const boost::asio::any_io_executor executor;
  const Router router;
  const Limits limits;
  Admission admission;
  Gate gate;
  bool draining = false;
  std::vector<std::shared_ptr<Listener>> listeners;
  // Where every session reads into: bytes are taken out of it before anybody else runs.
  std::vector<char> scratch;

 private:
  friend class Session;
  ErrorBody error_body_;
  std::unordered_set<Session*> sessions_;
  std::string date_;
  std::int64_t date_second_ = 0;
};

// Owned by its own coroutine. Reads a request, judges it, runs its route, and so on until one side closes.
// While a route runs the socket is watched: a client's end cancels the route's coroutine; bytes of a next
// request wait in `input_`.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<ServerCore> core, std::shared_ptr<Socket> socket, Peer peer, bool turn_away);
  ~Session();

  Task<void> run();
  void end_if_idle();
  // The server stops: ends the wait for a request; a running route is cancelled and its client told 503.
  void cancel();
  boost::asio::cancellation_slot slot() { return signal_.slot(); }

 private:
  friend class SessionExchange;
  friend class RawStream;

  // A request as far as it was read, and what was decided about it before its body.
  struct Received {
    Request request;
    Visitor visitor;
    const Route* route = nullptr;
    std::optional<Refusal> refusal;
    bool keep_alive = false;
  };

  Task<bool> serve_one();
  Task<std::optional<Received>> receive();
  Task<std::expected<bool, Refusal>> receive_header(RequestParser& parser);
  Task<std::expected<bool, Refusal>> receive_body(RequestParser& parser);
  void judge(Received& received) const;
  Task<void> run_route(SessionExchange& exchange, const Route& route);
  Task<void> linger();

  void watch();
  void look();
  void look_for_end_only();
  void stop_watching();
  void client_left();

  std::shared_ptr<ServerCore> core_;
  std::shared_ptr<Socket> socket_;
  Peer peer_;
  boost::asio::cancellation_signal signal_;
  std::optional<boost::asio::steady_timer> end_poll_;
  std::string input_;  // received, not yet parsed
  SessionExchange* current_ = nullptr;
  bool turn_away_;         // too many connections
  bool idle_ = false;      // between requests
  bool gone_ = false;      // the client has left, or was cut off
  bool stopping_ = false;  // cancelled by the server
  bool unread_ = false;    // closing with bytes of the client on their way
};

}  // namespace lm::http
