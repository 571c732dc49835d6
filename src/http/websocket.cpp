#include "http/websocket.h"

#include <algorithm>
#include <utility>

#include <openssl/evp.h>
#include <openssl/sha.h>

namespace lm::http {
namespace {

constexpr std::string_view kGuid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
constexpr std::size_t kKeySize = 24;       // of sixteen bytes in base64
constexpr std::size_t kMostControl = 125;  // bytes of a control frame's payload

constexpr std::uint8_t kContinuation = 0;

bool is_control(std::uint8_t opcode) {
  return (opcode & 8u) != 0;
}

bool is_key(std::string_view text) {
  return text.size() == kKeySize && text.ends_with("==") &&
         std::ranges::all_of(text.substr(0, kKeySize - 2), [](char c) {
           return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
                  c == '/';
         });
}

std::string accept_of(std::string_view key) {
  const std::string text = std::string(key) + std::string(kGuid);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::array<unsigned char, 4 * ((SHA_DIGEST_LENGTH + 2) / 3) + 1> base64{};
  const int size = EVP_EncodeBlock(base64.data(), digest.data(), SHA_DIGEST_LENGTH);
  return {reinterpret_cast<const char*>(base64.data()), static_cast<std::size_t>(size)};
}

// What a closing frame says: nothing, or a code that may travel and a reason.
bool is_close_payload(std::string_view bytes) {
  if (bytes.empty()) return true;
  if (bytes.size() == 1) return false;
  const unsigned code = static_cast<unsigned char>(bytes[0]) * 256u + static_cast<unsigned char>(bytes[1]);
  const bool named = (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
  return named || (code >= 3000 && code <= 4999);
}

}  // namespace

Result<std::string> websocket_answer(const Request& request) {
  const auto wrong = [](std::string what) {
    return fail(ErrorCode::kInvalidArgument, std::move(what), "not_a_websocket");
  };
  if (request.method != Method::kGet || request.version != 11 ||
      !request.headers.has_token("Connection", "Upgrade") ||
      !request.headers.has_token("Upgrade", "websocket"))
    return wrong("this is for WebSockets: a GET with Connection: Upgrade and Upgrade: websocket");
  if (request.headers.get("Sec-WebSocket-Version") != "13")
    return wrong("WebSockets are spoken in version 13 here");
  const auto key = request.headers.get("Sec-WebSocket-Key");
  if (!key || request.headers.count("Sec-WebSocket-Key") != 1 || !is_key(*key))
    return wrong("Sec-WebSocket-Key must be sixteen bytes in base64");
  return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
         "Sec-WebSocket-Accept: " +
         accept_of(*key) + "\r\n\r\n";
}

void append_websocket_frame(std::string& to, WebSocketKind kind, std::string_view bytes) {
  to += static_cast<char>(0x80u | static_cast<unsigned>(kind));
  const std::uint64_t size = bytes.size();
  int more = 0;  // bytes of the length behind its first
  if (size < 126) {
    to += static_cast<char>(size);
  } else if (size <= 0xFFFF) {
    to += static_cast<char>(126);
    more = 2;
  } else {
    to += static_cast<char>(127);
    more = 8;
  }
  for (int i = more - 1; i >= 0; --i) to += static_cast<char>((size >> (8 * i)) & 0xFFu);
  to += bytes;
}

void append_websocket_close(std::string& to, WebSocketClose why) {
  const auto code = static_cast<unsigned>(why);
  const char bytes[] = {static_cast<char>(code >> 8u), static_cast<char>(code & 0xFFu)};
  append_websocket_frame(to, WebSocketKind::kClose, {bytes, sizeof bytes});
}

std::expected<void, WebSocketClose> WebSocketReader::feed(std::string_view bytes,
                                                          std::vector<WebSocketMessage>& into) {
  for (;;) {
    while (!in_payload_) {
      if (bytes.empty()) return {};
      header_[header_have_++] = static_cast<unsigned char>(bytes.front());
      bytes.remove_prefix(1);
      if (header_have_ < 2 || header_have_ < header_size()) continue;
      if (auto begun = begin_frame(); !begun) return begun;
    }
    const std::size_t now = static_cast<std::size_t>(std::min<std::uint64_t>(left_, bytes.size()));
    std::string& payload = is_control(opcode_) ? control_ : message_;
    const unsigned char* mask = &header_[header_size() - 4];
    const std::size_t at = payload.size();
    payload.append(bytes.substr(0, now));
    for (std::size_t i = 0; i < now; ++i)
      payload[at + i] = static_cast<char>(static_cast<unsigned char>(payload[at + i]) ^ mask[masked_++ % 4]);
    bytes.remove_prefix(now);
    left_ -= now;
    if (left_ > 0) return {};
    if (auto ended = end_frame(into); !ended) return ended;
  }
}

// Legal once the first two bytes are there.
std::size_t WebSocketReader::header_size() const {
  const unsigned length = header_[1] & 0x7Fu;
  return 2 + (length == 126 ? 2u : length == 127 ? 8u : 0u) + 4;
}

std::expected<void, WebSocketClose> WebSocketReader::begin_frame() {
  const auto broken = std::unexpected(WebSocketClose::kProtocolError);
  opcode_ = header_[0] & 0x0Fu;
  is_last_ = (header_[0] & 0x80u) != 0;
  const bool is_reserved = (header_[0] & 0x70u) != 0;
  const bool is_masked = (header_[1] & 0x80u) != 0;
  if (is_reserved || !is_masked) return broken;  // extensions were never agreed on; a client masks
  left_ = header_[1] & 0x7Fu;
  if (left_ >= 126) {
    const std::size_t size = left_ == 126 ? 2 : 8;
    left_ = 0;
    for (std::size_t i = 0; i < size; ++i) left_ = left_ << 8u | header_[2 + i];
    const std::uint64_t least = size == 2 ? 126 : 0x10000;
    if (left_ < least || (left_ >> 63u) != 0) return broken;
  }
  if (is_control(opcode_)) {
    if (opcode_ > 10 || !is_last_ || left_ > kMostControl) return broken;
  } else {
    const bool continues = opcode_ == kContinuation;
    if (opcode_ > 2 || continues != (message_opcode_ != 0)) return broken;
    if (left_ > longest_ - std::min(longest_, message_.size()))
      return std::unexpected(WebSocketClose::kTooBig);
    if (!continues) message_opcode_ = opcode_;
  }
  in_payload_ = true;
  masked_ = 0;
  return {};
}

std::expected<void, WebSocketClose> WebSocketReader::end_frame(std::vector<WebSocketMessage>& into) {
  in_payload_ = false;
  header_have_ = 0;
  if (is_control(opcode_)) {
    const auto kind = static_cast<WebSocketKind>(opcode_);
    if (kind == WebSocketKind::kClose && !is_close_payload(control_))
      return std::unexpected(WebSocketClose::kProtocolError);
    into.push_back({.kind = kind, .bytes = std::exchange(control_, {})});
  } else if (is_last_) {
    into.push_back(
        {.kind = static_cast<WebSocketKind>(message_opcode_), .bytes = std::exchange(message_, {})});
    message_opcode_ = 0;
  }
  return {};
}

}  // namespace lm::http
