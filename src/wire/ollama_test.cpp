#include "wire/ollama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::wire {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

template <class T>
std::string complaint(const Result<T>& decoded) {
  return decoded ? "none" : decoded.error().message;
}

// Cut from the recording of a real one.
TEST(Ollama, ReadsItsTags) {
  const auto models = decode_ollama_tags(
      R"({"models":[{"name":"minilm:latest","model":"minilm:latest","modified_at":"2026-11-20T19:56:49.491285551Z",)"
      R"("size":25282517,"digest":"d9c1","details":{"parent_model":"","format":"gguf","family":"bert","families":["bert"],)"
      R"("parameter_size":"22.57M"},"capabilities":["embedding"]},)"
      R"({"name":"qwen-b:latest","size":639442584,"details":{"family":"qwen3"},"capabilities":["completion","tools"]},)"
      R"({"name":"big:cloud","size":382,"remote_model":"big","remote_host":"https://ollama.com:443"}]})");
  ASSERT_TRUE(models) << models.error().message;
  ASSERT_THAT(*models, SizeIs(3));
  EXPECT_EQ((*models)[0].name, "minilm:latest");
  EXPECT_EQ((*models)[0].kind, ModelKind::kEmbedding);
  EXPECT_EQ((*models)[0].size, Bytes(25282517));
  EXPECT_EQ((*models)[1].kind, ModelKind::kGeneration);
  EXPECT_EQ((*models)[2].kind, ModelKind::kGeneration) << "it does not say";
}

TEST(Ollama, ReadsWhatIsInMemory) {
  const auto models = decode_ollama_ps(
      R"({"models":[{"name":"tinyllama:latest","size":0,"details":{"family":"llama"},"expires_at":"x","size_vram":0},)"
      R"({"name":"nomic:v1.5","size":700,"details":{"family":"nomic-bert"},"size_vram":300}]})");
  ASSERT_TRUE(models) << models.error().message;
  ASSERT_THAT(*models, SizeIs(2));
  EXPECT_EQ((*models)[0].size, Bytes());
  EXPECT_EQ((*models)[1].kind, ModelKind::kEmbedding) << "older ones tell no capabilities";
  EXPECT_EQ((*models)[1].vram, Bytes(300));
  EXPECT_THAT(*decode_ollama_ps(R"({"models":[]})"), IsEmpty());
  EXPECT_THAT(*decode_ollama_ps(R"({"models":null})"), IsEmpty());
}

TEST(Ollama, KnowsTheAnswerToALoad) {
  EXPECT_TRUE(check_ollama_loaded(R"({"model":"a","response":"","done":true,"done_reason":"load"})"));
  EXPECT_TRUE(check_ollama_loaded(R"({"model":"a","embeddings":[],"load_duration":3})"));
  const auto loaded = [](std::string_view body) { return complaint(check_ollama_loaded(body)); };
  EXPECT_EQ(loaded("<html>"), "the answer is no JSON");
  EXPECT_EQ(loaded(R"({"done":tr)"), "the answer is cut off");
  EXPECT_EQ(loaded("[]"), "the answer is no object");
  EXPECT_EQ(loaded(std::string(100, '[')), "the answer is nested too deeply");
  for (const std::string_view body : {"{}", R"({"done":false})", R"({"done":"true"})", R"({"embeddings":7})"})
    EXPECT_EQ(loaded(body), "the answer does not say that it is done") << body;
}

// Above all: nothing of this is an empty list, which would mean that all memory was given back.
TEST(Ollama, SaysWhatCameInstead) {
  const auto ps = [](std::string_view body) { return complaint(decode_ollama_ps(body)); };
  EXPECT_EQ(ps("<html><body>502</body></html>"), "the answer is no JSON");
  EXPECT_EQ(ps(""), "the answer is cut off");
  EXPECT_EQ(ps(R"({"models":[{"name":"tinyll)"), "the answer is cut off");
  EXPECT_EQ(ps("[]"), "the answer has no list of models");
  EXPECT_EQ(ps("{}"), "the answer has no list of models");
  EXPECT_EQ(ps(R"({"models":{"name":7}})"), "\"models\" is no list");
  EXPECT_EQ(ps(R"({"models":[3]})"), "models[0] is no object");
  EXPECT_EQ(ps(R"({"models":[{"name":"a"},{"name":7}]})"), "models[1] has no name");
  EXPECT_EQ(ps(R"({"models":[{"name":""}]})"), "models[0] has a name that is none");
  EXPECT_EQ(ps(R"({"models":[{"name":"a\nb"}]})"), "models[0] has a name that is none");
  EXPECT_EQ(ps(R"({"models":[{"name":"a","size":"big"}]})"), "models[0] has a size that is no amount");
  EXPECT_EQ(ps(R"({"models":[{"name":"a","size":-1}]})"), "models[0] has a size that is no amount");
  EXPECT_EQ(ps(R"({"models":)" + std::string(100, '[') + std::string(100, ']') + "}"),
            "the answer is nested too deeply");
  std::string many = R"({"models":[{"name":"a"})";
  for (int i = 0; i < 10'000; ++i) many += R"(,{"name":"a"})";
  EXPECT_THAT(ps(many + "]}"), HasSubstr("10001 models"));
}

TEST(Ollama, ListsLeaveOutWhatIsNoName) {
  const auto models = decode_ollama_tags(R"({"models":[{"name":"a\u0000"},{"name":"b:x"},{"name":"b:x"}]})");
  ASSERT_TRUE(models);
  ASSERT_THAT(*models, SizeIs(1));
  EXPECT_EQ(models->front().name, "b:x");
}

TEST(Ollama, IsTold) {
  EXPECT_EQ(encode_ollama_generate("a\"b", false), R"({"model":"a\"b","stream":false})");
  EXPECT_EQ(encode_ollama_generate("a:b", true), R"({"model":"a:b","stream":false,"keep_alive":0})");
  EXPECT_EQ(encode_ollama_embed("a"), R"({"model":"a","input":[]})");
}

}  // namespace
}  // namespace lm::wire
