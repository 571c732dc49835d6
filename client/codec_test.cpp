#include "client/codec.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::client {
namespace {

using llm_manager::Answer;
using llm_manager::ErrorCode;
using testing::ElementsAre;

TEST(Codec, ReadsAModelThatIsLoadedAndOneThatIsNot) {
  const auto models = read_models(R"({"models": [
    {"id": "a", "kind": "generation", "family": "local", "aliases": ["llm"], "roles": ["chat"], "state": "ready",
     "path": "/a.gguf", "size": 7, "pinned": true, "footprint": {"bytes": {"host": 5}, "source": "measured"},
     "instance": {"active": 1, "waiting": 2, "context": 2048, "held_bytes": {"host": 4, "cuda0": 3}}, "new": 1},
    {"id": "b", "state": "unloaded", "footprint": null, "instance": null}]})");
  ASSERT_TRUE(models);
  ASSERT_EQ(models->size(), 2u);
  const auto& a = models->front();
  EXPECT_TRUE(a.is_ready() && a.is_called("a") && a.is_called("llm") && a.is_called("chat"));
  EXPECT_FALSE(a.is_called("b"));
  EXPECT_EQ(a.context, 2048);
  EXPECT_EQ(a.held.at("cuda0"), 3);
  EXPECT_EQ(a.footprint.at("host"), 5);
  EXPECT_EQ(a.active + a.waiting, 3);
  EXPECT_FALSE(models->back().is_ready());
  EXPECT_TRUE(models->back().held.empty());
}

TEST(Codec, SaysThatAnAnswerIsNone) {
  for (const char* body : {"", "[]", "{}", "{\"models\": 1}", "\xff"}) {
    EXPECT_EQ(read_models(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_devices(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_system(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_change(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_embeddings(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_tokens(body).error().reason, "bad_answer") << body;
    EXPECT_EQ(read_member(body, "content").error().reason, "bad_answer") << body;
    EXPECT_EQ(read_number(body, "input_tokens").error().reason, "bad_answer") << body;
  }
}

TEST(Codec, ReadsErrorsOfTheDaemonAndOfTheEngine) {
  const auto error = error_of(507, R"({"error": {"message": "no room", "type": "insufficient_memory_error",
    "code": "insufficient_memory", "status": "resource_exhausted", "details": {"device": "host", "needed": 9}}})");
  EXPECT_EQ(error.code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(error.lacks_memory());
  EXPECT_THAT(error.details, ElementsAre(std::pair("device", "host"), std::pair("needed", "9")));
  EXPECT_EQ(
      error_of(400,
               R"({"error": {"message": "too long", "type": "exceed_context_size_error", "code": 400}})"),
      (llm_manager::Error{.code = ErrorCode::kInvalidArgument,
                          .message = "too long",
                          .reason = "context_exceeded",
                          .details = {}}));
  EXPECT_EQ(error_of(502, "<html>").reason, "not_a_daemon");
}

TEST(Codec, OwnErrorsGoOverAsTheyAre) {
  const auto error = to_public({.code = lm::ErrorCode::kNotFound,
                                .message = "m",
                                .reason = "r",
                                .fields = {{"n", std::int64_t{5}}, {"t", std::string("x")}},
                                .retry_after = {}});
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.details, ElementsAre(std::pair("n", "5"), std::pair("t", "x")));
}

TEST(Codec, ReadsWhatCameBack) {
  const auto change =
      read_change(R"({"changed": true, "release": {"before": 9, "after": 1, "freed": 8, "expected": 8,
    "residual": 0, "proved": true, "took_s": 0.5, "holders": [{"pid": 7, "name": "x", "bytes": 1}]}})");
  ASSERT_TRUE(change && change->release);
  EXPECT_EQ(change->release->freed, 8);
  EXPECT_TRUE(change->release->proved);
  EXPECT_EQ(change->release->holders.at(0).pid, 7);
  EXPECT_EQ(change->took_s, 0.5);
  EXPECT_FALSE(read_change(R"({"changed": false, "release": null})")->release);
}

TEST(Codec, PutsEmbeddingsInTheirTextsOrderAndNormalisesThem) {
  const auto rows =
      read_embeddings(R"({"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]})");
  ASSERT_TRUE(rows);
  EXPECT_THAT(rows->values, ElementsAre(0.6f, 0.8f, 0.f, 1.f));
  const auto nothing = read_embeddings(R"({"data": [{"index": 0, "embedding": [0, 0]}]})");
  ASSERT_TRUE(nothing);
  EXPECT_THAT(nothing->values, ElementsAre(0.f, 0.f)) << "a row of zeros has no direction";
  EXPECT_FALSE(
      read_embeddings(R"({"data": [{"index": 0, "embedding": [1, 2]}, {"index": 1, "embedding": [1]}]})"));
  EXPECT_FALSE(read_embeddings(R"({"data": [{"index": 5, "embedding": [1]}]})"));
}

TEST(Codec, TakesAChatTogetherFromItsEvents) {
  Answer answer;
  std::string text;
  for (
      const char* event :
      {R"({"model": "m", "choices": [{"delta": {"role": "assistant", "content": null}, "finish_reason": null}]})",
       R"({"choices": [{"delta": {"reasoning_content": "hm"}}]})",
       R"({"choices": [{"delta": {"content": "Pa"}}]})", R"({"choices": [{"delta": {"content": "ris"}}]})",
       R"({"choices": [{"delta": {}, "finish_reason": "stop"}]})",
       R"({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})", "[DONE]"}) {
    const auto piece = take_chat_event(event, answer);
    ASSERT_TRUE(piece) << event;
    text += *piece;
  }
  EXPECT_EQ(text, "Paris");
  EXPECT_EQ(answer, (Answer{.text = "",
                            .reasoning = "hm",
                            .finish_reason = "stop",
                            .model = "m",
                            .prompt_tokens = 5,
                            .answer_tokens = 2,
                            .passages = {}}));
  const auto failed = take_chat_event(
      R"({"error": {"message": "gone", "code": "worker_died", "status": "unavailable"}})", answer);
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ErrorCode::kUnavailable);
  EXPECT_FALSE(take_chat_event("{", answer));
}

}  // namespace
}  // namespace lm::client
