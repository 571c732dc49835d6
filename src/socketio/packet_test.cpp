#include "socketio/packet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "socketio/base64.h"

namespace lm::socketio {
namespace {

using ::testing::ElementsAre;

TEST(Base64, ThereAndBack) {
  // RFC 4648's own examples.
  const std::vector<std::pair<std::string, std::string>> examples = {
      {"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : examples) {
    EXPECT_EQ(base64(bytes), text);
    EXPECT_EQ(from_base64(text), bytes);
  }
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(from_base64(base64(all)), all);
}

TEST(Base64, IsStrict) {
  for (const char* text : {"Z", "Zg", "Zg=", "Zh==", "Zm9=", "Z===", "====", "Zm9v\n", "Zm-v", "Zg==Zg=="})
    EXPECT_EQ(from_base64(text), std::nullopt) << text;
}

TEST(Packet, EachTypeThereAndBack) {
  for (int type = 0; type <= 6; ++type) {
    for (const std::string data : {"", "probe", "{\"sid\":\"x\"}", "4hello"}) {
      const Packet packet{.type = static_cast<PacketType>(type), .data = data};
      EXPECT_EQ(encode(packet), std::to_string(type) + data);
      EXPECT_EQ(decode(encode(packet)), packet);
    }
  }
}

TEST(Packet, BytesAreBase64) {
  const Packet packet{.type = PacketType::kMessage, .data = "\x01\x02\x03\x04", .binary = true};
  EXPECT_EQ(encode(packet), "bAQIDBA==");
  EXPECT_EQ(decode("bAQIDBA=="), packet);
}

TEST(Packet, WhatIsNone) {
  for (const char* text : {"", "7", "abc", "b!", "bAQIDBA", " 4hello", "-1"}) {
    const auto packet = decode(text);
    ASSERT_FALSE(packet) << text;
    EXPECT_EQ(packet.error().reason, "bad_packet");
  }
}

TEST(Payload, ThereAndBack) {
  const std::vector<Packet> packets = {
      {.type = PacketType::kMessage, .data = "hello"},
      {.type = PacketType::kPing, .data = ""},
      {.type = PacketType::kMessage, .data = "\x01\x02\x03\x04", .binary = true}};
  EXPECT_EQ(encode_payload(packets),
            "4hello\x1e"
            "2\x1e"
            "bAQIDBA==");
  EXPECT_EQ(decode_payload(encode_payload(packets), 3), packets);
  EXPECT_THAT(*decode_payload("6", 1), ElementsAre(Packet{.type = PacketType::kNoop, .data = ""}));
}

TEST(Payload, WhatIsNone) {
  for (const char* body : {"", "\x1e", "4a\x1e",
                           "\x1e"
                           "4a",
                           "4a\x1e\x1e"
                           "4b",
                           "4a\x1e"
                           "x"})
    EXPECT_FALSE(decode_payload(body, 10)) << body;
  EXPECT_TRUE(
      decode_payload("4a\x1e"
                     "4b",
                     2));
  EXPECT_FALSE(
      decode_payload("4a\x1e"
                     "4b\x1e"
                     "4c",
                     2));
}

}  // namespace
}  // namespace lm::socketio
