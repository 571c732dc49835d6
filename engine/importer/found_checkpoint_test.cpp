#include "found_checkpoint.h"

#include <fstream>
#include <unistd.h>

#include <gtest/gtest.h>

namespace lm::importer {
namespace {

namespace fs = std::filesystem;

std::string config(const std::string& type, const std::string& of_class, const std::string& more = "") {
  return R"({"model_type":")" + type + R"(","architectures":[")" + of_class + R"("],"hidden_size":64,
    "intermediate_size":96,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":100,
    "max_position_embeddings":128,"layer_norm_eps":1e-12)" +
         more + "}";
}

TEST(FoundCheckpoint, IsOfAKindOrNotForUs) {
  const auto kind = [](const std::string& text, bool makes_vectors = false) {
    return kind_of_checkpoint({.config = text, .makes_vectors = makes_vectors});
  };
  EXPECT_EQ(kind(config("qwen3", "Qwen3ForCausalLM")), ModelKind::kGeneration);
  EXPECT_EQ(kind(config("qwen3", "Qwen3ForCausalLM"), true), ModelKind::kEmbedding);
  EXPECT_EQ(kind(config("qwen3", "Qwen3Model")), ModelKind::kEmbedding);
  EXPECT_EQ(kind(config("bert", "BertModel")), ModelKind::kEmbedding);
  EXPECT_EQ(kind(config("whisper", "WhisperForConditionalGeneration")), std::nullopt);
  EXPECT_EQ(kind(config("bert", "BertForSequenceClassification")), std::nullopt);
  EXPECT_EQ(kind(config("qwen3", "Qwen3ForCausalLM", R"(,"quantization_config":{"bits":4})")), std::nullopt);
  for (const char* text : {"", "{", "[]", "{}"}) EXPECT_EQ(kind(text), std::nullopt) << text;
  EXPECT_EQ(kind(std::string(100'000, '[')), std::nullopt);
}

TEST(FoundCheckpoint, IsReadByItsNamesOnly) {
  std::string pattern = (fs::temp_directory_path() / "lm-found-XXXXXX").string();
  const fs::path folder = ::mkdtemp(pattern.data());
  EXPECT_EQ(collect_checkpoint(folder).config, "");
  std::ofstream(folder / "config.json") << "{}";
  EXPECT_EQ(collect_checkpoint(folder).config, "{}");
  EXPECT_FALSE(collect_checkpoint(folder).makes_vectors);
  std::ofstream(folder / "modules.json") << "[]";
  EXPECT_TRUE(collect_checkpoint(folder).makes_vectors);
  std::ofstream(folder / "config.json") << std::string(2'000'000, ' ');
  EXPECT_EQ(collect_checkpoint(folder).config, "");
  fs::remove(folder / "config.json");
  fs::create_symlink("/dev/zero", folder / "config.json");
  EXPECT_EQ(collect_checkpoint(folder).config, "");
  fs::remove_all(folder);
}

}  // namespace
}  // namespace lm::importer
