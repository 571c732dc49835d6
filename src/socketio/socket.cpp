#include "socketio/socket.h"

#include <utility>

namespace lm::socketio {

Socket::Socket(std::shared_ptr<Session> session, std::string id, std::string space, Caller caller)
    : session_(std::move(session)),
      id_(std::move(id)),
      space_(std::move(space)),
      caller_(std::move(caller)) {}

std::vector<Packet> encode_event(std::string_view space, std::string_view event, boost::json::array arguments,
                                 std::vector<std::string> attachments) {
  arguments.insert(arguments.begin(), boost::json::string(event));
  return encode(Message{.type = MessageType::kEvent,
                        .space = std::string(space),
                        .id = {},
                        .data = std::move(arguments),
                        .attachments = std::move(attachments)});
}

void Socket::emit(std::string_view event, boost::json::array arguments,
                  std::vector<std::string> attachments) {
  if (connected()) session_->send(encode_event(space_, event, std::move(arguments), std::move(attachments)));
}

void Socket::acknowledge(std::uint64_t id, boost::json::array arguments,
                         std::vector<std::string> attachments) {
  if (!connected()) return;
  session_->send(encode(Message{.type = MessageType::kAck,
                                .space = space_,
                                .id = id,
                                .data = std::move(arguments),
                                .attachments = std::move(attachments)}));
}

void Socket::send(const std::vector<Packet>& packets) {
  if (connected()) session_->send(packets);
}

Task<bool> Socket::wait_for_room() {
  const auto session = session_;
  co_await session->wait_for_room();
  co_return connected();
}

}  // namespace lm::socketio
