#include "gguf_check.h"

#include <chrono>
#include <cstring>
#include <fstream>
#include <gguf.h>
#include <memory>
#include <random>
#include <sstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::worker {
namespace {

using testing::HasSubstr;

std::string vocabulary(const char* name) {
  std::ifstream file(std::string(VOCABULARIES) + "/ggml-vocab-" + name + ".gguf", std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

// Writes GGUF by hand, so that it can write what no library would.
class Writer {
 public:
  template <class T>
  Writer& put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Writer& text(std::string_view text) {
    put(std::uint64_t{text.size()});
    bytes_ += text;
    return *this;
  }
  Writer& header(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    bytes_ += "GGUF";
    return put(version).put(tensors).put(keys);
  }
  Writer& architecture() {
    return text("general.architecture").put(std::uint32_t{GGUF_TYPE_STRING}).text("llama");
  }
  Writer& tensor(std::string_view name, std::vector<std::uint64_t> shape, std::uint32_t type,
                 std::uint64_t offset) {
    text(name).put(static_cast<std::uint32_t>(shape.size()));
    for (const auto n : shape) put(n);
    return put(type).put(offset);
  }
  Writer& data(std::size_t bytes) {
    bytes_.append((32 - bytes_.size() % 32) % 32 + bytes, 'w');
    return *this;
  }
  const std::string& bytes() const { return bytes_; }
  Result<Gguf> read() const { return read_gguf(bytes_, bytes_.size()); }

 private:
  std::string bytes_;
};

constexpr std::uint32_t kF32 = 0;

std::string why(const Result<Gguf>& result) {
  if (result) return "accepted";
  EXPECT_EQ(result.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(result.error().reason, "invalid_artifact");
  return result.error().message;
}

TEST(GgufCheck, ReadsRealVocabularies) {
  for (const char* name : {"qwen2", "llama-spm", "bert-bge", "llama-bpe"}) {
    const auto bytes = vocabulary(name);
    ASSERT_GT(bytes.size(), 100'000u) << name;
    const auto gguf = read_gguf(bytes, bytes.size());
    ASSERT_TRUE(gguf) << name << ": " << gguf.error().message;
    EXPECT_TRUE(gguf->text("general.architecture"));
    ASSERT_NE(gguf->array("tokenizer.ggml.tokens"), nullptr);
    EXPECT_GT(gguf->array("tokenizer.ggml.tokens")->count, 20'000u);
  }
}

TEST(GgufCheck, AgreesWithTheEnginesReader) {
  const std::string path = std::string(VOCABULARIES) + "/ggml-vocab-qwen2.gguf";
  const std::unique_ptr<gguf_context, decltype(&gguf_free)> theirs(
      gguf_init_from_file(path.c_str(), {.no_alloc = true, .ctx = nullptr}), gguf_free);
  ASSERT_NE(theirs, nullptr);
  const auto bytes = vocabulary("qwen2");
  const auto ours = read_gguf(bytes, bytes.size());
  ASSERT_TRUE(ours);
  ASSERT_EQ(ours->values.size(), static_cast<std::size_t>(gguf_get_n_kv(theirs.get())));
  for (std::int64_t i = 0; i < gguf_get_n_kv(theirs.get()); ++i) {
    const char* key = gguf_get_key(theirs.get(), i);
    ASSERT_TRUE(ours->values.contains(key)) << key;
    switch (gguf_get_kv_type(theirs.get(), i)) {
      case GGUF_TYPE_STRING:
        EXPECT_EQ(ours->text(key), gguf_get_val_str(theirs.get(), i));
        break;
      case GGUF_TYPE_UINT32:
        EXPECT_EQ(ours->integer(key), gguf_get_val_u32(theirs.get(), i));
        break;
      case GGUF_TYPE_FLOAT32:
        EXPECT_EQ(ours->real(key), gguf_get_val_f32(theirs.get(), i));
        break;
      case GGUF_TYPE_ARRAY:
        EXPECT_EQ(ours->array(key)->count, gguf_get_arr_n(theirs.get(), i));
        break;
      default:
        break;
    }
  }
}

TEST(GgufCheck, ReadsTensors) {
  Writer w;
  w.header(2, 1).architecture().tensor("a", {8, 2}, kF32, 0).tensor("b", {3}, kF32, 64).data(64 + 12);
  const auto gguf = w.read();
  ASSERT_TRUE(gguf) << gguf.error().message;
  ASSERT_EQ(gguf->tensors.size(), 2u);
  EXPECT_EQ(gguf->tensors[0].name, "a");
  EXPECT_EQ(gguf->tensors[0].elements, 16);
  EXPECT_EQ(gguf->tensors[0].rows, 2);
  EXPECT_EQ(gguf->tensors[0].bytes, 64u);
  EXPECT_EQ(gguf->data_offset % 32, 0u);
}

TEST(GgufCheck, ReadsPerLayerArrays) {
  Writer w;
  w.header(0, 3).architecture();
  w.text("llama.attention.head_count_kv")
      .put(std::uint32_t{GGUF_TYPE_ARRAY})
      .put(std::uint32_t{GGUF_TYPE_INT32})
      .put(std::uint64_t{3});
  w.put(std::int32_t{8}).put(std::int32_t{0}).put(std::int32_t{4});
  w.text("llama.block_count").put(std::uint32_t{GGUF_TYPE_UINT32}).put(std::uint32_t{3});
  const auto gguf = w.read();
  ASSERT_TRUE(gguf) << gguf.error().message;
  EXPECT_EQ(gguf->largest("llama.attention.head_count_kv"), 8);
  EXPECT_EQ(gguf->sum_over("llama.attention.head_count_kv", 3), 12);
  EXPECT_EQ(gguf->sum_over("llama.attention.head_count_kv", 2), 8);
  EXPECT_EQ(gguf->sum_over("llama.block_count", 4), 12);
  EXPECT_EQ(gguf->largest("nothing"), std::nullopt);
}

TEST(GgufCheck, SaysWhatIsWrong) {
  EXPECT_THAT(why(read_gguf("", 0)), HasSubstr("0 bytes"));
  EXPECT_THAT(why(read_gguf("<htm", 4)), HasSubstr("'<htm' instead of 'GGUF'"));
  EXPECT_THAT(why(read_gguf("GGUF", 4)), HasSubstr("truncated"));
  EXPECT_THAT(why(Writer().header(0, 0, 1).read()), HasSubstr("version 1"));
  EXPECT_THAT(why(Writer().header(0, 0, 99).read()), HasSubstr("version 99"));
  EXPECT_THAT(why(Writer().header(0, ~std::uint64_t{0}).architecture().read()),
              HasSubstr("18446744073709551615 keys"));
  EXPECT_THAT(why(Writer().header(1'000'000, 1).architecture().read()), HasSubstr("1000000 tensors"));
  EXPECT_THAT(why(Writer().header(0, 2).architecture().architecture().read()),
              HasSubstr("'general.architecture' comes twice"));
  EXPECT_THAT(why(Writer().header(0, 1).text("k").put(std::uint32_t{77}).put(std::uint64_t{0}).read()),
              HasSubstr("unknown type 77"));
  EXPECT_THAT(
      why(Writer().header(0, 1).text("k").put(std::uint32_t{GGUF_TYPE_STRING}).put(~std::uint64_t{0}).read()),
      HasSubstr("'k'"));
  Writer lying_array;
  lying_array.header(0, 1)
      .text("list")
      .put(std::uint32_t{GGUF_TYPE_ARRAY})
      .put(std::uint32_t{GGUF_TYPE_STRING})
      .put(std::uint64_t{1} << 60);
  EXPECT_THAT(why(lying_array.read()), HasSubstr("'list'"));
  Writer nested;
  nested.header(0, 1)
      .text("list")
      .put(std::uint32_t{GGUF_TYPE_ARRAY})
      .put(std::uint32_t{GGUF_TYPE_ARRAY})
      .put(std::uint64_t{0});
  EXPECT_THAT(why(nested.read()), HasSubstr("unknown type 9"));
  Writer alignment;
  alignment.header(0, 1).text("general.alignment").put(std::uint32_t{GGUF_TYPE_UINT32}).put(std::uint32_t{3});
  EXPECT_THAT(why(alignment.read()), HasSubstr("no power of two"));
}

TEST(GgufCheck, RefusesTensorsThatCannotBe) {
  const auto one = [](std::vector<std::uint64_t> shape, std::uint32_t type, std::uint64_t offset,
                      std::size_t data) {
    return why(
        Writer().header(1, 1).architecture().tensor("t", std::move(shape), type, offset).data(data).read());
  };
  EXPECT_EQ(one({8, 2}, kF32, 0, 64), "accepted");
  EXPECT_THAT(one({8, 2}, kF32, 0, 63), HasSubstr("fetch it again"));
  EXPECT_THAT(one({8, 2}, kF32, 32, 128), HasSubstr("begins at 32 instead of 0"));
  EXPECT_THAT(one({0}, kF32, 0, 64), HasSubstr("impossible shape"));
  EXPECT_THAT(one({std::uint64_t{1} << 62, 4}, kF32, 0, 64), HasSubstr("impossible shape"));
  EXPECT_THAT(one({std::uint64_t{1} << 61}, kF32, 0, 64), HasSubstr("impossible shape"));
  EXPECT_THAT(one({~std::uint64_t{0}}, kF32, 0, 64), HasSubstr("impossible shape"));
  EXPECT_THAT(one({8}, 4, 0, 64), HasSubstr("unknown type 4"));  // Q4_2, given up long ago
  EXPECT_THAT(one({8}, 1'000'000, 0, 64), HasSubstr("unknown type 1000000"));
  EXPECT_THAT(one({33}, 8, 0, 64), HasSubstr("no whole blocks"));
  EXPECT_THAT(one({1, 1, 1, 1, 1}, kF32, 0, 64), HasSubstr("5 dimensions"));
  EXPECT_THAT(why(Writer()
                      .header(2, 1)
                      .architecture()
                      .tensor("t", {8}, kF32, 0)
                      .tensor("t", {8}, kF32, 32)
                      .data(64)
                      .read()),
              HasSubstr("'t' comes twice"));
  EXPECT_THAT(
      why(Writer().header(1, 1).architecture().tensor(std::string(64, 'n'), {8}, kF32, 0).data(64).read()),
      HasSubstr("64 bytes"));
}

TEST(GgufCheck, RefusesShapesThatTheEngineWouldTripOver) {
  const auto with = [](std::string_view key, std::uint64_t value) {
    return why(Writer()
                   .header(0, 2)
                   .architecture()
                   .text(key)
                   .put(std::uint32_t{GGUF_TYPE_UINT64})
                   .put(value)
                   .read());
  };
  EXPECT_EQ(with("llama.block_count", 32), "accepted");
  EXPECT_THAT(with("llama.block_count", 1'000'000), HasSubstr("'llama.block_count'"));
  EXPECT_THAT(with("llama.embedding_length", 0), HasSubstr("'llama.embedding_length'"));
  EXPECT_THAT(with("llama.context_length", ~std::uint64_t{0}), HasSubstr("'llama.context_length'"));
  EXPECT_THAT(with("llama.attention.head_count", 1 << 20), HasSubstr("head_count"));
}

TEST(GgufCheck, TellsMetadataThatIsCutFromAFileThatIs) {
  const auto bytes = vocabulary("llama-spm");
  const auto cut = bytes.substr(0, bytes.size() / 2);
  EXPECT_THAT(why(read_gguf(cut, cut.size())), HasSubstr("truncated"));
  EXPECT_THAT(why(read_gguf(cut, bytes.size())), HasSubstr("metadata is longer"));
}

// Real metadata, damaged by seed: whatever comes of it, it comes soon, and what is accepted lies within the
// file.
TEST(GgufCheck, SurvivesMutations) {
  const auto spm = vocabulary("llama-spm");
  Writer small;
  small.header(3, 4).architecture();
  small.text("llama.block_count").put(std::uint32_t{GGUF_TYPE_UINT32}).put(std::uint32_t{1});
  small.text("general.name").put(std::uint32_t{GGUF_TYPE_STRING}).text("tiny");
  small.text("numbers")
      .put(std::uint32_t{GGUF_TYPE_ARRAY})
      .put(std::uint32_t{GGUF_TYPE_UINT16})
      .put(std::uint64_t{2})
      .put(std::uint32_t{7});
  small.tensor("a", {32, 2}, 8, 0).tensor("b", {4, 2}, kF32, 96).tensor("c", {4}, kF32, 128).data(160);
  ASSERT_EQ(why(small.read()), "accepted");

  std::mt19937_64 random(20261120);
  int accepted = 0, refused = 0;
  const auto began = std::chrono::steady_clock::now();
  for (int round = 0; round < 30'000; ++round) {
    // Mostly the small one, whose every byte matters; now and then the large one, mostly near its head.
    std::string bytes = round % 100 == 0 ? spm : small.bytes();
    const auto range = std::min<std::size_t>(bytes.size(), 4'096);
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      const auto at = random() % std::min(range, bytes.size());
      switch (random() % 5) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
          break;
        case 2: {
          const std::uint64_t huge = random() % 2 ? ~std::uint64_t{0} : std::uint64_t{1} << random() % 64;
          if (at + 8 <= bytes.size()) std::memcpy(bytes.data() + at, &huge, 8);
          break;
        }
        case 3:
          bytes.erase(at, 1 + random() % 16);
          break;
        default:
          bytes.insert(at, 1 + random() % 16, static_cast<char>(random()));
          break;
      }
    }
    if (random() % 10 == 0) bytes.resize(random() % (bytes.size() + 1));
    const auto gguf = read_gguf(bytes, bytes.size());
    if (!gguf) {
      ++refused;
      ASSERT_EQ(gguf.error().reason, "invalid_artifact");
      continue;
    }
    ++accepted;
    std::uint64_t sum = 0;
    for (const auto& tensor : gguf->tensors) sum += tensor.bytes;
    ASSERT_LE(sum, bytes.size());
    for (const auto& [key, value] : gguf->values) {
      ASSERT_GE(key.data(), bytes.data());
      ASSERT_LE(key.data() + key.size(), bytes.data() + bytes.size());
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 10'000);
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_LT(took, std::chrono::seconds(60)) << "30,000 files; a single one must never take long";
}

}  // namespace
}  // namespace lm::worker
