#include "api/socket_conversation.h"

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

namespace asio = boost::asio;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A client whose transport takes what a test lets it take.
struct Listener {
  Listener(asio::any_io_executor executor, std::string id)
      : session(std::make_shared<socketio::Session>(executor, id, socketio::Timing(), socketio::Caller(),
                                                    socketio::Session::Transport::kPolling, TimePoint())),
        socket(std::make_shared<socketio::Socket>(session, id, "/", socketio::Caller())) {}
  void fill() {
    session->send(
        {.type = socketio::PacketType::kMessage, .data = std::string(socketio::Session::kRoom, 'x')});
  }
  // What has come since, without what fill() sent.
  std::vector<std::string> take() {
    std::vector<std::string> texts;
    for (const socketio::Packet& packet : session->take(std::size_t{1} << 30))
      if (!packet.data.starts_with('x')) texts.push_back(packet.data);
    return texts;
  }
  std::shared_ptr<socketio::Session> session;
  std::shared_ptr<socketio::Socket> socket;
};

auto chunk(std::string_view text) {
  return AllOf(HasSubstr("[\"chat_chunk\""), HasSubstr("\"content\":\"" + std::string(text) + "\""));
}

class ConversationTest : public ::testing::Test {
 protected:
  ConversationTest() {
    conversation.join(quick.socket);
    conversation.join(slow.socket);
    conversation.begin("id");
  }
  asio::io_context context;
  Listener quick{context.get_executor(), "quick"}, slow{context.get_executor(), "slow"};
  SocketConversation conversation{context.get_executor(), boost::json::value("r")};
};

TEST_F(ConversationTest, WhoIsSlowHearsTheSameLater) {
  slow.fill();
  for (const char* piece : {"a", "b", "c"}) conversation.say({.is_thinking = false, .text = piece});
  EXPECT_THAT(quick.take(), ElementsAre(chunk("a"), chunk("b"), chunk("c")));
  EXPECT_EQ(conversation.behind(*slow.socket), 3u);
  EXPECT_THAT(slow.take(), ElementsAre());
  conversation.say({.is_thinking = false, .text = "d"});
  EXPECT_THAT(slow.take(), ElementsAre(chunk("abcd")));
  EXPECT_THAT(quick.take(), ElementsAre(chunk("d")));
  EXPECT_EQ(conversation.behind(*slow.socket), 0u);
}

TEST_F(ConversationTest, ThoughtsAreKeptApart) {
  slow.fill();
  conversation.say({.is_thinking = true, .text = "hm"});
  conversation.say({.is_thinking = false, .text = "a"});
  conversation.say({.is_thinking = false, .text = "b"});
  slow.take();
  conversation.catch_up();
  EXPECT_THAT(slow.take(), ElementsAre(AllOf(chunk("hm"), HasSubstr("\"thinking\"")), chunk("ab")));
  EXPECT_EQ(conversation.text(), "ab");
}

TEST_F(ConversationTest, AtTheEndEverybodyHasHeardAll) {
  slow.fill();
  conversation.say({.is_thinking = false, .text = "a"});
  conversation.catch_up(true);
  conversation.tell("chat_done", {{"content", "a"}});
  EXPECT_THAT(slow.take(),
              ElementsAre(chunk("a"), AllOf(HasSubstr("chat_done"), HasSubstr("\"room_id\":\"r\""))));
  conversation.begin("next");
  EXPECT_EQ(conversation.text(), "");
}

TEST_F(ConversationTest, WhoComesLateHearsItFromTheBeginning) {
  conversation.say({.is_thinking = false, .text = "a"});
  Listener late(context.get_executor(), "late");
  conversation.join(late.socket);
  conversation.join(late.socket);
  conversation.say({.is_thinking = false, .text = "b"});
  EXPECT_THAT(late.take(), ElementsAre(chunk("ab")));
  conversation.leave(*late.socket);
  EXPECT_FALSE(conversation.has(*late.socket));
  conversation.say({.is_thinking = false, .text = "c"});
  EXPECT_THAT(late.take(), ElementsAre());
}

TEST_F(ConversationTest, AWordToAllButOne) {
  conversation.tell("chat_message", {{"content", "hey"}}, quick.socket.get());
  EXPECT_THAT(quick.take(), ElementsAre());
  EXPECT_THAT(slow.take(), ElementsAre(HasSubstr("hey")));
}

}  // namespace
}  // namespace lm::api
