#include "api/ollama_request.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

namespace json = boost::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

json::object object(std::string_view text) {
  return json::parse(text).as_object();
}

// The OpenAI request of a chat, and what of it was left out.
struct Translated {
  std::string path;
  json::object body;
  std::vector<std::string> ignored;
};

Translated translated(std::string_view text, OllamaCall call = OllamaCall::kChat,
                      Answerer answerer = Answerer::kWorker) {
  auto request = to_openai(object(text), call, "m", answerer);
  EXPECT_TRUE(request) << request.error().message;
  if (!request) return {};
  return {std::string(request->path), object(request->body), request->ignored};
}

std::string refusal(std::string_view text, OllamaCall call = OllamaCall::kChat) {
  const auto request = to_openai(object(text), call, "m", Answerer::kWorker);
  EXPECT_FALSE(request);
  if (request) return {};
  EXPECT_EQ(request.error().code, ErrorCode::kInvalidArgument);
  return request.error().message;
}

OllamaRequest read(std::string_view text, OllamaCall call = OllamaCall::kChat) {
  auto request = read_ollama(object(text), call);
  EXPECT_TRUE(request) << request.error().message;
  return request.value_or(OllamaRequest{});
}

std::string misread(std::string_view text, OllamaCall call = OllamaCall::kChat) {
  const auto request = read_ollama(object(text), call);
  EXPECT_FALSE(request);
  return request ? std::string() : request.error().message;
}

// ---- durations

TEST(GoDuration, AsGoReadsThem) {
  using namespace std::chrono_literals;
  EXPECT_EQ(parse_go_duration("5m").value(), 5min);
  EXPECT_EQ(parse_go_duration("1h30m").value(), 90min);
  EXPECT_EQ(parse_go_duration("300ms").value(), 300ms);
  EXPECT_EQ(parse_go_duration("1.5s").value(), 1500ms);
  EXPECT_EQ(parse_go_duration("2us").value(), 2us);
  EXPECT_EQ(parse_go_duration("2\u00b5s").value(), 2us);
  EXPECT_EQ(parse_go_duration("0").value(), 0s);
  EXPECT_EQ(parse_go_duration("-0s").value(), 0s);
  EXPECT_EQ(parse_go_duration("+1s").value(), 1s);
  EXPECT_LT(parse_go_duration("-1m").value(), 0s);
  EXPECT_LT(parse_go_duration("9999999h").value(), 0s) << "longer than anybody waits is for ever";
}

TEST(GoDuration, WhatIsNoneIsToldInGosWords) {
  EXPECT_EQ(parse_go_duration("xyz").error().message, "time: invalid duration \"xyz\"");
  EXPECT_EQ(parse_go_duration("").error().message, "time: invalid duration \"\"");
  EXPECT_EQ(parse_go_duration("-").error().message, "time: invalid duration \"-\"");
  EXPECT_EQ(parse_go_duration("5").error().message, "time: missing unit in duration \"5\"");
  EXPECT_EQ(parse_go_duration("5d").error().message, "time: unknown unit \"d\" in duration \"5d\"");
  EXPECT_EQ(parse_go_duration("1..2s").error().message, "time: invalid duration \"1..2s\"");
  EXPECT_EQ(parse_go_duration(".s").error().message, "time: invalid duration \".s\"");
}

// ---- what matters whoever answers

TEST(ReadOllama, TheModelMustBeNamed) {
  EXPECT_EQ(misread("{}"), "model is required");
  EXPECT_EQ(misread(R"({"model": ""})"), "model is required");
  EXPECT_EQ(misread(R"({"model": 3})"), "\"model\" must be a string");
}

TEST(ReadOllama, StreamsUnlessToldNotTo) {
  EXPECT_TRUE(read(R"({"model": "m", "messages": [{"role": "user"}]})").stream);
  EXPECT_TRUE(read(R"({"model": "m", "stream": null})").stream);
  EXPECT_FALSE(read(R"({"model": "m", "stream": false})").stream);
  EXPECT_FALSE(read(R"({"model": "m", "input": "x"})", OllamaCall::kEmbed).stream);
  EXPECT_EQ(misread(R"({"model": "m", "stream": "yes"})"), "\"stream\" must be true or false");
}

