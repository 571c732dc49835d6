#include "http/websocket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Request asking() {
  Request request;
  request.headers = {{"Connection", "keep-alive, Upgrade"},
                     {"Upgrade", "websocket"},
                     {"Sec-WebSocket-Version", "13"},
                     {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}};
  return request;
}

// A client's frame, masked.
std::string frame(unsigned first, std::string_view payload, int length_bytes = 0) {
  std::string out(1, static_cast<char>(first));
  if (length_bytes == 0 && payload.size() < 126) {
    out += static_cast<char>(0x80u | payload.size());
  } else {
    const int size = length_bytes != 0 ? length_bytes : payload.size() <= 0xFFFF ? 2 : 8;
    out += static_cast<char>(0x80u | (size == 2 ? 126u : 127u));
    for (int i = size - 1; i >= 0; --i)
      out += static_cast<char>((std::uint64_t{payload.size()} >> (8 * i)) & 0xFF);
  }
  const std::string_view mask = "\x11\x22\x33\x44";
  out += mask;
  for (std::size_t i = 0; i < payload.size(); ++i) out += static_cast<char>(payload[i] ^ mask[i % 4]);
  return out;
}

struct Outcome {
  std::vector<std::pair<int, std::string>> messages;
  int closed_with = 0;
};

Outcome read(std::string_view bytes, std::size_t piece, std::size_t longest = 1000) {
  WebSocketReader reader(longest);
  Outcome outcome;
  std::vector<WebSocketMessage> messages;
  while (!bytes.empty() && outcome.closed_with == 0) {
    const auto fed = reader.feed(bytes.substr(0, piece), messages);
    if (!fed) outcome.closed_with = static_cast<int>(fed.error());
    bytes.remove_prefix(std::min(piece, bytes.size()));
  }
  for (const WebSocketMessage& message : messages)
    outcome.messages.emplace_back(static_cast<int>(message.kind), message.bytes);
  return outcome;
}

TEST(WebSocket, AnswersTheStandardsOwnExample) {
  const auto answer = websocket_answer(asking());
  ASSERT_TRUE(answer);
  EXPECT_THAT(*answer, HasSubstr("HTTP/1.1 101 "));
  EXPECT_THAT(*answer, HasSubstr("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  EXPECT_TRUE(answer->ends_with("\r\n\r\n"));
}

TEST(WebSocket, AnswersNobodyElse) {
  for (const auto& [name, value] :
       std::vector<std::pair<std::string, std::string>>{{"Connection", "keep-alive"},
                                                        {"Upgrade", "h2c"},
                                                        {"Sec-WebSocket-Version", "8"},
                                                        {"Sec-WebSocket-Key", "short"},
                                                        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZ!=="}}) {
    Request request = asking();
    request.headers.set(name, value);
    EXPECT_FALSE(websocket_answer(request)) << name << ": " << value;
    request.headers.erase(name);
    EXPECT_FALSE(websocket_answer(request)) << "without " << name;
  }
  Request post = asking();
  post.method = Method::kPost;
  EXPECT_FALSE(websocket_answer(post));
}

TEST(WebSocket, WritesLengthsOfEachSize) {
  for (const auto& [size, head] : std::vector<std::pair<std::size_t, std::string>>{
           {0, std::string("\x81\x00", 2)},
           {125, "\x81\x7d"},
           {126, std::string("\x81\x7e\x00\x7e", 4)},
           {0x10000, std::string("\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10)}}) {
    std::string out;
    append_websocket_frame(out, WebSocketKind::kText, std::string(size, 'x'));
    EXPECT_EQ(out, head + std::string(size, 'x'));
  }
  std::string close;
  append_websocket_close(close, WebSocketClose::kTooBig);
  EXPECT_EQ(close, "\x88\x02\x03\xf1");
}

TEST(WebSocket, ReadsMessagesHoweverTheyCome) {
  const std::string long_text(700, 'y');
  const std::string bytes = frame(0x81, "hello") + frame(0x82, std::string("\0\xff", 2)) + frame(0x81, "") +
                            frame(0x81, long_text) + frame(0x89, "are you there");
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, bytes.size()}) {
    const Outcome got = read(bytes, piece);
    EXPECT_EQ(got.closed_with, 0);
    EXPECT_THAT(got.messages,
                ElementsAre(std::pair(1, "hello"), std::pair(2, std::string("\0\xff", 2)), std::pair(1, ""),
                            std::pair(1, long_text), std::pair(9, "are you there")));
  }
}

TEST(WebSocket, JoinsFragmentsAroundControlFrames) {
  const std::string bytes =
      frame(0x01, "one ") + frame(0x8a, "pong") + frame(0x00, "two ") + frame(0x80, "three");
  EXPECT_THAT(read(bytes, 1).messages, ElementsAre(std::pair(10, "pong"), std::pair(1, "one two three")));
}

TEST(WebSocket, RefusesWhatTheStandardForbids) {
  std::string unmasked;
  append_websocket_frame(unmasked, WebSocketKind::kText, "hello");
  const std::string one_byte_close = frame(0x88, "x");
  const std::string reserved_code = frame(0x88, "\x03\xed");  // 1005 never travels
  const std::vector<std::pair<const char*, std::string>> wrong = {
      {"not masked", unmasked},
      {"a reserved bit", frame(0xC1, "x")},
      {"an unknown opcode", frame(0x83, "x")},
      {"an unknown control opcode", frame(0x8B, "x")},
      {"a control frame in parts", frame(0x09, "x")},
      {"a long control frame", frame(0x89, std::string(126, 'x'))},
      {"a continuation of nothing", frame(0x80, "x")},
      {"a message within a message", frame(0x01, "x") + frame(0x81, "y")},
      {"a length that is longer than it must be", frame(0x81, "x", 2)},
      {"and with eight bytes", frame(0x81, "x", 8)},
      {"a close of one byte", one_byte_close},
      {"a code that never travels", reserved_code}};
  for (const auto& [what, bytes] : wrong) {
    EXPECT_EQ(read(bytes, 1).closed_with, 1002) << what;
    EXPECT_EQ(read(bytes, bytes.size()).closed_with, 1002) << what;
  }
}

TEST(WebSocket, HoldsNoMoreThanItsLimit) {
  EXPECT_EQ(read(frame(0x82, std::string(1000, 'x')), 7).messages.size(), 1u);
  EXPECT_EQ(read(frame(0x82, std::string(1001, 'x')), 7).closed_with, 1009);
  // Known from its header, and in parts together.
  EXPECT_EQ(read(frame(0x82, std::string(5000, 'x')).substr(0, 8), 8).closed_with, 1009);
  EXPECT_EQ(read(frame(0x02, std::string(600, 'x')) + frame(0x80, std::string(401, 'x')), 50).closed_with,
            1009);
}

TEST(WebSocket, AClosingFrameIsAMessage) {
  EXPECT_THAT(read(frame(0x88, ""), 1).messages, ElementsAre(std::pair(8, "")));
  EXPECT_THAT(read(frame(0x88,
                         "\x03\xe9"
                         "bye"),
                   1)
                  .messages,
              ElementsAre(std::pair(8,
                                    "\x03\xe9"
                                    "bye")));
  EXPECT_THAT(read("", 1).messages, IsEmpty());
}

}  // namespace
}  // namespace lm::http
