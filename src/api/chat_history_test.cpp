#include "api/chat_history.h"

#include <gtest/gtest.h>

namespace lm::api {
namespace {

TEST(ChatHistory, ForgetsTheOldestFirst) {
  ChatHistory history;
  for (std::size_t i = 0; i < ChatHistory::kMostTurns + 3; ++i) history.add(std::to_string(i), "answer");
  EXPECT_EQ(history.turns().size(), ChatHistory::kMostTurns);
  EXPECT_EQ(history.turns().front().question, "3");
}

TEST(ChatHistory, IsBoundedInBytes) {
  ChatHistory history;
  const std::string third(ChatHistory::kMostBytes / 3, 'x');
  for (int i = 0; i < 10; ++i) history.add(std::to_string(i), third);
  EXPECT_EQ(history.turns().size(), 2u);
  EXPECT_EQ(history.turns().back().question, "9");
  history.add("huge", std::string(ChatHistory::kMostBytes, 'x'));
  EXPECT_TRUE(history.turns().empty()) << "what is larger than all of it is not kept either";
  history.add("small", "again");
  EXPECT_EQ(history.turns().size(), 1u);
}

TEST(ChatHistory, ForgetsHalf) {
  ChatHistory history;
  for (int i = 0; i < 5; ++i) history.add(std::to_string(i), "answer");
  history.forget_half();
  EXPECT_EQ(history.turns().front().question, "3");
  history.forget_half();
  history.forget_half();
  EXPECT_TRUE(history.turns().empty());
  history.forget_half();
  EXPECT_TRUE(history.turns().empty());
}

}  // namespace
}  // namespace lm::api
