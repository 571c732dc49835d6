#include "socketio/client.h"

#include <algorithm>
#include <array>
#include <utility>

#include <openssl/rand.h>

#include "base/assert.h"
#include "base/log.h"
#include "socketio/base64.h"

namespace lm::socketio {
namespace {

namespace json = boost::json;

json::object refusal(const Error& error) {
  return {{"message", error.message}, {"data", {{"code", error.reason}, {"status", to_string(error.code)}}}};
}

}  // namespace

std::string make_id() {
  std::array<char, 15> bytes{};
  const int made = RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  LM_ASSERT(made == 1, "the system has random bytes");
  std::string id = base64({bytes.data(), bytes.size()});
  std::ranges::replace(id, '+', '-');
  std::ranges::replace(id, '/', '_');
  return id;
}

Client::Client(std::shared_ptr<Session> session, const Namespaces& spaces, MessageLimits limits,
               TimePoint connect_by)
    : session_(std::move(session)), spaces_(spaces), reader_(limits), connect_by_(connect_by) {}

void Client::take(Packet packet, TimePoint now) {
  if (session_->closed()) return;
  session_->alive(now);
  switch (packet.type) {
    case PacketType::kMessage: {
      auto message = reader_.take(std::move(packet));
      if (!message) {
        log::debug("socket.io {}: {}", session_->sid(), message.error().message);
        return session_->close("parse error");
      }
      if (*message) take_message(**std::move(message));
      return;
    }
    case PacketType::kClose:
      return session_->close("transport close");
    case PacketType::kPong:
    case PacketType::kNoop:
      return;
    case PacketType::kOpen:     // the server's to send
    case PacketType::kPing:     // likewise, since protocol 4
    case PacketType::kUpgrade:  // of a WebSocket that was let in, which its reader takes itself
      return session_->close("parse error");
  }
}

void Client::take_message(Message message) {
  const auto socket = find(message.space);
  switch (message.type) {
    case MessageType::kConnect:
      if (!socket) connect(message.space, message.data);
      return;
    case MessageType::kDisconnect:
      if (socket) leave(socket);
      return;
    case MessageType::kEvent:
    case MessageType::kBinaryEvent: {
      if (!socket) return session_->close("no such namespace");
      json::array& arguments = message.data.get_array();
      const json::value& first = arguments.front();
      Event event{.name = first.is_string() ? std::string(first.get_string())
                                            : std::to_string(first.to_number<double>()),
                  .arguments = {},
                  .attachments = std::move(message.attachments),
                  .id = message.id};
      arguments.erase(arguments.begin());
      event.arguments = std::move(arguments);
      const auto space = spaces_.find(message.space);
      return space->second->event(socket, std::move(event));
    }
    case MessageType::kAck:
    case MessageType::kBinaryAck:
      // Nothing of ours asks for one.
      if (!socket) session_->close("no such namespace");
      return;
    case MessageType::kConnectError:
      return session_->close("parse error");
  }
}

void Client::connect(const std::string& name, const json::value& auth) {
  const auto space = spaces_.find(name);
  Message answer{.type = MessageType::kConnectError, .space = name, .id = {}, .data = {}, .attachments = {}};
  if (space == spaces_.end()) {
    answer.data = json::object{{"message", "Invalid namespace"}};
    return session_->send(encode(answer));
  }
  auto caller =
      space->second->admit(session_->caller(), auth.is_object() ? auth.get_object() : json::object());
  if (!caller) {
    answer.data = refusal(caller.error());
    return session_->send(encode(answer));
  }
  auto socket = std::make_shared<Socket>(session_, make_id(), name, *std::move(caller));
  sockets_.push_back(socket);
  answer.type = MessageType::kConnect;
  answer.data = json::object{{"sid", socket->id()}};
  session_->send(encode(answer));
  space->second->connected(std::move(socket));
}

std::shared_ptr<Socket> Client::find(std::string_view space) const {
  const auto found =
      std::ranges::find_if(sockets_, [&](const auto& socket) { return socket->space() == space; });
  return found == sockets_.end() ? nullptr : *found;
}

// By value: what is given may lie in what is erased.
void Client::leave(std::shared_ptr<Socket> socket) {
  socket->connected_ = false;
  std::erase(sockets_, socket);
  const auto space = spaces_.find(socket->space());
  space->second->disconnected(socket);
}

void Client::beat(TimePoint now) {
  if (sockets_.empty() && now >= connect_by_) return session_->close("no namespace was connected to");
  session_->beat(now);
}

void Client::end() {
  while (!sockets_.empty()) leave(sockets_.back());
}

}  // namespace lm::socketio
