#include "socketio/packet.h"

#include "base/assert.h"
#include "socketio/base64.h"

namespace lm::socketio {
namespace {

constexpr char kSeparator = '\x1e';
constexpr char kBinary = 'b';

std::unexpected<Error> wrong(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what), "bad_packet");
}

}  // namespace

void append_encoded(std::string& to, const Packet& packet) {
  if (packet.binary) {
    LM_ASSERT(packet.type == PacketType::kMessage, "only messages have bytes");
    to += kBinary;
    to += base64(packet.data);
    return;
  }
  to += static_cast<char>('0' + static_cast<int>(packet.type));
  to += packet.data;
}

std::string encode(const Packet& packet) {
  std::string text;
  append_encoded(text, packet);
  return text;
}

Result<Packet> decode(std::string_view text) {
  if (text.empty()) return wrong("a packet has a type");
  const char type = text.front();
  text.remove_prefix(1);
  if (type == kBinary) {
    auto bytes = from_base64(text);
    if (!bytes) return wrong("the bytes of a packet are no base64");
    return Packet{.type = PacketType::kMessage, .data = *std::move(bytes), .binary = true};
  }
  if (type < '0' || type > '6') return wrong("there is no such type of packet");
  return Packet{.type = static_cast<PacketType>(type - '0'), .data = std::string(text), .binary = false};
}

std::string encode_payload(std::span<const Packet> packets) {
  LM_ASSERT(!packets.empty(), "a payload has packets");
  std::string body;
  for (const Packet& packet : packets) {
    if (!body.empty()) body += kSeparator;
    append_encoded(body, packet);
  }
  return body;
}

Result<std::vector<Packet>> decode_payload(std::string_view body, std::size_t most) {
  std::vector<Packet> packets;
  for (;;) {
    if (packets.size() == most) return wrong("too many packets at once");
    const std::size_t end = body.find(kSeparator);
    LM_TRY(auto packet, decode(body.substr(0, end)));
    packets.push_back(std::move(packet));
    if (end == std::string_view::npos) return packets;
    body.remove_prefix(end + 1);
  }
}

}  // namespace lm::socketio
