#include "api/answer_so_far.h"

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

namespace json = boost::json;
using Shape = AnswerSoFar::Shape;

std::string chunk(std::string_view delta, std::string_view finish = "null",
                  std::string_view id = "chatcmpl-1", int created = 7) {
  return std::string("data: {\"choices\":[{\"finish_reason\":") + std::string(finish) +
         ",\"index\":0,\"delta\":" + std::string(delta) + "}],\"created\":" + std::to_string(created) +
         ",\"id\":\"" + std::string(id) + "\",\"model\":\"m\",\"object\":\"chat.completion.chunk\"}\n\n";
}

http::SseEvent event(std::string_view text) {
  http::SseEvent found;
  http::SseParser parser([&](http::SseEvent e) { found = std::move(e); });
  EXPECT_TRUE(parser.feed(text));
  return found;
}
json::value data_of(std::string_view text) {
  return json::parse(event(text).data);
}

constexpr std::string_view kRole = R"({"role":"assistant","content":null})";
constexpr std::string_view kRequest =
    R"({"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}],"max_tokens":10,"temperature":0})";

struct Chat : ::testing::Test {
  Chat() {
    so_far.keep(chunk(kRole));
    so_far.keep(chunk(R"({"content":"The"})"));
    so_far.keep(chunk(R"({"content":" capital"})"));
  }
  AnswerSoFar so_far{Shape::kChat};
};

TEST_F(Chat, GoesOnBehindWhatWasSaid) {
  so_far.break_off({});
  EXPECT_FALSE(so_far.empty());
  EXPECT_FALSE(so_far.finished());
  EXPECT_EQ(json::parse(*so_far.continued(kRequest, {})), json::parse(R"({"model":"m","stream":true,
    "messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"The capital"}],
    "max_tokens":8,"temperature":0,"continue_final_message":true,"add_generation_prompt":false})"));
  EXPECT_FALSE(so_far.used_up());
}

TEST_F(Chat, AnEventThatHadNotComeWholeIsForgotten) {
  so_far.keep(chunk(R"({"content":" of"})").substr(0, 60));
  so_far.break_off({});
  EXPECT_EQ(so_far.text(), "The capital");
}

TEST_F(Chat, PiecesOfAnySizeAreTheSame) {
  AnswerSoFar bytes(Shape::kChat);
  const std::string all =
      chunk(kRole) + chunk(R"({"content":"é\n"})") + ": a comment\n\n" + chunk(R"({"content":"\"x\""})");
  for (const char c : all) bytes.keep({&c, 1});
  bytes.break_off({});
  EXPECT_EQ(bytes.text(), "é\n\"x\"");
}

TEST_F(Chat, ALongAnswerIsReadOnTheWay) {
  std::string wanted = "The capital";
  for (int i = 0; i < 2000; ++i) {
    so_far.keep(chunk(R"({"content":" w"})"));
    wanted += " w";
  }
  so_far.break_off({});
  EXPECT_EQ(so_far.text(), wanted);
}

TEST_F(Chat, TheRestHasTheSameIdAndTimeAndNoSecondRole) {
  so_far.break_off({});
  EXPECT_EQ(so_far.rewrite(event(chunk(kRole, "null", "chatcmpl-2", 9))), "");
  const auto rest = data_of(so_far.rewrite(event(chunk(R"({"content":" of"})", "null", "chatcmpl-2", 9))));
  EXPECT_EQ(rest.at("id"), "chatcmpl-1");
  EXPECT_EQ(rest.at("created"), 7);
  EXPECT_EQ(rest.at("choices").at(0).at("delta"), json::parse(R"({"content":" of"})"));
  EXPECT_EQ(so_far.rewrite({.event = "", .data = "[DONE]", .id = ""}), "data: [DONE]\n\n");
}

TEST_F(Chat, ARoleThatComesWithTextLosesOnlyTheRole) {
  so_far.break_off({});
  const auto rest = data_of(so_far.rewrite(event(chunk(R"({"role":"assistant","content":" of"})"))));
  EXPECT_EQ(rest.at("choices").at(0).at("delta"), json::parse(R"({"content":" of"})"));
}

TEST_F(Chat, ARoleThatWasNotToldYetIsTold) {
  AnswerSoFar fresh(Shape::kChat);
  fresh.keep(chunk("{}"));
  fresh.break_off({});
  EXPECT_NE(fresh.rewrite(event(chunk(kRole))), "");
}

