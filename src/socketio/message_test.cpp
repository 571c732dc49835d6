#include "socketio/message.h"

#include <boost/json/parse.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::socketio {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;

Packet text(std::string data) {
  return {.type = PacketType::kMessage, .data = std::move(data)};
}
Packet bytes(std::string data) {
  return {.type = PacketType::kMessage, .data = std::move(data), .binary = true};
}

// What the packets become; empty where they are refused, or leave something open.
std::optional<Message> read(const std::vector<Packet>& packets, MessageLimits limits = {}) {
  MessageReader reader(limits);
  std::optional<Message> last;
  for (const Packet& packet : packets) {
    if (last) ADD_FAILURE() << "a message was whole before its last packet";
    auto message = reader.take(packet);
    if (!message) {
      EXPECT_EQ(message.error().reason, "bad_message");
      return std::nullopt;
    }
    last = *std::move(message);
  }
  return last;
}

bool is_refused(std::string one) {
  MessageReader reader({});
  return !reader.take(text(std::move(one)));
}

struct Example {
  Message message;
  std::vector<Packet> packets;
};

std::vector<Example> examples() {
  const auto parse = [](std::string_view s) { return json::parse(s); };
  return {
      {{.type = MessageType::kConnect}, {text("0")}},
      {{.type = MessageType::kConnect, .space = "/admin", .data = parse(R"({"sid":"x"})")},
       {text(R"(0/admin,{"sid":"x"})")}},
      {{.type = MessageType::kDisconnect, .space = "/admin"}, {text("1/admin,")}},
      {{.type = MessageType::kDisconnect}, {text("1")}},
      {{.type = MessageType::kEvent, .data = parse(R"(["foo"])")}, {text(R"(2["foo"])")}},
      {{.type = MessageType::kEvent, .space = "/admin", .data = parse(R"(["bar",{"a":[1]}])")},
       {text(R"(2/admin,["bar",{"a":[1]}])")}},
      {{.type = MessageType::kEvent, .id = 12, .data = parse(R"(["foo"])")}, {text(R"(212["foo"])")}},
      {{.type = MessageType::kAck, .space = "/admin", .id = 13, .data = parse(R"(["bar"])")},
       {text(R"(3/admin,13["bar"])")}},
      {{.type = MessageType::kAck, .id = 0, .data = parse("[]")}, {text("30[]")}},
      {{.type = MessageType::kConnectError, .data = parse(R"({"message":"Not authorized"})")},
       {text(R"(4{"message":"Not authorized"})")}},
      {{.type = MessageType::kBinaryEvent,
        .space = "/admin",
        .data = parse(R"(["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}])"),
        .attachments = {"\x01\x02", "\x03\x04"}},
       {text(R"(52-/admin,["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}])"),
        bytes("\x01\x02"), bytes("\x03\x04")}},
      {{.type = MessageType::kBinaryAck,
        .id = 15,
        .data = parse(R"(["bar",{"_placeholder":true,"num":0}])"),
        .attachments = {std::string("\0", 1)}},
       {text(R"(61-15["bar",{"_placeholder":true,"num":0}])"), bytes(std::string("\0", 1))}},
  };
}

TEST(Message, EachTypeThereAndBack) {
  for (const Example& example : examples()) {
    EXPECT_EQ(encode(example.message), example.packets) << example.packets.front().data;
    EXPECT_EQ(read(example.packets), example.message) << example.packets.front().data;
  }
}

TEST(Message, ANamespaceMayEndTheText) {
  EXPECT_EQ(read({text("0/admin")})->space, "/admin");
  EXPECT_EQ(read({text("1/admin")})->space, "/admin");
}

TEST(Message, AttachmentsMakeTheTypeBinary) {
  const auto packets =
      encode({.type = MessageType::kEvent, .data = {"picture", placeholder(0)}, .attachments = {"p"}});
  EXPECT_THAT(packets, ElementsAre(text(R"(51-["picture",{"_placeholder":true,"num":0}])"), bytes("p")));
}

TEST(Message, PlaceholdersStandForBytes) {
  const std::vector<std::string> two = {"a", "b"};
  EXPECT_EQ(*attached(placeholder(1), two), "b");
  EXPECT_EQ(attached(placeholder(2), two), nullptr);
  EXPECT_EQ(attached(json::parse(R"({"_placeholder":false,"num":0})"), two), nullptr);
  EXPECT_EQ(attached(json::parse(R"("text")"), two), nullptr);
}

TEST(Message, WhatIsNone) {
  for (const char* wrong : {"",
                            "7",
                            "abc",
                            "2",
                            "2[]",
                            "2{}",
                            "2[{}]",
                            "2[null]",
                            "2\"foo\"",
                            "2[\"foo\"",
                            "2[\"foo\"]x",
                            "0[]",
                            "0\"x\"",
                            "0null x",
                            "1{}",
                            "1[]",
                            "3[]",
                            "3/admin,[]",
                            "3",
                            "34{}",
                            "4",
                            "4[]",
                            "5[\"x\"]",
                            "5-[\"x\"]",
                            "51[\"x\"]",
                            "6-1[]",
                            "51-[\"x\",{\"_placeholder\":true,\"num\":1}]",
                            "51-[\"x\",{\"_placeholder\":true,\"num\":-1}]",
                            "51-[\"x\",{\"_placeholder\":true}]",
                            "51-[\"x\",{\"a\":[{\"_placeholder\":true,\"num\":\"0\"}]}]",
                            "2[\"connect\"]",
                            "2[\"disconnect\"]",
                            "2[\"newListener\"]",
                            "21234567890123456[\"x\"]",
                            "517-[\"x\"]",
                            "2[\"\xff\"]",
                            "0/\xff,"}) {
    EXPECT_TRUE(is_refused(wrong)) << wrong;
  }
  EXPECT_TRUE(is_refused("2[\"x\"," + std::string(40, '[') + "1" + std::string(40, ']') + "]")) << "too deep";
  EXPECT_TRUE(is_refused("0/" + std::string(300, 'x'))) << "a long namespace";
}

TEST(Message, AttachmentsComeInTheirPlace) {
  EXPECT_EQ(read({bytes("x")}), std::nullopt) << "bytes of nothing";
  EXPECT_EQ(read({text("51-[\"x\"]"), text("2[\"y\"]")}), std::nullopt) << "a message instead of bytes";
  EXPECT_TRUE(read({text("50-[\"x\"]")}).has_value()) << "none is a number, too";
}

TEST(Message, HoldsNoMoreThanItsLimits) {
  const MessageLimits limits{.attachments = 2, .bytes = 100};
  EXPECT_TRUE(read({text("52-[\"x\"]"), bytes("a"), bytes("b")}, limits));
  EXPECT_FALSE(read({text("53-[\"x\"]")}, limits));
  EXPECT_FALSE(read({text("52-[\"x\"]"), bytes(std::string(60, 'a')), bytes(std::string(60, 'b'))}, limits));
  MessageReader reader(limits);
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(reader.take(text("2[\"x\",\"" + std::string(80, 'y') + "\"]"))) << "each is counted alone";
}

}  // namespace
}  // namespace lm::socketio
