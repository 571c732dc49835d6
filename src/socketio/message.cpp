#include "socketio/message.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "wire/utf8.h"

namespace lm::socketio {
namespace {

namespace json = boost::json;

constexpr std::size_t kDepth = 32;
constexpr std::size_t kLongestSpace = 256;
constexpr std::size_t kMostDigits = 15;  // what JavaScript's numbers count without a gap

// Names that mean something to the client's library itself.
constexpr std::array<std::string_view, 6> kReserved = {"connect",       "connect_error", "disconnect",
                                                       "disconnecting", "newListener",   "removeListener"};

std::unexpected<Error> wrong(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what), "bad_message");
}

bool is_binary(MessageType type) {
  return type == MessageType::kBinaryEvent || type == MessageType::kBinaryAck;
}

bool is_event(MessageType type) {
  return type == MessageType::kEvent || type == MessageType::kBinaryEvent;
}

// The digits at the beginning of `text`, taken away; empty where there are none, or too many.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_not_of("0123456789"), text.size());
  if (end == 0 || end > kMostDigits) return std::nullopt;
  std::uint64_t number = 0;
  std::from_chars(text.begin(), text.begin() + end, number);
  text.remove_prefix(end);
  return number;
}

std::optional<std::int64_t> placeholder_number(const json::value& value) {
  const json::object* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  const json::value* is = object->if_contains("_placeholder");
  if (is == nullptr || !is->is_bool() || !is->get_bool()) return std::nullopt;
  const json::value* number = object->if_contains("num");
  return number != nullptr && number->is_int64() ? number->get_int64() : -1;
}

// Whether each placeholder in it has its attachment.
bool placeholders_fit(const json::value& value, std::size_t attachments) {
  if (const auto number = placeholder_number(value))
    return *number >= 0 && static_cast<std::size_t>(*number) < attachments;
  if (const json::array* array = value.if_array())
    return std::ranges::all_of(*array,
                               [&](const json::value& v) { return placeholders_fit(v, attachments); });
  if (const json::object* object = value.if_object())
    return std::ranges::all_of(*object,
                               [&](const auto& m) { return placeholders_fit(m.value(), attachments); });
  return true;
}

bool is_event_name(const json::value& value) {
  if (value.is_number()) return true;
  return value.is_string() &&
         std::ranges::find(kReserved, std::string_view(value.get_string())) == kReserved.end();
}

// What a message of that type must carry.
bool data_fits(MessageType type, const json::value& data) {
  switch (type) {
    case MessageType::kConnect:
      return data.is_null() || data.is_object();
    case MessageType::kDisconnect:
      return data.is_null();
    case MessageType::kConnectError:
      return data.is_object() || data.is_string();
    case MessageType::kEvent:
    case MessageType::kBinaryEvent:
      return data.is_array() && !data.get_array().empty() && is_event_name(data.get_array().front());
    case MessageType::kAck:
    case MessageType::kBinaryAck:
      return data.is_array();
  }
  return false;
}

Result<std::pair<Message, std::size_t>> read(std::string_view text, const MessageLimits& limits) {
  if (text.empty() || text.front() < '0' || text.front() > '6')
    return wrong("there is no such type of message");
  Message message{.type = static_cast<MessageType>(text.front() - '0')};
  text.remove_prefix(1);
  std::size_t attachments = 0;
  if (is_binary(message.type)) {
    const auto count = take_number(text);
    if (!count || !text.starts_with('-'))
      return wrong("a message with bytes says how many attachments it has");
    if (*count > limits.attachments) return wrong("a message has too many attachments");
    attachments = static_cast<std::size_t>(*count);
    text.remove_prefix(1);
  }
  if (text.starts_with('/')) {
    const std::size_t comma = text.find(',');
    if (std::min(comma, text.size()) > kLongestSpace) return wrong("the name of a namespace is too long");
    message.space = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  if (!text.empty() && text.front() >= '0' && text.front() <= '9') {
    message.id = take_number(text);
    if (!message.id) return wrong("the number of an acknowledgement is too large");
  }
  if (!text.empty()) {
    boost::system::error_code broken;
    json::parse_options options;
    options.max_depth = kDepth;
    message.data = json::parse(text, broken, {}, options);
    if (broken) return wrong("what a message carries is no JSON");
  }
  const bool acknowledges = message.type == MessageType::kAck || message.type == MessageType::kBinaryAck;
  if (!data_fits(message.type, message.data)) return wrong("what a message carries is not what its type has");
  if (acknowledges && !message.id) return wrong("an acknowledgement has a number");
  if (is_binary(message.type) && !placeholders_fit(message.data, attachments))
    return wrong("a message names an attachment that it has not");
  return std::pair(std::move(message), attachments);
}

}  // namespace

const std::string* attached(const json::value& value, const std::vector<std::string>& attachments) {
  const auto number = placeholder_number(value);
  if (!number || *number < 0 || static_cast<std::size_t>(*number) >= attachments.size()) return nullptr;
  return &attachments[static_cast<std::size_t>(*number)];
}

json::value placeholder(std::size_t number) {
  return {{"_placeholder", true}, {"num", static_cast<std::int64_t>(number)}};
}

std::vector<Packet> encode(const Message& message) {
  MessageType type = message.type;
  if (!message.attachments.empty()) {
    if (is_event(type)) type = MessageType::kBinaryEvent;
    if (type == MessageType::kAck) type = MessageType::kBinaryAck;
  }
  std::string text(1, static_cast<char>('0' + static_cast<int>(type)));
  if (is_binary(type)) text += std::to_string(message.attachments.size()) + "-";
  if (message.space != "/") text += message.space + ",";
  if (message.id) text += std::to_string(*message.id);
  // Paths and processes may be called by any bytes; a text is UTF-8, or the client hangs up.
  if (!message.data.is_null()) text += wire::utf8(json::serialize(message.data));
  std::vector<Packet> packets;
  packets.reserve(1 + message.attachments.size());
  packets.push_back({.type = PacketType::kMessage, .data = std::move(text)});
  for (const std::string& bytes : message.attachments)
    packets.push_back({.type = PacketType::kMessage, .data = bytes, .binary = true});
  return packets;
}

Result<std::optional<Message>> MessageReader::take(Packet packet) {
  if (packet.binary != begun_.has_value())
    return wrong(packet.binary ? "bytes that belong to no message"
                               : "a message before the last one's attachments");
  bytes_ += packet.data.size();
  if (bytes_ > limits_.bytes) return wrong("a message is too large");
  if (packet.binary) {
    begun_->attachments.push_back(std::move(packet.data));
  } else {
    // A namespace's name is told back.
    if (wire::utf8(packet.data) != packet.data) return wrong("a message is no UTF-8");
    LM_TRY(auto message, read(packet.data, limits_));
    begun_ = std::move(message.first);
    awaited_ = message.second;
  }
  if (begun_->attachments.size() < awaited_) return std::optional<Message>();
  bytes_ = 0;
  return std::exchange(begun_, std::nullopt);
}

}  // namespace lm::socketio