TEST_F(Chat, PlainTextHasAsManyTokensAsPieces) {
  so_far.break_off({});
  so_far.measured(20, 29);  // the tokenizer would have written it otherwise
  EXPECT_EQ(json::parse(*so_far.continued(kRequest, {})).at("max_tokens"), 8);
}

TEST_F(Chat, TheUsageIsOfTheWhole) {
  AnswerSoFar foreign(Shape::kChat);
  foreign.keep(chunk(kRole) + chunk(R"({"content":"巴"})") + chunk(R"({"content":"黎"})"));
  foreign.break_off({});
  foreign.measured(20, 23);  // one of the characters was two tokens
  EXPECT_EQ(json::parse(*foreign.continued(kRequest, {})).at("max_tokens"), 7);
  const auto last = data_of(foreign.rewrite(
      event("data: {\"choices\":[],\"id\":\"x\",\"usage\":{\"prompt_tokens\":23,\"completion_tokens\":7,"
            "\"total_tokens\":30,\"prompt_tokens_details\":{\"cached_tokens\":22}},"
            "\"timings\":{\"predicted_n\":7,\"predicted_ms\":70.0,\"prompt_n\":1}}\n\n")));
  EXPECT_EQ(last.at("usage"), json::parse(R"({"prompt_tokens":20,"completion_tokens":10,"total_tokens":30,
    "prompt_tokens_details":{"cached_tokens":20}})"));
  EXPECT_EQ(last.at("timings").at("predicted_n"), 10);
}

TEST_F(Chat, WithoutACountPiecesAreTokens) {
  so_far.break_off({});
  const auto last = data_of(so_far.rewrite(event(
      "data: "
      "{\"choices\":[],\"usage\":{\"prompt_tokens\":22,\"completion_tokens\":8,\"total_tokens\":30}}\n\n")));
  EXPECT_EQ(last.at("usage"),
            json::parse(R"({"prompt_tokens":20,"completion_tokens":10,"total_tokens":30})"));
}

TEST_F(Chat, TheTimeOfAllPartsIsItsTime) {
  so_far.break_off(std::chrono::milliseconds(930));
  const auto last = data_of(so_far.rewrite(
      event("data: {\"choices\":[],\"timings\":{\"predicted_n\":8,\"predicted_ms\":70.0}}\n\n")));
  EXPECT_DOUBLE_EQ(last.at("timings").at("predicted_ms").to_number<double>(), 1000);
  EXPECT_DOUBLE_EQ(last.at("timings").at("predicted_per_second").to_number<double>(), 10);
  EXPECT_DOUBLE_EQ(last.at("timings").at("predicted_per_token_ms").to_number<double>(), 100);
}

TEST_F(Chat, BrokenOffTwiceItIsStillOneAnswer) {
  so_far.break_off(std::chrono::seconds(1));
  so_far.measured(20, 22);
  so_far.rewrite(event(chunk(kRole, "null", "chatcmpl-2")));
  so_far.rewrite(event(chunk(R"({"content":" of"})", "null", "chatcmpl-2")));
  so_far.break_off(std::chrono::seconds(1));
  EXPECT_EQ(so_far.text(), "The capital of");
  const auto body = json::parse(*so_far.continued(kRequest, {}));
  EXPECT_EQ(body.at("max_tokens"), 7);
  EXPECT_EQ(body.at("messages").at(1).at("content"), "The capital of");
  EXPECT_EQ(data_of(so_far.rewrite(event(chunk(R"({"content":"!"})", "null", "chatcmpl-3")))).at("id"),
            "chatcmpl-1");
}

TEST_F(Chat, AFinishThatWasToldNeedsNoMore) {
  so_far.keep(chunk("{}", "\"stop\""));
  so_far.break_off({});
  EXPECT_TRUE(so_far.finished());
  EXPECT_EQ(so_far.ending(), "data: [DONE]\n\n");
  so_far.keep("data: [DONE]\n\n");
  so_far.break_off({});
  EXPECT_EQ(so_far.ending(), "");
}

