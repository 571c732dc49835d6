#include "store/transcripts.h"

#include <filesystem>
#include <fstream>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::store {
namespace {

using End = AnswerPart::End;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class TranscriptsTest : public ::testing::Test {
 protected:
  TranscriptsTest() { open(); }

  void open() {
    database_.reset();
    auto opened = Database::open(folder_.path(), conversation_layout());
    ASSERT_TRUE(opened) << opened.error().message;
    warnings_ = opened->warnings;
    database_ = std::move(opened->database);
    ASSERT_TRUE(transcripts().recover());
  }
  Transcripts transcripts() { return Transcripts(*database_); }

  Conversation begin(std::string title = {}, std::string user = {}, std::string client = {}) {
    auto made = transcripts().create(
        {.title = std::move(title), .user = std::move(user), .client = std::move(client)}, now_);
    EXPECT_TRUE(made) << made.error().message;
    return *made;
  }
  std::int64_t say(const Conversation& conversation, std::string_view text) {
    auto number = transcripts().say(conversation.id, {}, text, "m", now_);
    EXPECT_TRUE(number) << number.error().message;
    return *number;
  }
  // A turn: what was said, and the whole answer.
  void turn(const Conversation& conversation, std::string_view said, std::string answer) {
    const AnswerPart part{
        .conversation = say(conversation, said), .text = std::move(answer), .model = "m", .end = End::kWhole};
    ASSERT_TRUE(transcripts().write({part}, now_));
  }
  std::vector<Message> messages(const Conversation& conversation) {
    return *transcripts().messages(conversation.id, {}, 0, 1000);
  }
  std::vector<std::string> found(ConversationQuery query) {
    auto result = transcripts().find(query);
    EXPECT_TRUE(result) << result.error().message;
    std::vector<std::string> titles;
    for (const auto& one : *result) titles.push_back(one.conversation.title);
    return titles;
  }
  std::vector<std::string> search(std::string words) { return found({.search = std::move(words)}); }

  os::testing::TemporaryFolder folder_;
  std::unique_ptr<Database> database_;
  std::vector<std::string> warnings_;
  std::int64_t now_ = 1000;
};

TEST_F(TranscriptsTest, ATurnIsKeptOverARestart) {
  const Conversation begun = begin({}, "ada");
  EXPECT_THAT(begun.id, SizeIs(25));
  turn(begun, "What is the capital of France?\nPlease.", "Paris.");
  open();
  const auto kept = messages(begun);
  ASSERT_THAT(kept, SizeIs(2));
  EXPECT_EQ(kept[0].role, "user");
  EXPECT_EQ(kept[0].text, "What is the capital of France?\nPlease.");
  EXPECT_EQ(kept[1].role, "assistant");
  EXPECT_EQ(kept[1].text, "Paris.");
  EXPECT_EQ(kept[1].model, "m");
  EXPECT_TRUE(kept[1].complete);
  const auto conversation = *transcripts().get(begun.id, {});
  EXPECT_EQ(conversation.title, "What is the capital of France?") << "the beginning of what was said first";
  EXPECT_EQ(conversation.user, "ada");
  EXPECT_EQ(conversation.messages, 2);
  EXPECT_EQ(conversation.bytes, 38 + 6);
}

TEST_F(TranscriptsTest, AnAnswerInPartsIsHalfUntilItsEnd) {
  const Conversation begun = begin();
  const auto number = say(begun, "count");
  AnswerPart part{.conversation = number, .text = "one ", .model = "m"};
  part.message = transcripts().write({part}, now_)->front();
  part.text = "two ";
  ASSERT_TRUE(transcripts().write({part}, now_));
  EXPECT_EQ(messages(begun)[1].text, "one two ");
  EXPECT_FALSE(messages(begun)[1].complete);
  part.text = "three";
  part.end = End::kWhole;
  ASSERT_TRUE(transcripts().write({part}, now_));
  EXPECT_EQ(messages(begun)[1].text, "one two three");
  EXPECT_TRUE(messages(begun)[1].complete);
  EXPECT_EQ(transcripts().get(begun.id, {})->messages, 2);
  EXPECT_EQ(transcripts().get(begun.id, {})->bytes, 5 + 13);
}

TEST_F(TranscriptsTest, AnAnswerThatNobodyEndedIsFoundAfterTheNextStart) {
  const Conversation begun = begin("a");
  const AnswerPart part{.conversation = say(begun, "tell"), .text = "once upon a time", .model = "m"};
  ASSERT_TRUE(transcripts().write({part}, now_));
  EXPECT_THAT(search("upon"), IsEmpty()) << "while it is written nobody looks into it";
  open();
  EXPECT_THAT(search("upon"), ElementsAre("a"));
  EXPECT_FALSE(messages(begun)[1].complete);
}

TEST_F(TranscriptsTest, SeveralAnswersAtOnceAndOneWhoseConversationIsGone) {
  const Conversation first = begin(), second = begin();
  const auto a = say(first, "x"), b = say(second, "y");
  ASSERT_TRUE(transcripts().remove(second.id, {}));
  const auto ids = transcripts().write({{.conversation = a, .text = "A", .model = "m", .end = End::kWhole},
                                        {.conversation = b, .text = "B", .model = "m", .end = End::kWhole}},
                                       now_);
  ASSERT_TRUE(ids);
  EXPECT_GT((*ids)[0], 0);
  EXPECT_EQ((*ids)[1], -1);
  // One that was begun before its conversation went.
  const auto later = transcripts().write(
      {{.conversation = b, .message = 12345, .text = "B", .model = "m", .end = End::kWhole}}, now_);
  EXPECT_EQ(later->front(), -1);
}

TEST_F(TranscriptsTest, WhatIsAskedAgainIsStoredOnce) {
  const Conversation begun = begin();
  say(begun, "hello");
  say(begun, "hello");
  EXPECT_THAT(messages(begun), SizeIs(1));
  turn(begun, "hello", "hi");
  say(begun, "hello");
  EXPECT_THAT(messages(begun), SizeIs(3)) << "behind an answer it is said anew";
}

TEST_F(TranscriptsTest, IsSearchedInAnyScript) {
  turn(begin("trip"), "Where to stay in Kyoto?", "Near the river, in a small ryokan.");
  turn(begin("模型"), "请问怎样卸载模型？", "模型已經卸載或尚未載入。");
  turn(begin("Code 100%"), "write fn_main", "fn main() { println!(\"hi\"); }");
  EXPECT_THAT(search("ryokan"), ElementsAre("trip"));
  EXPECT_THAT(search("RYOKAN"), ElementsAre("trip"));
  EXPECT_THAT(search("yoka"), ElementsAre("trip")) << "inside of a word, too";
  EXPECT_THAT(search("卸载模型"), ElementsAre("模型"));
  EXPECT_THAT(search("尚未載入"), ElementsAre("模型"));
  EXPECT_THAT(search("卸載"), ElementsAre("模型")) << "two characters are fewer than the index has";
  EXPECT_THAT(search("型"), ElementsAre("模型"));
  EXPECT_THAT(search("small river"), ElementsAre("trip")) << "all words, in any order";
  EXPECT_THAT(search("small 型"), IsEmpty());
  EXPECT_THAT(search("in river"), ElementsAre("trip")) << "a short and a long one";
  EXPECT_THAT(search("0%"), ElementsAre("Code 100%")) << "in the title";
  EXPECT_THAT(search("n_m"), ElementsAre("Code 100%"));
  EXPECT_THAT(search("%"), ElementsAre("Code 100%")) << "a sign is a sign";
  EXPECT_THAT(search("\"hi\""), ElementsAre("Code 100%"));
  EXPECT_THAT(search("AND OR* NEAR("), IsEmpty()) << "no words of the index's own language";
  EXPECT_THAT(search("nowhere"), IsEmpty());
  EXPECT_THAT(search("  "), SizeIs(3)) << "nothing is searched for";
}

TEST_F(TranscriptsTest, AMatchShowsWhatStandsAroundIt) {
  const Conversation begun = begin("t");
  std::string text;
  for (int i = 0; i < 100; ++i) text += "前後";
  turn(begun, "x", text + "目標\n在此" + text);
  const auto match = transcripts().find({.search = "目標"})->front().match;
  ASSERT_TRUE(match);
  EXPECT_EQ(match->first, messages(begun)[1].id);
  EXPECT_THAT(match->second, HasSubstr("前後目標 在此前後"));
  EXPECT_TRUE(match->second.starts_with("…前") || match->second.starts_with("…後"));
  EXPECT_TRUE(match->second.ends_with("…"));
  EXPECT_LT(match->second.size(), 400U);
}

TEST_F(TranscriptsTest, ListsPageByPageLastChangedFirst) {
  for (int i = 0; i < 10; ++i) begin(fmt::format("{}", i), i % 2 == 0 ? "even" : "odd");
  auto page = *transcripts().find({.most = 4});
  ASSERT_THAT(page, SizeIs(4));
  EXPECT_EQ(page.front().conversation.title, "9");
  // Somebody speaks in between: what was seen is not seen again, and what is left is seen once.
  say(page.front().conversation, "x");
  EXPECT_THAT(found({.before = page.back().conversation.turn, .most = 4}), ElementsAre("5", "4", "3", "2"));
  EXPECT_THAT(found({.user = "odd", .most = 2}), ElementsAre("9", "7"));
  EXPECT_THAT(found({.user = "nobody"}), IsEmpty());
  EXPECT_THAT(found({.channel = ""}), SizeIs(10));
}

TEST_F(TranscriptsTest, OthersSeeNothing) {
  const Conversation bobs = begin("bob's", "u", "bob");
  turn(bobs, "a secret of bob", "hush");
  const Scope alice = "alice", bob = "bob";
  EXPECT_EQ(transcripts().get(bobs.id, alice).error().reason, "conversation_not_found");
  EXPECT_EQ(transcripts().messages(bobs.id, alice, 0, 10).error().reason, "conversation_not_found");
  EXPECT_EQ(transcripts().rename(bobs.id, alice, "x", now_).error().reason, "conversation_not_found");
  EXPECT_EQ(transcripts().remove(bobs.id, alice).error().reason, "conversation_not_found");
  EXPECT_EQ(transcripts().say(bobs.id, alice, "x", "m", now_).error().reason, "conversation_not_found");
  EXPECT_EQ(transcripts().answerable(bobs.id, alice).error().reason, "conversation_not_found");
  EXPECT_THAT(found({.scope = alice, .search = "secret"}), IsEmpty());
  EXPECT_THAT(found({.scope = Scope("")}), IsEmpty());
  EXPECT_THAT(found({.scope = bob, .search = "secret"}), ElementsAre("bob's"));
  EXPECT_THAT(found({.search = "secret"}), ElementsAre("bob's"));
}

TEST_F(TranscriptsTest, WhatIsRemovedIsFoundNoMore) {
  const Conversation gone = begin("gone"), stays = begin("stays");
  turn(gone, "the same words", "an answer");
  turn(stays, "the same words", "an answer");
  ASSERT_TRUE(transcripts().remove(gone.id, {}));
  EXPECT_THAT(search("same words"), ElementsAre("stays"));
  EXPECT_EQ(transcripts().get(gone.id, {}).error().code, ErrorCode::kNotFound);
  auto check =
      database_->prepare("INSERT INTO message_index (message_index, rank) VALUES ('integrity-check', 1)");
  EXPECT_TRUE(check->run()) << "the index has nothing that is not there";
}

TEST_F(TranscriptsTest, IsRenamed) {
  const Conversation begun = begin("old");
  begin("other");
  now_ = 2000;
  const auto renamed = transcripts().rename(begun.id, {}, "新しい", now_);
  EXPECT_EQ(renamed->title, "新しい");
  EXPECT_EQ(renamed->updated_ms, 2000);
  EXPECT_THAT(found({}), ElementsAre("新しい", "other"));
}

TEST_F(TranscriptsTest, IsBounded) {
  const std::string long_title(201, 'x'), long_name(129, 'x');
  EXPECT_EQ(transcripts().create({.title = long_title}, 1).error().reason, "invalid_field");
  EXPECT_EQ(transcripts().create({.user = long_name}, 1).error().reason, "invalid_field");
  EXPECT_EQ(transcripts().create({.channel = long_name}, 1).error().reason, "invalid_field");
  std::string wide;
  for (int i = 0; i < 200; ++i) wide += "題";
  EXPECT_TRUE(transcripts().create({.title = wide}, 1)) << "characters, not bytes";
  const Conversation begun = begin();
  EXPECT_EQ(transcripts().rename(begun.id, {}, long_title, 1).error().reason, "invalid_field");
  EXPECT_EQ(transcripts().find({.search = long_title}).error().reason, "invalid_field");
  const std::string most(Transcripts::kMostText, 'x');
  EXPECT_EQ(transcripts().say(begun.id, {}, most + "x", "m", 1).error().reason, "message_too_long");
  for (int i = 0; i < 4; ++i) turn(begun, most.substr(0, most.size() - 1), "a");
  const auto full = transcripts().say(begun.id, {}, "one more", "m", 1);
  EXPECT_EQ(full.error().reason, "conversation_full");
  EXPECT_EQ(full.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(transcripts().answerable(begun.id, {}).error().reason, "conversation_full");
}

TEST_F(TranscriptsTest, ADamagedFileIsMovedAsideAndSaid) {
  turn(begin("before"), "x", "y");
  database_.reset();
  std::ofstream(folder_.path() / "conversations.db", std::ios::trunc) << std::string(10'000, 'x');
  open();
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_THAT(warnings_[0], HasSubstr("conversations.db.corrupt-"));
  EXPECT_THAT(warnings_[0], HasSubstr("kept conversations start anew"));
  EXPECT_THAT(found({}), IsEmpty());
  begin("after");
  EXPECT_THAT(found({}), ElementsAre("after"));
}

TEST_F(TranscriptsTest, AReaderSearchesWhileSomebodyWrites) {
  turn(begin("a"), "hello there", "general");
  auto reader = Database::open_read_only(folder_.path(), conversation_layout());
  ASSERT_TRUE(reader) << reader.error().message;
  Transcripts reading(**reader);
  EXPECT_THAT(*reading.find({.search = "general"}), SizeIs(1));
  turn(begin("b"), "hello again", "general");
  EXPECT_THAT(*reading.find({.search = "general"}), SizeIs(2));
  EXPECT_FALSE(reading.create({}, 1)) << "it only reads";
}

}  // namespace
}  // namespace lm::store