TEST(ReadOllama, NothingAskedIsAboutTheModelsStay) {
  EXPECT_FALSE(read(R"({"model": "m"})").asks);
  EXPECT_FALSE(read(R"({"model": "m", "messages": []})").asks);
  EXPECT_TRUE(read(R"({"model": "m", "messages": [{"role": "user", "content": ""}]})").asks);
  EXPECT_FALSE(read(R"({"model": "m", "prompt": ""})", OllamaCall::kGenerate).asks);
  EXPECT_TRUE(read(R"({"model": "m", "prompt": "x"})", OllamaCall::kGenerate).asks);
  EXPECT_TRUE(read(R"({"model": "m", "images": ["aa"]})", OllamaCall::kGenerate).asks);
  EXPECT_FALSE(read(R"({"model": "m", "input": []})", OllamaCall::kEmbed).asks);
  EXPECT_TRUE(read(R"({"model": "m", "input": ["a"]})", OllamaCall::kEmbed).asks);
  EXPECT_TRUE(read(R"({"model": "m", "input": 7})", OllamaCall::kEmbed).asks)
      << "refused later, not taken for silence";
  EXPECT_FALSE(read(R"({"model": "m", "prompt": ""})", OllamaCall::kEmbeddings).asks);
}

TEST(ReadOllama, SeesPictures) {
  EXPECT_FALSE(read(R"({"model": "m", "messages": [{"role": "user", "content": "x", "images": []}]})").shows);
  EXPECT_TRUE(
      read(R"({"model": "m", "messages": [{"role": "user"}, {"role": "user", "images": ["aa"]}]})").shows);
}

TEST(ReadOllama, KeepAliveInAllItsForms) {
  using namespace std::chrono_literals;
  EXPECT_FALSE(read(R"({"model": "m"})").keep_alive);
  EXPECT_FALSE(read(R"({"model": "m", "keep_alive": null})").keep_alive);
  EXPECT_EQ(*read(R"({"model": "m", "keep_alive": 0})").keep_alive, 0s);
  EXPECT_EQ(*read(R"({"model": "m", "keep_alive": 1.5})").keep_alive, 1500ms);
  EXPECT_EQ(*read(R"({"model": "m", "keep_alive": "10m"})").keep_alive, 10min);
  EXPECT_LT(*read(R"({"model": "m", "keep_alive": -1})").keep_alive, 0s);
  EXPECT_LT(*read(R"({"model": "m", "keep_alive": "-1m"})").keep_alive, 0s);
  EXPECT_LT(*read(R"({"model": "m", "keep_alive": 1e300})").keep_alive, 0s);
  EXPECT_EQ(misread(R"({"model": "m", "keep_alive": "xyz"})"), "time: invalid duration \"xyz\"");
  EXPECT_THAT(misread(R"({"model": "m", "keep_alive": true})"), HasSubstr("keep_alive"));
}

// ---- chat

TEST(ToOpenai, AChatStreamsWithItsUsage) {
  const auto t = translated(R"({"model": "x", "messages": [
      {"role": "system", "content": "short"}, {"role": "user", "content": "Hällo 🦙"}], "stream": false})");
  EXPECT_EQ(t.path, "/v1/chat/completions");
  EXPECT_EQ(t.body,
            object(R"({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "messages": [
      {"role": "system", "content": "short"}, {"role": "user", "content": "Hällo 🦙"}]})"));
  EXPECT_THAT(t.ignored, IsEmpty());
}

TEST(ToOpenai, OptionsGoByTheirOtherNames) {
  const auto t =
      translated(R"({"messages": [], "options": {"temperature": 0, "top_p": 0.5, "top_k": 7, "min_p": 0.1,
      "seed": 3, "num_predict": 12, "stop": ["a", "b"], "repeat_penalty": 1.1, "num_ctx": 512, "num_gpu": 9,
      "made_up": 1, "mirostat": null}})");
  EXPECT_EQ(t.body.at("temperature"), 0);
  EXPECT_EQ(t.body.at("top_p"), 0.5);
  EXPECT_EQ(t.body.at("top_k"), 7);
  EXPECT_EQ(t.body.at("min_p"), 0.1);
  EXPECT_EQ(t.body.at("seed"), 3);
  EXPECT_EQ(t.body.at("max_tokens"), 12);
  EXPECT_EQ(t.body.at("stop"), (json::array{"a", "b"}));
  EXPECT_EQ(t.body.at("repeat_penalty"), 1.1);
  EXPECT_FALSE(t.body.contains("options") || t.body.contains("num_ctx") || t.body.contains("mirostat"));
  EXPECT_THAT(t.ignored, ElementsAre("num_ctx", "num_gpu", "made_up"));
}

TEST(ToOpenai, NoLimitIsNoLimit) {
  for (const char* none : {"0", "-1", "-2"}) {
    const auto t = translated(std::string(R"({"messages": [], "options": {"num_predict": )") + none + "}}");
    EXPECT_FALSE(t.body.contains("max_tokens")) << none;
    EXPECT_THAT(t.ignored, IsEmpty());
  }
}

