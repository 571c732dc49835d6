#include "wire/openai.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(OpenAiModels, AreReadFromEitherShape) {
  const auto models = decode_models(
      R"({"object":"list","data":[{"id":"a","object":"model","owned_by":"vllm"},{"id":"b/c:d"},{"id":7},{}]})");
  ASSERT_TRUE(models);
  ASSERT_THAT(*models, SizeIs(2));
  EXPECT_EQ((*models)[0].owner, "vllm");
  EXPECT_EQ((*models)[1].name, "b/c:d");
  EXPECT_EQ((*models)[1].kind, std::nullopt);
  EXPECT_THAT(*decode_models(R"([{"id":"a"}])"), SizeIs(1));
  EXPECT_THAT(*decode_models(R"({"data":[]})"), IsEmpty());
}

TEST(OpenAiModels, WhatIsNoListIsAnError) {
  for (const char* body : {"", "null", "{}", R"({"data":{}})", R"({"models":[]})", "<html>", R"({"data":[)"})
    EXPECT_FALSE(decode_models(body)) << body;
}

TEST(OpenAiModels, NamesThatAreNoneAreLeftOut) {
  const std::string long_name(513, 'x');
  const auto models =
      decode_models(R"({"data":[{"id":""},{"id":"a\nb"},{"id":")" + long_name + R"("},{"id":"ok"}]})");
  ASSERT_TRUE(models);
  ASSERT_THAT(*models, SizeIs(1));
  EXPECT_EQ(models->front().name, "ok");
}

TEST(OpenAiModels, KindsAreReadWhereTheyAreTold) {
  const auto kind = [](const std::string& fields) {
    return decode_models(R"([{"id":"m",)" + fields + "}]")->front().kind;
  };
  EXPECT_EQ(kind(R"("type":"embeddings")"), ModelKind::kEmbedding);
  EXPECT_EQ(kind(R"("type":"rerank")"), ModelKind::kRerank);
  EXPECT_EQ(kind(R"("type":"chat")"), ModelKind::kGeneration);
  EXPECT_EQ(kind(R"("type":"model")"), std::nullopt);
  EXPECT_EQ(kind(R"("task":"embed")"), ModelKind::kEmbedding);
  EXPECT_EQ(kind(R"("capabilities":["embed"])"), ModelKind::kEmbedding);
  EXPECT_EQ(kind(R"("capabilities":["embedding","completion"])"), ModelKind::kGeneration);
  EXPECT_EQ(kind(R"("architecture":{"output_modalities":["embeddings"]})"), ModelKind::kEmbedding);
  EXPECT_EQ(kind(R"("architecture":{"output_modalities":["text"]})"), std::nullopt);
}

TEST(OpenAiModels, RoutersTellStates) {
  const auto models =
      decode_models(R"({"data":[{"id":"a","owned_by":"llamacpp","status":{"value":"loaded","args":[]}},)"
                    R"({"id":"b","status":{"value":"unloaded","exit_code":1,"failed":true}}]})");
  ASSERT_TRUE(models);
  EXPECT_EQ((*models)[0].status, "loaded");
  EXPECT_FALSE((*models)[0].failed);
  EXPECT_EQ((*models)[1].status, "unloaded");
  EXPECT_TRUE((*models)[1].failed);
}

TEST(LmStudioModels, BothInterfacesTellWhatIsLoaded) {
  const char* old =
      R"({"object":"list","data":[{"id":"q","type":"llm","state":"loaded"},{"id":"e","type":"embeddings","state":"not-loaded"}]})";
  EXPECT_TRUE(has_states(old));
  EXPECT_FALSE(has_states(R"({"data":[{"id":"q"}]})"));
  EXPECT_FALSE(has_states(R"({"data":[]})"));
  EXPECT_FALSE(has_states(R"x({"error":"Unexpected endpoint (GET /api/v0/models)"})x"));
  const auto states = decode_models(old);
  EXPECT_THAT((*states)[0].instances, ElementsAre("q"));
  EXPECT_THAT((*states)[1].instances, IsEmpty());
  EXPECT_EQ((*states)[1].kind, ModelKind::kEmbedding);

  const auto models = decode_lm_studio_models(
      R"({"models":[{"type":"llm","key":"q","size_bytes":5,"loaded_instances":[{"id":"q"},{"id":"q:2"}]},)"
      R"({"type":"embedding","key":"e","loaded_instances":[]}]})");
  ASSERT_TRUE(models);
  EXPECT_EQ((*models)[0].size, Bytes(5));
  EXPECT_THAT((*models)[0].instances, ElementsAre("q", "q:2"));
  EXPECT_EQ((*models)[1].kind, ModelKind::kEmbedding);
}

TEST(LmStudioModels, OthersListsAreNotTaken) {
  EXPECT_FALSE(decode_lm_studio_models(R"({"models":[{"key":"q"}]})"));
  EXPECT_FALSE(decode_lm_studio_models(R"({"models":[{"id":"tiny","state":"ready"}]})"));
  EXPECT_FALSE(decode_lm_studio_models(R"({"error":"Unexpected endpoint"})"));
}

TEST(OpenAiAnswers, SmallOnesAreRead) {
  EXPECT_EQ(decode_flag(R"({"is_sleeping":true})", "is_sleeping"), true);
  EXPECT_EQ(decode_flag(R"({"is_sleeping":"true"})", "is_sleeping"), std::nullopt);
  EXPECT_EQ(decode_flag("ok", "is_sleeping"), std::nullopt);
  EXPECT_EQ(decode_text(R"({"version":"0.9.1"})", "version"), "0.9.1");
  EXPECT_EQ(decode_text(R"([])", "version"), "");
  EXPECT_EQ(encode_text("model", "a\"b"), R"({"model":"a\"b"})");
}

TEST(OpenAiAnswers, ComplaintsAreOneShortLine) {
  EXPECT_EQ(decode_complaint(R"({"error":{"message":"no\nroom","code":400}})"), "no room");
  EXPECT_EQ(decode_complaint(R"({"error":"Unexpected endpoint"})"), "Unexpected endpoint");
  EXPECT_EQ(decode_complaint(R"({"detail":"Not Found"})"), "Not Found");
  EXPECT_EQ(decode_complaint("<html>"), "");
  std::string wide = "x";
  for (int i = 0; i < 400; ++i) wide += "é";
  const std::string cut = decode_complaint(R"({"error":")" + wide + R"("})");
  EXPECT_EQ(cut.size(), 299u) << "300 would be half a letter";
}

TEST(OpenAiAnswers, MutationsNeverCrash) {
  const std::string base =
      R"({"models":[{"key":"q","loaded_instances":[{"id":"q"}]}],"data":[{"id":"a","status":{"value":"loaded"},"meta":{"size":5}}],"error":{"message":"x"}})";
  std::mt19937 random(5);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string body = base;
    body[random() % body.size()] = static_cast<char>(random());
    accepted += decode_models(body).has_value() ? 1 : 0;
    accepted += decode_lm_studio_models(body).has_value() ? 1 : 0;
    decode_complaint(body);
    has_states(body);
  }
  EXPECT_GT(accepted, 100);
}

}  // namespace
}  // namespace lm::wire
