// What Socket.IO (protocol 5) says in Engine.IO's messages: connections to namespaces, events,
// acknowledgements, with bytes attached. Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/value.hpp>

#include "base/result.h"
#include "socketio/packet.h"

namespace lm::socketio {

enum class MessageType : std::uint8_t {
  kConnect,
  kDisconnect,
  kEvent,
  kAck,
  kConnectError,
  kBinaryEvent,
  kBinaryAck
};

struct Message {
  MessageType type = MessageType::kEvent;
  std::string space = "/";          // the namespace
  std::optional<std::uint64_t> id;  // of the acknowledgement that is wished, or given
  // Of an event and of an acknowledgement an array; of others an object, or null where there is nothing.
  // Where bytes belong there is {"_placeholder": true, "num": N}: the attachment of that number.
  boost::json::value data;
  std::vector<std::string> attachments;
  bool operator==(const Message&) const = default;
};

// The bytes that a value of a message stands for; null where it is no placeholder.
const std::string* attached(const boost::json::value& value, const std::vector<std::string>& attachments);
// What stands for the attachment of that number.
boost::json::value placeholder(std::size_t number);

// The packets that carry it: the text, then each attachment. An event or acknowledgement with attachments is
// of the binary type whatever `type` says.
std::vector<Packet> encode(const Message& message);

struct MessageLimits {
  std::size_t attachments = 16;   // of a message
  std::size_t bytes = 4'000'000;  // of a message, its attachments with it
};

// Joins the packets of a client to messages. Owned by its session.
class MessageReader {
 public:
  explicit MessageReader(MessageLimits limits) : limits_(limits) {}

  // The next packet, of the type message. Empty while attachments are to come. kInvalidArgument "bad_message"
  // is final: the connection has to be closed.
  Result<std::optional<Message>> take(Packet packet);

 private:
  MessageLimits limits_;
  std::optional<Message> begun_;
  std::size_t awaited_ = 0;  // attachments
  std::size_t bytes_ = 0;
};

}  // namespace lm::socketio
