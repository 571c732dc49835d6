#include "runtime/transcript_keeper.h"

#include <fstream>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::runtime {
namespace {

using store::Conversation;
using store::FoundConversation;
using store::Message;
using store::Transcripts;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using namespace std::chrono_literals;

class TranscriptKeeperTest : public ::testing::Test {
 protected:
  TranscriptKeeperTest() { open(); }

  void open(std::size_t most_waiting = 100) {
    keeper_.reset();
    keeper_ = std::make_unique<TranscriptKeeper>(TranscriptKeeper::Seams{.executor = io_.get_executor(),
                                                                         .unix_ms = [] { return 1000; },
                                                                         .between_writes = 20ms,
                                                                         .longest = 20s,
                                                                         .most_waiting = most_waiting},
                                                 folder_.path());
  }
  template <class T>
  Result<T> change(TranscriptKeeper::Job<T> job) {
    return os::testing::run(io_, keeper_->change<T>(std::move(job)));
  }
  template <class T>
  Result<T> look(TranscriptKeeper::Job<T> job) {
    return os::testing::run(io_, keeper_->look<T>(std::move(job)));
  }
  Conversation begin() {
    return change<Conversation>([](Transcripts& t) { return t.create({.title = "t"}, 1); }).value();
  }
  std::int64_t say(const Conversation& conversation, std::string text) {
    return change<std::int64_t>(
               [id = conversation.id, text](Transcripts& t) { return t.say(id, {}, text, "m", 1); })
        .value();
  }
  std::vector<Message> messages(const Conversation& conversation) {
    return look<std::vector<Message>>(
               [id = conversation.id](Transcripts& t) { return t.messages(id, {}, 0, 100); })
        .value();
  }
  Result<void> end(TranscriptKeeper::Answer& answer) { return os::testing::run(io_, answer.end()); }
  // Runs until the file has such a message, which another one looks into.
  bool wait_for(std::string_view text) {
    auto reader = store::Database::open_read_only(folder_.path(), store::conversation_layout());
    return os::testing::run_until(io_, [&] {
      auto found = (*reader)->prepare("SELECT 1 FROM messages WHERE text = ?1");
      return found->bind(1, text).step().value_or(false);
    });
  }

  os::testing::TemporaryFolder folder_;
  boost::asio::io_context io_;
  std::unique_ptr<TranscriptKeeper> keeper_;
};

TEST_F(TranscriptKeeperTest, NothingIsMadeUntilSomebodyAsks) {
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "conversations.db"));
  const auto found = look<std::vector<FoundConversation>>([](Transcripts& t) { return t.find({}); });
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_THAT(*found, IsEmpty());
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "conversations.db"));
}

TEST_F(TranscriptKeeperTest, AnAnswerIsInTheFileWhenItsEndReturns) {
  const auto begun = begin();
  auto answer = keeper_->begin_answer(say(begun, "hello"), "m");
  answer.append("Good ");
  answer.append("day.");
  ASSERT_TRUE(end(answer));
  const auto kept = messages(begun);
  ASSERT_THAT(kept, SizeIs(2));
  EXPECT_EQ(kept[1].text, "Good day.");
  EXPECT_TRUE(kept[1].complete);
}

TEST_F(TranscriptKeeperTest, AnAnswerIsStoredWhileItComes) {
  const auto begun = begin();
  auto answer = keeper_->begin_answer(say(begun, "hello"), "m");
  answer.append("Good ");
  EXPECT_TRUE(wait_for("Good "));
  EXPECT_FALSE(messages(begun).back().complete);
  answer.append("day.");
  ASSERT_TRUE(end(answer));
  EXPECT_EQ(messages(begun).back().text, "Good day.");
  EXPECT_THAT(messages(begun), SizeIs(2));
}

TEST_F(TranscriptKeeperTest, AnAnswerThatBreaksOffIsHalf) {
  const auto begun = begin();
  {
    auto answer = keeper_->begin_answer(say(begun, "hello"), "m");
    answer.append("Good ");
  }
  os::testing::run(io_, keeper_->close(20s));
  open();
  const auto kept = messages(begun);
  ASSERT_THAT(kept, SizeIs(2));
  EXPECT_EQ(kept[1].text, "Good ");
  EXPECT_FALSE(kept[1].complete);
}