TEST(ToOpenai, OptionsHaveTypes) {
  EXPECT_EQ(refusal(R"({"options": {"temperature": "hot"}})"),
            "option \"temperature\" must be of type float32");
  EXPECT_EQ(refusal(R"({"options": {"top_k": 1.5}})"), "option \"top_k\" must be of type integer");
  EXPECT_EQ(refusal(R"({"options": {"top_k": 1e40}})"), "option \"top_k\" must be of type integer");
  EXPECT_EQ(refusal(R"({"options": {"num_ctx": true}})"), "option \"num_ctx\" must be of type integer");
  EXPECT_EQ(refusal(R"({"options": {"use_mmap": 1}})"), "option \"use_mmap\" must be of type boolean");
  EXPECT_EQ(refusal(R"({"options": {"stop": [1]}})"), "option \"stop\" must be of type array of strings");
  EXPECT_EQ(refusal(R"({"options": 3})"), "\"options\" must be an object");
  EXPECT_EQ(translated(R"({"options": {"top_k": 40.0}})").body.at("top_k"), 40);
}

TEST(ToOpenai, AProviderIsToldOnlyWhatItKnows) {
  const auto t = translated(
      R"({"messages": [], "think": true, "options": {"temperature": 0.5, "top_k": 7, "num_predict": 5}})",
      OllamaCall::kChat, Answerer::kProvider);
  EXPECT_EQ(t.body.at("max_tokens"), 5);
  EXPECT_FALSE(t.body.contains("top_k") || t.body.contains("chat_template_kwargs"));
  EXPECT_THAT(t.ignored, ElementsAre("think", "top_k"));
}

TEST(ToOpenai, Formats) {
  EXPECT_EQ(translated(R"({"format": "json"})").body.at("response_format"),
            object(R"({"type": "json_object"})"));
  EXPECT_EQ(translated(R"({"format": {"type": "object"}})").body.at("response_format"),
            object(R"({"type": "json_schema",
                       "json_schema": {"name": "format", "schema": {"type": "object"}, "strict": true}})"));
  EXPECT_FALSE(translated(R"({"format": ""})").body.contains("response_format"));
  EXPECT_FALSE(translated(R"({"format": null})").body.contains("response_format"));
  EXPECT_THAT(refusal(R"({"format": "xml"})"), HasSubstr("invalid format: \"xml\""));
}

TEST(ToOpenai, Thinking) {
  EXPECT_EQ(translated(R"({"think": false})").body.at("chat_template_kwargs"),
            object(R"({"enable_thinking": false})"));
  EXPECT_EQ(translated(R"({"think": true})").body.at("chat_template_kwargs"),
            object(R"({"enable_thinking": true})"));
  EXPECT_EQ(translated(R"({"think": "low"})").body.at("reasoning_effort"), "low");
  EXPECT_THAT(refusal(R"({"think": "much"})"), HasSubstr("invalid think value: \"much\""));
  const auto t = translated(R"({"messages": [{"role": "assistant", "content": "4", "thinking": "2 + 2"}]})");
  EXPECT_EQ(t.body.at("messages").at(0).at("reasoning_content"), "2 + 2");
}

TEST(ToOpenai, PicturesBecomeParts) {
  const auto t = translated(R"({"messages": [{"role": "user", "content": "what?",
      "images": ["iVBORw0KGgo", "/9j/4AAQ", "data:image/webp;base64,UklGR"]}]})");
  const json::array& parts = t.body.at("messages").at(0).at("content").as_array();
  ASSERT_EQ(parts.size(), 4U);
  EXPECT_EQ(parts[0], object(R"({"type": "text", "text": "what?"})"));
  EXPECT_EQ(parts[1].at("image_url").at("url"), "data:image/png;base64,iVBORw0KGgo");
  EXPECT_EQ(parts[2].at("image_url").at("url"), "data:image/jpeg;base64,/9j/4AAQ");
  EXPECT_EQ(parts[3].at("image_url").at("url"), "data:image/webp;base64,UklGR");
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user", "images": [7]}]})"), HasSubstr("base64"));
}

TEST(ToOpenai, ToolResultsFindTheirCalls) {
  const auto t = translated(R"({"messages": [
      {"role": "assistant", "tool_calls": [{"function": {"name": "time", "arguments": {"zone": "UTC"}}},
                                           {"function": {"name": "weather", "arguments": {}}},
                                           {"id": "mine", "function": {"name": "time", "arguments": "{}"}}]},
      {"role": "tool", "tool_name": "weather", "content": "rain"},
      {"role": "tool", "content": "noon"},
      {"role": "tool", "tool_call_id": "mine", "content": "one"}],
    "tools": [{"type": "function", "function": {"name": "time"}}]})");
  const json::array& messages = t.body.at("messages").as_array();
  const json::array& calls = messages[0].at("tool_calls").as_array();
  ASSERT_EQ(calls.size(), 3U);
  EXPECT_EQ(calls[0].at("type"), "function");
  EXPECT_EQ(calls[0].at("function").at("arguments"), R"({"zone":"UTC"})");
  EXPECT_EQ(calls[2].at("function").at("arguments"), "{}");
  EXPECT_NE(calls[0].at("id"), calls[1].at("id"));
  EXPECT_EQ(calls[2].at("id"), "mine");
  EXPECT_EQ(messages[1].at("tool_call_id"), calls[1].at("id"));
  EXPECT_EQ(messages[1].at("name"), "weather");
  EXPECT_EQ(messages[2].at("tool_call_id"), calls[0].at("id"));
  EXPECT_EQ(messages[3].at("tool_call_id"), "mine");
  EXPECT_EQ(t.body.at("tools").as_array().size(), 1U);
}

