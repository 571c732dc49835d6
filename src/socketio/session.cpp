#include "socketio/session.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace lm::socketio {
namespace {

// A write that took no longer has found room in the kernel, which says nothing of the client.
constexpr Duration kSlowWrite = std::chrono::seconds(1);

// What a packet costs beside its bytes: a frame's header, or a separator and a type.
constexpr std::size_t kOverhead = 16;

std::size_t size_of(const Packet& packet) {
  return packet.data.size() + kOverhead;
}

}  // namespace

Session::Session(boost::asio::any_io_executor executor, std::string sid, Timing timing, Caller caller,
                 Transport transport, TimePoint now)
    : executor_(std::move(executor)),
      sid_(std::move(sid)),
      caller_(std::move(caller)),
      timing_(timing),
      ping_at_(now + timing.ping_interval),
      transport_(transport) {}

void Session::send(Packet packet) {
  if (closed_) return;
  out_bytes_ += size_of(packet);
  // A ping does not wait behind what a slow client has not taken yet.
  const auto at = packet.type == PacketType::kPing ? out_.begin() : out_.end();
  out_.insert(at, std::move(packet));
  wake();
}

void Session::send(std::vector<Packet> packets) {
  for (Packet& packet : packets) send(std::move(packet));
}

Task<bool> Session::wait_for_room() {
  while (!closed_ && !has_room()) {
    if (!room_) room_ = std::make_unique<Latch>(executor_);
    const Latch room = *room_;
    co_await room.wait(timing_.ping_interval + timing_.ping_timeout);
  }
  co_return !closed_;
}

void Session::close(std::string_view why) {
  if (std::exchange(closed_, true)) return;
  why_ = why;
  wake();
  if (room_) room_->open();
  room_.reset();
  if (on_closed) std::exchange(on_closed, nullptr)();
}

void Session::wake() {
  if (more_) more_->open();
  more_.reset();
  if (on_packets) on_packets();
}

void Session::set_transport(Transport transport) {
  transport_ = transport;
  wake();
}

std::vector<Packet> Session::take(std::size_t most) {
  std::size_t bytes = 0;
  auto end = out_.begin();
  while (end != out_.end() && (end == out_.begin() || bytes + size_of(*end) <= most))
    bytes += size_of(*end++);
  std::vector<Packet> taken(std::make_move_iterator(out_.begin()), std::make_move_iterator(end));
  out_.erase(out_.begin(), end);
  // An idle client is to hold nothing.
  if (out_.empty()) out_ = {};
  out_bytes_ -= bytes;
  if (room_ && has_room()) {
    room_->open();
    room_.reset();
  }
  return taken;
}

Task<> Session::wait_for_packets(Duration limit) {
  if (!out_.empty() || closed_) co_return;
  if (!more_) more_ = std::make_unique<Latch>(executor_);
  const Latch more = *more_;
  co_await more.wait(limit);
}

void Session::alive(TimePoint now) {
  if (!pong_by_) return;
  pong_by_.reset();
  ping_at_ = now + timing_.ping_interval;
}

void Session::begin_writing(TimePoint now) {
  writing_since_ = now;
}

void Session::end_writing(TimePoint now) {
  if (pong_by_ && writing_since_ && now - *writing_since_ >= kSlowWrite)
    pong_by_ = now + timing_.ping_timeout;
  writing_since_.reset();
}

void Session::beat(TimePoint now) {
  if (closed_ || writing_since_) return;
  if (pong_by_) {
    if (now >= *pong_by_) close("ping timeout");
  } else if (now >= ping_at_) {
    pong_by_ = now + timing_.ping_timeout;
    send({.type = PacketType::kPing, .data = {}});
  }
}

}  // namespace lm::socketio
