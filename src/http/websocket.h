// WebSocket (RFC 6455) as bytes: the handshake, frames out, frames in. Pure; no sockets. A server's side
// only.
//
// By hand and not by Beast's stream: that one wants an asynchronous stream of Asio's under it and keeps
// buffers for each connection, idle ones too, where a frame is a header of at most fourteen bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/message.h"

namespace lm::http {

// The head of the answer that lets a request leave HTTP, with its empty line: 101. kInvalidArgument
// "not_a_websocket" where the request does not ask for that as the standard has it, or for another version.
Result<std::string> websocket_answer(const Request& request);

enum class WebSocketKind : std::uint8_t { kText = 1, kBinary = 2, kClose = 8, kPing = 9, kPong = 10 };

// Why a connection is closed, as its last frame says it.
enum class WebSocketClose : std::uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kProtocolError = 1002,
  kPolicy = 1008,
  kTooBig = 1009,
};

// Appends a server's frame: whole, not masked.
void append_websocket_frame(std::string& to, WebSocketKind kind, std::string_view bytes);
void append_websocket_close(std::string& to, WebSocketClose why);

// A whole message, joined of its frames. A text is not looked at: whoever reads it knows what it must be.
struct WebSocketMessage {
  WebSocketKind kind = WebSocketKind::kText;
  std::string bytes;
};

// Owned by whoever reads the connection; fed whatever has come, in pieces of any size.
class WebSocketReader {
 public:
  // `longest`: bytes of a message, all its frames together.
  explicit WebSocketReader(std::size_t longest) : longest_(longest) {}

  // Takes all of `bytes`; what became whole is appended to `into`, control frames between the frames of a
  // message before it. The error is what the connection must be closed with, and final.
  std::expected<void, WebSocketClose> feed(std::string_view bytes, std::vector<WebSocketMessage>& into);

 private:
  std::expected<void, WebSocketClose> begin_frame();
  std::expected<void, WebSocketClose> end_frame(std::vector<WebSocketMessage>& into);
  std::size_t header_size() const;

  std::size_t longest_;
  std::array<unsigned char, 14> header_{};
  std::size_t header_have_ = 0;
  bool in_payload_ = false;
  std::uint64_t left_ = 0;   // of the frame's payload
  std::size_t masked_ = 0;   // bytes of it that were unmasked
  std::string message_;      // of the frames so far
  std::string control_;      // of a control frame
  std::uint8_t opcode_ = 0;  // of the frame
  bool is_last_ = false;
  std::uint8_t message_opcode_ = 0;  // 0: no message was begun
};

}  // namespace lm::http
