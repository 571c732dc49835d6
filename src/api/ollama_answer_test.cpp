#include "api/ollama_answer.h"

#include <memory>
#include <sstream>
#include <vector>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr std::string_view kEvents = "text/event-stream";

json::object object(std::string_view text) {
  return json::parse(text).as_object();
}

std::vector<json::object> lines_of(const std::string& text) {
  std::vector<json::object> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(object(line));
  return lines;
}

// Time stands still unless a test moves it.
struct Told : ::testing::Test {
  OllamaClock clock() {
    return {.now = [this] { return now; },
            .date = [] { return std::chrono::system_clock::time_point(1'732'132'613s + 123'923'775ns); }};
  }
  std::unique_ptr<OllamaAnswer> answer(OllamaAnswer::Form form = OllamaAnswer::Form::kChat,
                                       bool stream = true) {
    auto made = std::make_unique<OllamaAnswer>(form, "tiny", stream, clock());
    made->begin(kEvents);
    return made;
  }
  static std::string content(std::string_view text) {
    return "data: " +
           json::serialize(json::object{{"choices", {{{"index", 0}, {"delta", {{"content", text}}}}}}}) +
           "\n\n";
  }
  static std::string finish(std::string_view reason) {
    return "data: " +
           json::serialize(
               json::object{{"choices", {{{"delta", json::object()}, {"finish_reason", reason}}}}}) +
           "\n\n";
  }
  TimePoint now{1h};
};

constexpr std::string_view kUsage =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":3},"
    "\"timings\":{\"prompt_ms\":65.119,\"predicted_ms\":128.88}}\n\n";
constexpr std::string_view kDone = "data: [DONE]\n\n";

TEST_F(Told, AStreamAsOllamaTellsIt) {
  auto a = answer();
  EXPECT_EQ(a->content_type(), "application/x-ndjson");
  EXPECT_EQ(a->piece(R"(data: {"choices":[{"delta":{"role":"assistant","content":null}}]})"
                     "\n\n")
                .value(),
            "")
      << "who speaks is told with what is said";
  EXPECT_EQ(a->piece(content("The")).value(),
            R"({"model":"tiny","created_at":"2024-11-20T19:56:53.123923775Z",)"
            R"("message":{"role":"assistant","content":"The"},"done":false})"
            "\n");
  EXPECT_EQ(lines_of(a->piece(content(" capital") + content(" of")).value()).size(), 2U);
  EXPECT_EQ(a->piece(finish("length") + std::string(kUsage) + std::string(kDone)).value(), "");
  now += 204ms;
  EXPECT_EQ(a->last().value(),
            R"({"model":"tiny","created_at":"2024-11-20T19:56:53.123923775Z",)"
            R"("message":{"role":"assistant","content":""},"done":true,"done_reason":"length",)"
            R"("total_duration":204000000,"load_duration":10001000,"prompt_eval_count":24,)"
            R"("prompt_eval_duration":65119000,"eval_count":3,"eval_duration":128880000})"
            "\n");
}

TEST_F(Told, WhereverItIsCut) {
  const std::string whole =
      content("Zür") + content("ich 🏔") + finish("stop") + std::string(kUsage) + std::string(kDone);
  for (std::size_t step = 1; step < whole.size(); ++step) {
    auto a = answer();
    std::string told;
    for (std::size_t at = 0; at < whole.size(); at += step)
      told += a->piece(std::string_view(whole).substr(at, step)).value();
    told += a->last().value();
    const auto lines = lines_of(told);
    ASSERT_EQ(lines.size(), 3U) << step;
    EXPECT_EQ(lines[0].at("message").at("content"), "Zür");
    EXPECT_EQ(lines[1].at("message").at("content"), "ich 🏔");
    EXPECT_EQ(lines[2].at("done_reason"), "stop");
    EXPECT_EQ(lines[2].at("eval_count"), 3);
  }
}

TEST_F(Told, WithoutAStreamItIsOneObject) {
  auto a = answer(OllamaAnswer::Form::kChat, false);
  EXPECT_EQ(a->content_type(), "application/json; charset=utf-8");
  EXPECT_EQ(a->piece(content("Pa") + content("ris")).value(), "");
  EXPECT_EQ(a->piece(finish("stop")).value(), "");
  const auto told = object(a->last().value());
  EXPECT_EQ(told.at("message"), object(R"({"role": "assistant", "content": "Paris"})"));
  EXPECT_EQ(told.at("done"), true);
  EXPECT_EQ(told.at("done_reason"), "stop");
  EXPECT_FALSE(told.contains("eval_count")) << "nobody counted";
  EXPECT_EQ(a->sign_of_life(), "");
}

TEST_F(Told, GenerateSaysResponse) {
  auto a = answer(OllamaAnswer::Form::kGenerate);
  const auto line = object(a->piece("data: {\"choices\":[{\"text\":\"Sure\"}]}\n\n").value());
  EXPECT_EQ(line.at("response"), "Sure") << "of a raw prompt's completion";
  EXPECT_FALSE(line.contains("message"));
  EXPECT_EQ(object(a->piece(content(", I")).value()).at("response"), ", I") << "and of a chat's delta";
  EXPECT_TRUE(a->piece(finish("stop")));
  EXPECT_EQ(object(a->last().value()).at("response"), "");
}

TEST_F(Told, Thinking) {
  constexpr std::string_view kThought =
      "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n";
  auto a = answer();
  const auto line = object(a->piece(kThought).value());
  EXPECT_EQ(line.at("message"), object(R"({"role": "assistant", "content": "", "thinking": "hm"})"));
  auto g = answer(OllamaAnswer::Form::kGenerate, false);
  EXPECT_EQ(g->piece(kThought).value(), "");
  EXPECT_TRUE(g->piece(content("4") + finish("stop")));
  const auto told = object(g->last().value());
  EXPECT_EQ(told.at("thinking"), "hm");
  EXPECT_EQ(told.at("response"), "4");
}

TEST_F(Told, ToolCallsAreToldWhole) {
  constexpr std::string_view kParts[] = {
      R"({"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a1","type":"function","function":{"name":"weather","arguments":""}}]}}]})",
      R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"ci"}}]}}]})",
      R"({"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ty\":\"Rome\"}"}}]}}]})",
      R"({"choices":[{"delta":{"tool_calls":[{"index":1,"id":"a2","function":{"name":"time","arguments":""}}]}}]})",
      R"({"choices":[{"delta":{},"finish_reason":"tool_calls"}]})"};
  for (const bool stream : {true, false}) {
    auto a = answer(OllamaAnswer::Form::kChat, stream);
    for (const std::string_view part : kParts)
      EXPECT_EQ(a->piece(fmt::format("data: {}\n\n", part)).value(), "");
    const auto lines = lines_of(a->last().value());
    ASSERT_EQ(lines.size(), stream ? 2U : 1U);
    EXPECT_EQ(lines[0].at("message").at("tool_calls"), json::parse(R"([
        {"id": "a1", "function": {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}},
        {"id": "a2", "function": {"index": 1, "name": "time", "arguments": {}}}])"));
    EXPECT_EQ(lines[0].at("done"), !stream);
    EXPECT_EQ(lines.back().at("done_reason"), "stop");
  }
}