TEST_F(Chat, WhoHasAllItsTokensIsEndedByLength) {
  for (int i = 0; i < 8; ++i) so_far.keep(chunk(R"({"content":" w"})"));
  so_far.break_off({});
  so_far.measured(20, 30);
  ASSERT_TRUE(so_far.continued(kRequest, {}));
  ASSERT_TRUE(so_far.used_up());
  const std::string body =
      std::string(kRequest.substr(0, kRequest.size() - 1)) + R"(,"stream_options":{"include_usage":true}})";
  std::vector<http::SseEvent> events;
  http::SseParser parser([&](http::SseEvent e) { events.push_back(std::move(e)); });
  ASSERT_TRUE(parser.feed(so_far.used_up_ending(body)));
  ASSERT_EQ(events.size(), 3U);
  const auto last = json::parse(events[0].data);
  EXPECT_EQ(last.at("id"), "chatcmpl-1");
  EXPECT_EQ(last.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(last.at("choices").at(0).at("delta"), json::object());
  EXPECT_EQ(json::parse(events[1].data).at("usage").at("completion_tokens"), 10);
  EXPECT_EQ(events[2].data, "[DONE]");
}

TEST_F(Chat, TheModelsOwnLimitHoldsForTheWhole) {
  so_far.break_off({});
  const auto body = json::parse(*so_far.continued(R"({"messages":[]})", 100));
  EXPECT_EQ(body.at("max_tokens"), 98);
  EXPECT_EQ(json::parse(*so_far.continued(R"({"messages":[],"max_tokens":-1})", {})).at("max_tokens"), -1);
}

TEST_F(Chat, AnAnswerThatTheClientHasBegunGoesOn) {
  so_far.break_off({});
  const auto body = json::parse(*so_far.continued(
      R"({"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"Well: "}]})", {}));
  EXPECT_EQ(body.at("messages").as_array().size(), 2U);
  EXPECT_EQ(body.at("messages").at(1).at("content"), "Well: The capital");
}

TEST_F(Chat, ReasoningIsSentAgainToo) {
  AnswerSoFar thinks(Shape::kChat);
  thinks.keep(chunk(R"({"reasoning_content":"Hmm"})") + chunk(R"({"content":"Yes"})"));
  thinks.break_off({});
  const auto body = json::parse(*thinks.continued(kRequest, {}));
  EXPECT_EQ(body.at("messages").at(1).at("reasoning_content"), "Hmm");
  EXPECT_EQ(body.at("messages").at(1).at("content"), "Yes");
}

TEST_F(Chat, NothingSaidIsNothingToContinue) {
  AnswerSoFar silent(Shape::kChat);
  silent.break_off({});
  EXPECT_TRUE(silent.empty());
  AnswerSoFar role(Shape::kChat);
  role.keep(chunk(kRole));
  role.break_off({});
  EXPECT_FALSE(role.empty());
  const auto body = json::parse(*role.continued(kRequest, {}));
  EXPECT_EQ(body, json::parse(kRequest)) << "the same again, without a second role in the answer";
}

TEST_F(Chat, WhatCannotBeExtendedSaysSo) {
  so_far.break_off({});
  for (const char* body : {"[]", R"({"messages":1})", R"({})",
                           R"({"messages":[{"role":"assistant","content":[{"type":"text","text":"x"}]}]})"}) {
    const auto continued = so_far.continued(body, {});
    ASSERT_FALSE(continued) << body;
    EXPECT_EQ(continued.error().reason, "not_continuable");
  }
}

TEST(Completion, ThePromptGrows) {
  AnswerSoFar so_far(Shape::kCompletion);
  const auto text = [](std::string_view said, std::string_view id) {
    return "data: {\"choices\":[{\"text\":\"" + std::string(said) +
           "\",\"index\":0,\"finish_reason\":null}],\"created\":3,\"id\":\"" + std::string(id) + "\"}\n\n";
  };
  so_far.keep(text(" upon", "cmpl-1") + text(" a", "cmpl-1"));
  so_far.break_off({});
  const auto body = json::parse(*so_far.continued(R"({"prompt":"Once","max_tokens":5})", {}));
  EXPECT_EQ(body, json::parse(R"({"prompt":"Once upon a","max_tokens":3})"));
  const auto rest = data_of(so_far.rewrite(event(text(" time", "cmpl-2"))));
  EXPECT_EQ(rest.at("id"), "cmpl-1");
  EXPECT_EQ(rest.at("choices").at(0).at("text"), " time");
  so_far.break_off({});
  EXPECT_EQ(so_far.text(), " upon a time");
  EXPECT_FALSE(so_far.continued(R"({"prompt":["Once"]})", {}));
}

TEST(InputTokens, AreWhatTheWorkerSays) {
  EXPECT_EQ(input_tokens(R"({"input_tokens":12})"), 12);
  EXPECT_EQ(input_tokens(R"({"error":{}})"), std::nullopt);
  EXPECT_EQ(input_tokens("no"), std::nullopt);
}

}  // namespace
}  // namespace lm::api
