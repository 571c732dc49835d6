// The door for Socket.IO's clients: the server at /socket.io/ and its namespaces, wired together.
#pragma once

#include <memory>

#include "api/socket_chat.h"
#include "api/socket_status.h"
#include "base/clock.h"
#include "http/server.h"
#include "socketio/server.h"

namespace lm::api {

// One thread. `runtime` and `clock` outlive it; it outlives the HTTP server whose router it adds to.
class SocketIoDoor {
 public:
  // `http`: whose keys let in here as well, and how many may be connected.
  SocketIoDoor(boost::asio::any_io_executor executor, const Clock& clock, runtime::Runtime& runtime,
               const http::ServerOptions& http);

  void add_routes(http::Router& router) { server_.add_routes(router, "/socket.io"); }
  // Ends what is being answered, then the sessions.
  Task<> stop();

 private:
  http::Admission admission_;
  SocketStatus status_;
  SocketChat chat_;
  socketio::Server server_;
};

}  // namespace lm::api
