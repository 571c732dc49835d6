#include "artifact.h"

#include <filesystem>
#include <fstream>
#include <ggml.h>
#include <gguf.h>
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

TEST_F(ArtifactTest, KnowsWhatLiesBehindTheWeights) {
  const auto path = file("padded.gguf", part(0, 1));
  for (const std::uint64_t padding : {0, 1, 1 << 25}) {
    fs::resize_file(path, part(0, 1).size() + padding);
    auto artifact = Artifact::open(path);
    ASSERT_TRUE(artifact);
    ASSERT_TRUE(artifact->read());
    EXPECT_EQ(artifact->padding(), padding);
  }
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

TEST(LoadOptionsTest, AFileThatIsMuchLongerThanItsWeightsIsReadAndNotMapped) {
  EXPECT_TRUE(for_file({}, 0).mmap);
  EXPECT_TRUE(for_file({}, 100'000).mmap);
  EXPECT_FALSE(for_file({}, std::uint64_t{8} << 30).mmap);
  EXPECT_FALSE(for_file({.mmap = false}, 0).mmap);
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

// A model of two layers: 64 MiB of embeddings, 16 MiB a layer, 8 MiB of norm after them, and an output of 32
// MiB where it has its own. Only the table of tensors is looked at.
Artifact model_with(const fs::path& path, bool own_output) {
  auto* gguf = gguf_init_empty();
  gguf_set_val_str(gguf, "general.architecture", "llama");
  gguf_set_val_u32(gguf, "llama.block_count", 2);
  gguf_set_val_u32(gguf, "llama.embedding_length", 1024);
  gguf_set_val_u32(gguf, "llama.attention.head_count", 8);
  gguf_set_val_u32(gguf, "llama.attention.head_count_kv", 2);
  ggml_context* context = ggml_init({.mem_size = 1 << 20, .mem_buffer = nullptr, .no_alloc = true});
  const auto add = [&](const char* name, std::int64_t mebibytes) {
    auto* tensor = ggml_new_tensor_2d(context, GGML_TYPE_F32, 1024, 256 * mebibytes);
    ggml_set_name(tensor, name);
    gguf_add_tensor(gguf, tensor);
  };
  add("token_embd.weight", 64);
  add("blk.0.attn_q.weight", 16);
  add("blk.1.attn_q.weight", 16);
  add("output_norm.weight", 8);
  if (own_output) add("output.weight", 32);
  gguf_write_to_file(gguf, path.c_str(), true);
  const auto metadata = fs::file_size(path);
  fs::resize_file(path, metadata + (static_cast<std::uintmax_t>(own_output ? 136 : 104) << 20));
  ggml_free(context);
  gguf_free(gguf);
  auto artifact = Artifact::open(path);
  EXPECT_TRUE(artifact);
  EXPECT_TRUE(artifact->read());
  return std::move(artifact).value();
}

class PredictionTest : public ArtifactTest {
 protected:
  std::vector<DeviceMemory> predict(const LoadOptions& wanted, bool own_output = true) {
    const Artifact artifact = model_with(folder_ / "model.gguf", own_output);
    const auto options = choose_options(wanted, ModelKind::kGeneration, 4'096, false).value();
    const auto card = card_of(wanted);
    EXPECT_TRUE(card);
    return predict_on_card(artifact, nullptr, options, *card);
  }
};

TEST_F(PredictionTest, OnACardEverythingButTheEmbeddingsIsThere) {
  const auto all = predict({.context = 1'024, .device = "cuda0"});
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].device, host_device());
  EXPECT_EQ(all[1].device, DeviceId("cuda0"));
  EXPECT_EQ(all[0].mapped, mib(64));
  EXPECT_EQ(all[0].weights, Bytes());
  EXPECT_EQ(all[1].weights, mib(16 + 16 + 8 + 32));
  EXPECT_EQ(all[1].mapped, Bytes());
  const Bytes cache =
      Bytes(std::int64_t{1'024} * 2 * (2 * 128) * 2 * 2);  // cells, layers, width, K and V, f16
  EXPECT_EQ(all[1].context, cache);
  EXPECT_EQ(all[0].context, Bytes());
  EXPECT_GT(all[1].compute, mib(256)) << "its own context is charged too";
}

TEST_F(PredictionTest, AnOutputMadeFromTheEmbeddingsLiesThereTwice) {
  EXPECT_EQ(predict({.device = "cuda0"}, false)[1].weights, mib(16 + 16 + 8 + 64));
}

TEST_F(PredictionTest, ThePartsThatGoAreTheLast) {
  const auto output = predict({.context = 1'024, .gpu_layers = 1, .device = "cuda1"});
  EXPECT_EQ(output[1].weights, mib(8 + 32));
  EXPECT_EQ(output[0].mapped, mib(64 + 16 + 16));
  EXPECT_EQ(output[1].context, Bytes());
  const auto half = predict({.context = 1'024, .gpu_layers = 2, .device = "cuda1"});
  EXPECT_EQ(half[1].weights, mib(8 + 32 + 16));
  EXPECT_EQ(half[0].context, half[1].context);
  EXPECT_EQ(predict({.gpu_layers = 99, .device = "cuda1"})[0].mapped, mib(64));
}

TEST_F(PredictionTest, LayerByLayerItIsTheSame) {
  const LoadOptions wanted{.context = 1'024, .device = "cuda0"};
  const auto card = predict(wanted);
  const Artifact artifact = model_with(folder_ / "model.gguf", true);
  const auto options = choose_options(wanted, ModelKind::kGeneration, 4'096, false).value();
  const Extent extent = extent_of(artifact, nullptr, options);
  ASSERT_EQ(extent.layers.size(), 3u) << "two, and the output";
  EXPECT_EQ(extent.layers[0].weights, mib(16));
  EXPECT_EQ(extent.layers[2].weights, mib(8 + 32));
  EXPECT_EQ(extent.layers[2].cache, Bytes());
  Bytes weights;
  Bytes cache;
  for (const Extent::Layer& layer : extent.layers) {
    weights += layer.weights;
    cache += layer.cache;
  }
  EXPECT_EQ(weights, card[1].weights);
  EXPECT_EQ(cache, card[1].context);
  EXPECT_EQ(std::max(extent.scratch, extent.output_scratch) + extent.inputs + extent.device_context,
            card[1].compute);
  EXPECT_EQ(extent.pipelined, extent.inputs * 3 + Bytes(std::int64_t{512} * 4 * 1024) * 4)
      << "four of each, one of them is in `inputs`";
  EXPECT_EQ(extent.host + extent.host_with_cards, card[0].compute);
  EXPECT_TRUE(extent.mapped);
  const auto unmapped = choose_options({.mmap = false}, ModelKind::kGeneration, 4'096, false).value();
  EXPECT_GE(extent_of(artifact, nullptr, unmapped).host, mib(64)) << "the embeddings stay on the host";
}

TEST(CardOfTest, OnlyANamedCardIsOne) {
  EXPECT_FALSE(card_of({.device = "auto"}));
  EXPECT_FALSE(card_of({.device = "cuda"}));
  EXPECT_FALSE(card_of({.device = "host"}));
  EXPECT_FALSE(card_of({.gpu_layers = 0, .device = "cuda0"}));
  EXPECT_EQ(card_of({.gpu_layers = 3, .device = "cuda12"})->device, DeviceId("cuda12"));
}

}  // namespace
}  // namespace lm::worker