TEST(ToOpenai, WhatIsNoMessageIsRefused) {
  EXPECT_EQ(refusal(R"({"messages": "hi"})"), "\"messages\" must be a list");
  EXPECT_EQ(refusal(R"({"messages": ["hi"]})"), "\"messages\" must be a list of objects");
  EXPECT_EQ(refusal(R"({"messages": [{"content": "hi"}]})"), "a message has no \"role\"");
  EXPECT_EQ(refusal(R"({"messages": [{"role": "user", "content": 7}]})"), "\"content\" must be a string");
}

TEST(ToOpenai, ProbabilitiesAreAskedForByTheSameNames) {
  const auto t = translated(R"({"messages": [], "logprobs": true, "top_logprobs": 2})");
  EXPECT_EQ(t.body.at("logprobs"), true);
  EXPECT_EQ(t.body.at("top_logprobs"), 2);
}

// ---- generate

TEST(ToOpenai, APromptIsAChatWithItsTemplate) {
  const auto t = translated(R"({"prompt": "Hi", "system": "short"})", OllamaCall::kGenerate);
  EXPECT_EQ(t.path, "/v1/chat/completions");
  EXPECT_EQ(t.body.at("messages"),
            json::parse(R"([{"role": "system", "content": "short"}, {"role": "user", "content": "Hi"}])"));
}

TEST(ToOpenai, ARawPromptIsACompletion) {
  const auto t =
      translated(R"({"prompt": "<|user|>", "raw": true, "options": {"num_predict": 2}, "format": "json"})",
                 OllamaCall::kGenerate);
  EXPECT_EQ(t.path, "/v1/completions");
  EXPECT_EQ(t.body.at("prompt"), "<|user|>");
  EXPECT_EQ(t.body.at("max_tokens"), 2);
  EXPECT_EQ(t.body.at("response_format").at("type"), "json_object");
  EXPECT_FALSE(t.body.contains("messages"));
}

TEST(ToOpenai, WhatWouldChangeTheMeaningIsRefusedAndNotLeftOut) {
  const auto refused = [](std::string_view text) { return refusal(text, OllamaCall::kGenerate); };
  EXPECT_EQ(refused(R"({"prompt": "a", "suffix": "b"})"), "\"m\" does not support insert");
  EXPECT_THAT(refused(R"({"prompt": "a", "template": "{{ .Prompt }}"})"), HasSubstr("\"template\""));
  EXPECT_THAT(refused(R"({"prompt": "a", "context": [1, 2]})"), HasSubstr("/api/chat"));
  EXPECT_THAT(refused(R"({"prompt": "a", "raw": true, "system": "b"})"), HasSubstr("raw mode"));
  EXPECT_THAT(refused(R"({"prompt": "a", "raw": true, "images": ["aa"]})"), HasSubstr("raw mode"));
  EXPECT_TRUE(to_openai(object(R"({"prompt": "a", "context": [], "template": "", "suffix": null})"),
                        OllamaCall::kGenerate, "m", Answerer::kWorker));
}

// ---- embeddings

TEST(ToOpenai, Embeddings) {
  const auto t =
      translated(R"({"input": ["a", "b"], "truncate": true, "options": {"num_ctx": 5}})", OllamaCall::kEmbed);
  EXPECT_EQ(t.path, "/v1/embeddings");
  EXPECT_EQ(t.body, object(R"({"model": "m", "input": ["a", "b"]})"));
  EXPECT_THAT(t.ignored, ElementsAre("truncate", "num_ctx"));
  EXPECT_EQ(translated(R"({"prompt": "a"})", OllamaCall::kEmbeddings).body,
            object(R"({"model": "m", "input": "a"})"));
  EXPECT_THAT(refusal(R"({"input": 7})", OllamaCall::kEmbed), HasSubstr("\"input\""));
  EXPECT_THAT(refusal(R"({"input": ["a", 7]})", OllamaCall::kEmbed), HasSubstr("\"input\""));
}

}  // namespace
}  // namespace lm::api
