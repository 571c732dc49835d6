#include "socketio/wire.h"

#include <utility>

namespace lm::socketio {
namespace {

constexpr std::size_t kAtOnce = std::size_t{64} << 10;
constexpr std::size_t kMostUrgent = std::size_t{16} << 10;
// Between the closing frame and the end, for the client to answer it: an end that comes first may overtake
// what was written before.
constexpr Duration kFarewell = std::chrono::seconds(1);

}  // namespace

Wire::Wire(boost::asio::any_io_executor executor, http::RawStream stream, Gate& gate, const Clock& clock)
    : stream_(stream), gate_(gate), clock_(clock), left_(std::move(executor)) {}

void Wire::attach(std::shared_ptr<Session> session) {
  session_ = std::move(session);
  session_->on_packets = [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->kick();
  };
  kick();
}

void Wire::say(http::WebSocketKind kind, std::string_view bytes) {
  // Who asks without reading the answers is answered no more.
  if (urgent_.size() > kMostUrgent) return;
  http::append_websocket_frame(urgent_, kind, bytes);
  kick();
}

void Wire::close(http::WebSocketClose why) {
  if (!closing_) closing_ = why;
  kick();
}

void Wire::leave() {
  left_.open();
}

void Wire::kick() {
  if (writing_ || left_.is_open()) return;
  // Before it starts: it may have written all before start() returns.
  writing_ = true;
  if (!gate_.start(write_all(shared_from_this()))) writing_ = false;
}

// What is to be written next; empty: nothing.
std::string Wire::next() {
  std::string bytes = std::exchange(urgent_, {});
  if (session_) {
    for (const Packet& packet : session_->take(kAtOnce)) {
      const auto kind = packet.binary ? http::WebSocketKind::kBinary : http::WebSocketKind::kText;
      http::append_websocket_frame(bytes, kind, packet.binary ? packet.data : encode(packet));
    }
    if (session_->closed() && !closing_) closing_ = http::WebSocketClose::kNormal;
  }
  if (bytes.empty() && closing_ && !std::exchange(close_said_, true))
    http::append_websocket_close(bytes, *closing_);
  return bytes;
}

Task<> Wire::write_all(std::shared_ptr<Wire> self) {
  while (!self->left_.is_open()) {
    const std::string bytes = self->next();
    if (bytes.empty()) break;
    const auto session = self->session_;
    if (session) session->begin_writing(self->clock_.now());
    const auto sent = co_await self->stream_.write(bytes);
    if (session) session->end_writing(self->clock_.now());
    if (sent) continue;
    if (session) session->close("transport error");
    if (!self->left_.is_open()) self->stream_.close();
    break;
  }
  if (self->close_said_ && !co_await self->left_.wait(kFarewell)) self->stream_.close();
  self->writing_ = false;
}

}  // namespace lm::socketio