TEST_F(Told, AToolCallThatWasCutOffIsNone) {
  auto a = answer(OllamaAnswer::Form::kChat, false);
  EXPECT_TRUE(
      a->piece("data: "
               "{\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\","
               "\"arguments\":\"{\\\"a\"}}]},"
               "\"finish_reason\":\"length\"}]}\n\n"));
  const auto told = object(a->last().value());
  EXPECT_FALSE(told.at("message").as_object().contains("tool_calls"));
  EXPECT_EQ(told.at("done_reason"), "length");
}

TEST_F(Told, Probabilities) {
  auto a = answer();
  const auto line =
      object(a->piece("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":"
                      "[{\"token\":\"a\",\"logprob\":-0.5}]}}]}\n\n")
                 .value());
  EXPECT_EQ(line.at("logprobs"), json::parse(R"([{"token": "a", "logprob": -0.5}])"));
}

TEST_F(Told, AnErrorInTheMiddleIsTheAnswersOwn) {
  auto a = answer();
  EXPECT_TRUE(a->piece(content("The")));
  const auto failed = a->piece(
      "data: {\"error\":{\"message\":\"the worker "
      "ended\",\"code\":\"worker_died\",\"status\":\"unavailable\"}}\n\n");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "the worker ended");
  EXPECT_EQ(failed.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(failed.error().reason, "worker_died");
}

TEST_F(Told, AnAnswerThatEndsInTheMiddleIsNone) {
  auto a = answer();
  EXPECT_TRUE(a->piece(content("The")));
  const auto end = a->last();
  ASSERT_FALSE(end);
  EXPECT_EQ(end.error().reason, "bad_upstream");
  auto garbage = answer();
  EXPECT_FALSE(garbage->piece("data: not json\n\n"));
  auto done = answer();
  EXPECT_TRUE(done->piece(content("x") + std::string(kDone)));
  EXPECT_EQ(object(done->last().value()).at("done_reason"), "stop") << "a provider that gives no reason";
}

TEST_F(Told, CommentsAreSilence) {
  auto a = answer();
  EXPECT_EQ(a->piece(": tiny is loading\n\n").value(), "");
  const auto sign = object(a->sign_of_life());
  EXPECT_EQ(sign.at("message").at("content"), "");
  EXPECT_EQ(sign.at("done"), false);
}

TEST_F(Told, AProviderThatDoesNotStreamIsToldAllTheSame) {
  for (const bool stream : {true, false}) {
    auto a = std::make_unique<OllamaAnswer>(OllamaAnswer::Form::kChat, "gpt", stream, clock());
    a->begin("application/json");
    EXPECT_EQ(a->piece(R"({"choices":[{"message":{"role":"assistant","con)").value(), "");
    EXPECT_EQ(
        a->piece(
             R"(tent":"Paris"},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":1}})")
            .value(),
        "");
    const auto lines = lines_of(a->last().value());
    ASSERT_EQ(lines.size(), stream ? 2U : 1U);
    EXPECT_EQ(lines[0].at("message").at("content"), "Paris");
    EXPECT_EQ(lines.back().at("prompt_eval_count"), 2);
  }
}