TEST_F(TranscriptKeeperTest, WhereNothingWasSaidNothingIsStored) {
  const auto begun = begin();
  const auto number = say(begun, "hello");
  {
    auto left = keeper_->begin_answer(number, "m");
  }
  auto empty = keeper_->begin_answer(number, "m");
  EXPECT_TRUE(end(empty));
  os::testing::run(io_, keeper_->close(20s));
  EXPECT_THAT(messages(begun), SizeIs(1));
}

TEST_F(TranscriptKeeperTest, TooLongAnAnswerStaysHalf) {
  const auto begun = begin();
  auto answer = keeper_->begin_answer(say(begun, "hello"), "m");
  answer.append("some");
  answer.append(std::string(Transcripts::kMostText, 'x'));
  answer.append("more");
  EXPECT_EQ(end(answer).error().reason, "answer_too_long");
  EXPECT_EQ(messages(begun).back().text, "some");
  EXPECT_FALSE(messages(begun).back().complete);
}

TEST_F(TranscriptKeeperTest, AnAnswerOfARemovedConversationSaysSo) {
  const auto begun = begin();
  auto answer = keeper_->begin_answer(say(begun, "hello"), "m");
  ASSERT_TRUE(change<int>([id = begun.id](Transcripts& t) -> Result<int> {
    LM_TRY_VOID(t.remove(id, {}));
    return 0;
  }));
  answer.append("x");
  EXPECT_EQ(end(answer).error().reason, "conversation_not_found");
}

TEST_F(TranscriptKeeperTest, ManyAnswersAtOnceAreEachTheirOwn) {
  constexpr int kMany = 200;
  const auto begun = begin();
  std::vector<TranscriptKeeper::Answer> answers;
  const auto number = say(begun, "hello");
  for (int i = 0; i < kMany; ++i) answers.push_back(keeper_->begin_answer(number, std::to_string(i)));
  for (int piece = 0; piece < 3; ++piece) {
    for (int i = 0; i < kMany; ++i) answers[static_cast<std::size_t>(i)].append(std::to_string(i) + ";");
  }
  for (auto& answer : answers) ASSERT_TRUE(end(answer));
  const auto kept =
      look<std::vector<Message>>([id = begun.id](Transcripts& t) { return t.messages(id, {}, 0, 1000); });
  ASSERT_THAT(*kept, SizeIs(kMany + 1));
  for (const Message& message : *kept) {
    if (message.role == "user") continue;
    EXPECT_EQ(message.text, message.model + ";" + message.model + ";" + message.model + ";");
    EXPECT_TRUE(message.complete);
  }
}

TEST_F(TranscriptKeeperTest, ADiskThatCannotBeWrittenIsSaidAndTriedAgain) {
  // A folder in the place of the file.
  std::filesystem::create_directory(folder_.path() / "conversations.db");
  EXPECT_FALSE(change<Conversation>([](Transcripts& t) { return t.create({}, 1); }));
  EXPECT_FALSE(look<std::vector<FoundConversation>>([](Transcripts& t) { return t.find({}); }));
  auto answer = keeper_->begin_answer(1, "m");
  answer.append("x");
  EXPECT_FALSE(end(answer));
  std::filesystem::remove_all(folder_.path() / "conversations.db");
  EXPECT_TRUE(change<Conversation>([](Transcripts& t) { return t.create({}, 1); }));
}

TEST_F(TranscriptKeeperTest, ADamagedFileStopsNobody) {
  begin();
  keeper_.reset();
  std::ofstream(folder_.path() / "conversations.db", std::ios::trunc) << std::string(10'000, 'x');
  open();
  EXPECT_THAT(*look<std::vector<FoundConversation>>([](Transcripts& t) { return t.find({}); }), IsEmpty());
  begin();
  EXPECT_THAT(*look<std::vector<FoundConversation>>([](Transcripts& t) { return t.find({}); }), SizeIs(1));
}

TEST_F(TranscriptKeeperTest, TooManyAreTurnedAway) {
  open(0);
  EXPECT_EQ(change<Conversation>([](Transcripts& t) { return t.create({}, 1); }).error().reason, "disk_slow");
}

TEST_F(TranscriptKeeperTest, AnAnswerMayOutliveItsKeeper) {
  auto answer = keeper_->begin_answer(say(begin(), "hello"), "m");
  answer.append("x");
  keeper_.reset();
  answer.append("y");
  EXPECT_EQ(end(answer).error().code, ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lm::runtime
