#include "client/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/conversation.h"

namespace lm::client {
namespace {

using llm_manager::Message;
using llm_manager::Question;
using testing::ElementsAre;

TEST(Prompt, IsTheQuestionAloneWhereNothingElseIsSaid) {
  Question question;
  question.prompt = "Hello";
  EXPECT_THAT(messages_of(question), ElementsAre(Message{"user", "Hello"}));
}

TEST(Prompt, HasOneSystemMessageThenTheHistoryThenTheQuestion) {
  Question question;
  question.prompt = "P";
  question.system = "S";
  question.context = "C";
  question.passages = {{.text = "one", .source = "a.md"}, {.text = "two", .source = ""}};
  question.history = {{"u1", "a1"}, {"u2", "a2"}};
  const auto messages = messages_of(question);
  ASSERT_EQ(messages.size(), 6u);
  EXPECT_EQ(messages[0].role, "system");
  EXPECT_TRUE(messages[0].text.starts_with("S\n\nContext:\nC\n\n")) << messages[0].text;
  EXPECT_TRUE(messages[0].text.ends_with("\n[1] (a.md) one\n[2] two")) << messages[0].text;
  EXPECT_EQ(messages[1], (Message{"user", "u1"}));
  EXPECT_EQ(messages[4], (Message{"assistant", "a2"}));
  EXPECT_EQ(messages[5], (Message{"user", "P"}));
  EXPECT_EQ(messages_of(question, 1)[1], (Message{"user", "u2"}));
  EXPECT_EQ(messages_of(question, 2).size(), 2u);
}

TEST(Prompt, HasNoMoreTokensThanItsBytesAndTemplate) {
  EXPECT_GE(most_tokens({{"user", std::string(1000, 'x')}}), 1000u);
  EXPECT_LT(most_tokens({{"user", "Hello"}}), 200u);
}

TEST(Conversation, CountsWhatWasAnsweredAndWhatWasNot) {
  Conversation conversation;
  const Conversation::TimePoint start{};
  EXPECT_EQ(conversation.stats(start), llm_manager::ConversationStats());
  llm_manager::Answer answer;
  answer.text = "I am glad.";
  answer.prompt_tokens = 10;
  answer.answer_tokens = 4;
  conversation.answered("I love this", answer, std::chrono::seconds(2), start);
  conversation.answered("Where is it?", answer, std::chrono::seconds(4), start);
  conversation.failed();
  const auto stats = conversation.stats(start);
  EXPECT_EQ(stats.conversation_count, 2);
  EXPECT_EQ(stats.failures, 1);
  EXPECT_EQ(stats.prompt_tokens, 20);
  EXPECT_EQ(stats.answer_tokens, 8);
  EXPECT_DOUBLE_EQ(stats.average_answer_s, 3);
  EXPECT_DOUBLE_EQ(stats.intimacy_level, 2);
  EXPECT_EQ(conversation.stats(start + std::chrono::hours(24 * 100)).intimacy_level, 0);
}

}  // namespace
}  // namespace lm::client