TEST_F(Told, WhereNobodyMeasuredTheClockTells) {
  auto a = answer();
  now += 300ms;
  EXPECT_TRUE(a->piece(content("x")));
  now += 100ms;
  EXPECT_TRUE(a->piece(finish("stop")));
  const auto told = object(a->last().value());
  EXPECT_EQ(told.at("total_duration"), 400'000'000);
  EXPECT_EQ(told.at("prompt_eval_duration"), 300'000'000);
  EXPECT_EQ(told.at("eval_duration"), 100'000'000);
  EXPECT_EQ(told.at("load_duration"), 0);
}

// ---- embeddings

TEST_F(Told, Embeddings) {
  OllamaEmbeddings e("mini", false, std::nullopt, clock());
  EXPECT_TRUE(e.piece(R"({"data":[{"index":1,"embedding":[0,1]},{"index":0,"emb)"));
  EXPECT_TRUE(e.piece(R"(edding":[1,0]}],"usage":{"prompt_tokens":4}})"));
  now += 5ms;
  EXPECT_EQ(object(e.last().value()), object(R"({"model": "mini", "embeddings": [[1, 0], [0, 1]],
      "total_duration": 5000000, "load_duration": 0, "prompt_eval_count": 4})"));
  OllamaEmbeddings one("mini", true, std::nullopt, clock());
  EXPECT_TRUE(one.piece(R"({"data":[{"index":0,"embedding":[0.25,1]}]})"));
  EXPECT_EQ(object(one.last().value()), object(R"({"embedding": [0.25, 1]})"));
}

TEST_F(Told, EmbeddingsOfFewerDimensionsAreOfUnitLength) {
  OllamaEmbeddings e("mini", true, 2, clock());
  EXPECT_TRUE(e.piece(R"({"data":[{"index":0,"embedding":[3,4,12]}]})"));
  const auto told = object(e.last().value());
  ASSERT_EQ(told.at("embedding").as_array().size(), 2U);
  EXPECT_DOUBLE_EQ(told.at("embedding").at(0).as_double(), 0.6);
  EXPECT_DOUBLE_EQ(told.at("embedding").at(1).as_double(), 0.8);
}

TEST_F(Told, WhatAreNoEmbeddingsIsAnError) {
  for (const char* body :
       {"", "[]", "{}", R"({"data": [7]})", R"({"data": [{"index": 9, "embedding": []}]})",
        R"({"data": [{"index": -1, "embedding": []}]})", R"({"data": [{"embedding": "x"}]})"}) {
    OllamaEmbeddings e("mini", false, std::nullopt, clock());
    EXPECT_TRUE(e.piece(body));
    EXPECT_FALSE(e.last()) << body;
  }
}

// ---- Ollama's own lines

TEST_F(Told, LinesAreToldWhenTheyAreWhole) {
  OllamaLines l(true, "quiet\n");
  EXPECT_EQ(l.piece("{\"a\":").value(), "");
  EXPECT_EQ(l.piece("1}\n{\"b\":2}\n{\"c").value(), "{\"a\":1}\n{\"b\":2}\n");
  EXPECT_EQ(l.piece("\":3}").value(), "");
  EXPECT_EQ(l.last().value(), "{\"c\":3}");
  EXPECT_EQ(l.sign_of_life(), "quiet\n");
  OllamaLines whole(false, "");
  EXPECT_EQ(whole.piece("{\n}\n").value(), "");
  EXPECT_EQ(whole.last().value(), "{\n}\n");
}

TEST_F(Told, OurOwnWordsAmongLines) {
  OllamaLines l(true, "");
  EXPECT_EQ(l.piece(": qwen is queued\n\n").value(), "");
  EXPECT_EQ(l.piece("{\"cut").value(), "");
  const auto failed =
      l.piece("data: {\"error\":{\"message\":\"ollama did not answer\",\"status\":\"unavailable\"}}\n\n");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().message, "ollama did not answer");
}

// ---- where nothing was asked

TEST(OllamaStay, AsRecorded) {
  const std::chrono::system_clock::time_point at(1'732'132'613s);
  EXPECT_EQ(ollama_stay(OllamaAnswer::Form::kChat, "tiny", "load", at),
            R"({"model":"tiny","created_at":"2024-11-20T19:56:53.000000000Z",)"
            R"("message":{"role":"assistant","content":""},"done":true,"done_reason":"load"})");
  EXPECT_EQ(ollama_stay(OllamaAnswer::Form::kGenerate, "tiny", "unload", at),
            R"({"model":"tiny","created_at":"2024-11-20T19:56:53.000000000Z","response":"","done":true,)"
            R"("done_reason":"unload"})");
}

}  // namespace
}  // namespace lm::api
