// A client's connection as Engine.IO has it: what waits to be sent, whichever transport takes it, and the
// heartbeat. Knows no socket: transports take packets out and put the client's in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/latch.h"
#include "base/task.h"
#include "base/time.h"
#include "http/admission.h"
#include "socketio/packet.h"

namespace lm::socketio {

struct Timing {
  Duration ping_interval = std::chrono::seconds(25);
  Duration ping_timeout = std::chrono::seconds(20);
};

// Who is at the other end, as far as the request that opened the session said it.
struct Caller {
  http::Principal principal = http::Principal::kNone;
  std::string client;  // whose key it came with, where that has a name
};

// Shared by the server and by the transports while they serve it. One thread.
//
// What is sent is kept until a transport takes it and never dropped while the session lives. Whoever sends
// much asks has_room() before, and waits for it: so a slow client costs its own producer time, and nobody
// else.
class Session {
 public:
  enum class Transport : std::uint8_t {
    kPolling,
    kProbed,  // a WebSocket has asked whether it may take over: polls are answered at once
    kWebSocket
  };
  // Bytes that may wait to be sent before has_room() is false.
  static constexpr std::size_t kRoom = std::size_t{256} << 10;

  Session(boost::asio::any_io_executor executor, std::string sid, Timing timing, Caller caller,
          Transport transport, TimePoint now);

  const std::string& sid() const { return sid_; }
  const Caller& caller() const { return caller_; }
  Transport transport() const { return transport_; }
  bool closed() const { return closed_; }
  const std::string& why_closed() const { return why_; }

  // ---- for whoever speaks to the client
  // Never waits. Of a closed session nothing is kept.
  void send(Packet packet);
  void send(std::vector<Packet> packets);
  bool has_room() const { return out_bytes_ < kRoom; }
  // Until there is room again; false where the session was closed first.
  Task<bool> wait_for_room();
  // Nothing more is taken in; what waits can still be taken out. Calls on_closed once, in this call.
  void close(std::string_view why);

  // ---- for transports
  void set_transport(Transport transport);
  // The packets from the front that fit into `most` bytes, one at least; none where nothing waits.
  std::vector<Packet> take(std::size_t most);
  bool has_packets() const { return !out_.empty(); }
  // Until there is something to take, the transport changes, or the session closes; `limit` at the longest.
  Task<> wait_for_packets(Duration limit);
  // The client is there: something came of it.
  void alive(TimePoint now);
  // Bytes are on their way to the client from now on, or are through. While they are, the client is slow, not
  // dead: it has not come to its ping yet, and whoever writes notices when it stops taking them.
  void begin_writing(TimePoint now);
  void end_writing(TimePoint now);
  // Looks after the heartbeat: sends the ping that is due, closes where the last went unanswered.
  void beat(TimePoint now);

  // One poll and one post at a time; a second is the client's fault.
  bool polling = false;
  bool posting = false;
  // Set by whoever serves it. `on_packets`: a WebSocket has something to send.
  std::function<void()> on_packets;
  std::function<void()> on_closed;

 private:
  void wake();

  boost::asio::any_io_executor executor_;
  std::string sid_;
  Caller caller_;
  Timing timing_;
  std::vector<Packet> out_;
  std::size_t out_bytes_ = 0;
  std::unique_ptr<Latch> more_;  // while a poll waits
  std::unique_ptr<Latch> room_;  // while a producer waits
  TimePoint ping_at_;
  std::optional<TimePoint> pong_by_;
  std::optional<TimePoint> writing_since_;
  Transport transport_;
  bool closed_ = false;
  std::string why_;
};

}  // namespace lm::socketio
