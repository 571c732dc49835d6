// One WebSocket's writing side: what its session has to say, in frames, one write at a time. Inside of the
// room.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/gate.h"
#include "base/latch.h"
#include "http/exchange.h"
#include "http/websocket.h"
#include "socketio/session.h"

namespace lm::socketio {

// Shared by the route that reads the connection and by the writing task, which runs only while there is
// something to write: an idle client costs none.
class Wire : public std::enable_shared_from_this<Wire> {
 public:
  // `gate` and `clock` outlive it.
  Wire(boost::asio::any_io_executor executor, http::RawStream stream, Gate& gate, const Clock& clock);

  http::RawStream& stream() { return stream_; }

  // From now on the session's packets go this way.
  void attach(std::shared_ptr<Session> session);
  // Before anything else that waits.
  void say(http::WebSocketKind kind, std::string_view bytes);
  // After all that waits: the closing frame, then the connection's end, soon.
  void close(http::WebSocketClose why);
  // The route ends, and the connection with it.
  void leave();

 private:
  void kick();
  std::string next();
  static Task<> write_all(std::shared_ptr<Wire> self);

  http::RawStream stream_;
  Gate& gate_;
  const Clock& clock_;
  Latch left_;
  std::shared_ptr<Session> session_;
  std::string urgent_;
  std::optional<http::WebSocketClose> closing_;
  bool close_said_ = false;
  bool writing_ = false;
};

}  // namespace lm::socketio
