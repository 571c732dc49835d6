#include "artifact.h"

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdlib.h>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "load_options.h"
#include "prediction.h"

namespace lm::worker {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class ArtifactTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "artifact_test.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path file(const std::string& name, const std::string& bytes) {
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return folder_ / name;
  }
  static std::string vocabulary(const char* name) {
    std::ifstream in(std::string(VOCABULARIES) + "/ggml-vocab-" + name + ".gguf", std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return std::move(text).str();
  }
  // A part of a split model: as little as the engine asks of one.
  static std::string part(std::uint16_t number, std::uint16_t count) {
    std::string bytes = "GGUF";
    const auto put = [&](const auto& value) {
      bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
    };
    const auto text = [&](std::string_view t) {
      put(std::uint64_t{t.size()});
      bytes += t;
    };
    put(std::uint32_t{3});
    put(std::uint64_t{0});
    put(std::uint64_t{3});
    text("general.architecture");
    put(std::uint32_t{8});
    text("llama");
    for (const auto& [key, value] : {std::pair{"split.no", number}, std::pair{"split.count", count}}) {
      text(key);
      put(std::uint32_t{2});
      put(value);
    }
    return bytes;
  }

  static Result<void> open_and_read(const fs::path& path) {
    LM_TRY(auto artifact, Artifact::open(path));
    return artifact.read();
  }

  fs::path folder_;
};

TEST_F(ArtifactTest, DescribesARealVocabulary) {
  auto artifact = Artifact::open(std::string(VOCABULARIES) + "/ggml-vocab-bert-bge.gguf");
  ASSERT_TRUE(artifact);
  ASSERT_TRUE(artifact->read());
  const auto told = describe(*artifact);
  EXPECT_EQ(told.architecture, "bert");
  EXPECT_EQ(told.kind, ModelKind::kEmbedding);
  EXPECT_EQ(told.pooling, "") << "it does not say";
  EXPECT_EQ(told.layers, 12);
  EXPECT_EQ(told.context_train, 512);
  EXPECT_EQ(told.vocabulary, 30522);
  EXPECT_EQ(told.parts, 1);
}

TEST_F(ArtifactTest, FingerprintFollowsTheContentNotTheName) {
  const auto bytes = vocabulary("llama-spm");
  const auto fingerprint = [&](const fs::path& path) {
    auto artifact = Artifact::open(path);
    EXPECT_TRUE(artifact);
    return artifact->fingerprint().value();
  };
  const auto first = fingerprint(file("one.gguf", bytes));
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(fingerprint(file("two.gguf", bytes)), first);
  auto changed = bytes;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  EXPECT_NE(fingerprint(file("three.gguf", changed)), first);
  EXPECT_NE(fingerprint(file("four.gguf", bytes + "x")), first);
  EXPECT_EQ(fingerprint(file("empty.gguf", "")).size(), 32u);
}

TEST_F(ArtifactTest, SaysWhyAFileCannotBeOpened) {
  const auto missing = Artifact::open(folder_ / "nothing.gguf");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().reason, "io_error");
  const auto folder = Artifact::open(folder_);
  ASSERT_FALSE(folder);
  EXPECT_EQ(folder.error().reason, "invalid_artifact");
  EXPECT_THAT(folder.error().message, HasSubstr("a folder"));
  ASSERT_EQ(::mkfifo((folder_ / "fifo.gguf").c_str(), 0600), 0);
  const auto fifo = Artifact::open(folder_ / "fifo.gguf");
  ASSERT_FALSE(fifo) << "and it does not wait for a writer";
  EXPECT_EQ(fifo.error().reason, "invalid_artifact");
}

TEST_F(ArtifactTest, ReadsAllPartsOfASplitModel) {
  const auto first = file("m-00001-of-00003.gguf", part(0, 3));
  file("m-00002-of-00003.gguf", part(1, 3));
  const auto lacking = Artifact::open(first);
  ASSERT_FALSE(lacking);
  EXPECT_EQ(lacking.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(lacking.error().message, HasSubstr("m-00003-of-00003.gguf"));
  file("m-00003-of-00003.gguf", part(2, 3));
  auto whole = Artifact::open(first);
  ASSERT_TRUE(whole);
  ASSERT_TRUE(whole->read());
  EXPECT_EQ(describe(*whole).parts, 3);
}

TEST_F(ArtifactTest, RefusesPartsThatContradictTheirNames) {
  const auto cycle = file("c-00001-of-00002.gguf", part(0, 2));
  file("c-00002-of-00002.gguf", part(0, 2));
  const auto same_twice = open_and_read(cycle);
  ASSERT_FALSE(same_twice);
  EXPECT_EQ(same_twice.error().reason, "invalid_artifact");

  const auto count = open_and_read(file("alone.gguf", part(0, 7)));
  ASSERT_FALSE(count);
  EXPECT_THAT(count.error().message, HasSubstr("one of 7 parts"));

  const auto second = Artifact::open(folder_ / "c-00002-of-00002.gguf");
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("name its first part"));

  const auto many = open_and_read(file("m-00001-of-99999.gguf", part(0, 9)));
  ASSERT_FALSE(many);
  EXPECT_EQ(many.error().reason, "invalid_artifact");
}

TEST(LoadOptionsTest, ChoosesWhereTheUserDidNot) {
  const auto chosen = choose_options({}, ModelKind::kGeneration, 32'768, true).value();
  EXPECT_EQ(chosen.context, 8'192);
  EXPECT_LE(chosen.batch, 512) << "on the host a client's leaving is seen at batch borders";
  EXPECT_EQ(choose_options({}, ModelKind::kGeneration, 2'048, true).value().context, 2'048);
  const auto embedding = choose_options({}, ModelKind::kEmbedding, 512, true).value();
  EXPECT_EQ(embedding.batch, embedding.micro_batch) << "an encoder sees a text at once";
  const auto card = choose_options({}, ModelKind::kGeneration, 32'768, false).value();
  EXPECT_GT(card.batch, 512);
}

TEST(LoadOptionsTest, TakesTheUsersWord) {
  const auto chosen =
      choose_options({.context = 1'000, .parallel = 1, .batch = 64, .kv_type = "q8_0", .mmap = false},
                     ModelKind::kGeneration, 2'048, true)
          .value();
  EXPECT_EQ(chosen.context, 1'000);
  EXPECT_EQ(chosen.parallel, 1);
  EXPECT_EQ(chosen.batch, 64);
  EXPECT_FALSE(chosen.mmap);
  EXPECT_FALSE(chosen.unified);
}

TEST(LoadOptionsTest, NamesWhatIsIllegal) {
  const auto why = [](const LoadOptions& options) {
    const auto result = choose_options(options, ModelKind::kGeneration, 2'048, true);
    EXPECT_FALSE(result);
    if (result) return std::string();
    EXPECT_EQ(result.error().reason, "invalid_options");
    return result.error().message;
  };
  EXPECT_THAT(why({.context = 0}), HasSubstr("context 0"));
  EXPECT_THAT(why({.parallel = 0}), HasSubstr("parallel 0"));
  EXPECT_THAT(why({.batch = -1}), HasSubstr("batch -1"));
  EXPECT_THAT(why({.threads = 0}), HasSubstr("threads 0"));
  EXPECT_THAT(why({.kv_type = "q9"}), HasSubstr("'q9'"));
}

}  // namespace
}  // namespace lm::worker
