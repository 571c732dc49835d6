// What Engine.IO (protocol 4) puts on a transport: packets, and payloads of several. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lm::socketio {

enum class PacketType : std::uint8_t { kOpen, kClose, kPing, kPong, kMessage, kUpgrade, kNoop };

struct Packet {
  PacketType type = PacketType::kMessage;
  std::string data;
  bool binary = false;  // legal of messages only
  bool operator==(const Packet&) const = default;
};

// "4hello"; a binary one as "b" and base64, which is its form in a payload. A WebSocket carries the bytes of
// a binary one as they are, in a binary frame.
std::string encode(const Packet& packet);
void append_encoded(std::string& to, const Packet& packet);
// kInvalidArgument "bad_packet".
Result<Packet> decode(std::string_view text);

// The body of a poll: packets with a record separator between them. Not empty.
std::string encode_payload(std::span<const Packet> packets);
// kInvalidArgument "bad_packet" where one of them is none, there is none at all, or there are more than
// `most`.
Result<std::vector<Packet>> decode_payload(std::string_view body, std::size_t most);

}  // namespace lm::socketio
