// What a client of Socket.IO sends, over a WebSocket and by polling: frames read at once and byte by byte are
// the same, what is read as a packet or a message is written as what reads the same again.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "http/websocket.h"
#include "socketio/message.h"
#include "socketio/packet.h"

namespace {

struct Frames {
  std::vector<std::pair<int, std::string>> messages;
  int closed_with = 0;
  bool operator==(const Frames&) const = default;
};

Frames read_frames(std::string_view input, std::size_t piece) {
  lm::http::WebSocketReader reader(1024);
  Frames frames;
  std::vector<lm::http::WebSocketMessage> messages;
  while (!input.empty() && frames.closed_with == 0) {
    const auto fed = reader.feed(input.substr(0, piece), messages);
    if (!fed) frames.closed_with = static_cast<int>(fed.error());
    input.remove_prefix(std::min(piece, input.size()));
  }
  for (const auto& message : messages) {
    LM_ASSERT(message.bytes.size() <= 1024, "no message is longer than it may be");
    frames.messages.emplace_back(static_cast<int>(message.kind), message.bytes);
  }
  return frames;
}

void read_payload(std::string_view body) {
  const auto packets = lm::socketio::decode_payload(body, 64);
  if (!packets) return;
  LM_ASSERT(lm::socketio::decode_payload(lm::socketio::encode_payload(*packets), 64) == packets,
            "packets are written as they were read");
  lm::socketio::MessageReader reader({.attachments = 4, .bytes = 4096});
  for (const lm::socketio::Packet& packet : *packets) {
    if (packet.type != lm::socketio::PacketType::kMessage) continue;
    const auto message = reader.take(packet);
    if (!message) return;
    if (!*message) continue;
    lm::socketio::MessageReader again({.attachments = 4, .bytes = 1 << 20});
    std::optional<lm::socketio::Message> read;
    for (lm::socketio::Packet& written : lm::socketio::encode(**message)) {
      auto next = again.take(std::move(written));
      LM_ASSERT(next.has_value(), "what is written can be read");
      read = *std::move(next);
    }
    LM_ASSERT(read.has_value(), "all of it was written");
    LM_ASSERT(read->space == (*message)->space && read->id == (*message)->id, "as it was read");
    LM_ASSERT(read->attachments == (*message)->attachments, "with its bytes");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  LM_ASSERT(read_frames(input, size) == read_frames(input, 1), "frames are the same however they come");
  read_payload(input);
  return 0;
}
