#include "tokenizer.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdlib.h>
#include <string>
#include <string_view>
#include <tuple>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sentencepiece.h"

namespace lm::importer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
namespace fs = std::filesystem;

class TokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "tokenizer_test.XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    file("config.json", "{}");
  }
  void TearDown() override { fs::remove_all(folder_); }
  void file(const std::string& name, const std::string& text) { std::ofstream(folder_ / name) << text; }

  Result<Tokenizer> read(std::int64_t vocabulary) {
    LM_TRY(const auto folder, CheckpointFolder::open(folder_));
    return read_tokenizer(folder, json::value(json::object()), vocabulary, notices_);
  }
  std::string refusal(std::int64_t vocabulary = 8) {
    const auto tokenizer = read(vocabulary);
    return tokenizer ? "it was read" : tokenizer.error().message;
  }

  fs::path folder_;
  std::vector<std::string> notices_;
};

constexpr const char* kWordPiece = R"({"added_tokens":[{"id":0,"content":"[PAD]","special":true},
  {"id":1,"content":"[UNK]","special":true},{"id":2,"content":"[CLS]","special":true},{"id":3,"content":"[SEP]","special":true}],
  "normalizer":{"type":"BertNormalizer","clean_text":true,"handle_chinese_chars":true,"strip_accents":null,"lowercase":true},
  "pre_tokenizer":{"type":"BertPreTokenizer"},
  "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"[CLS]","type_id":0}},
     {"Sequence":{"id":"A","type_id":0}},{"SpecialToken":{"id":"[SEP]","type_id":0}}]},
  "model":{"type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":"##",
     "vocab":{"[PAD]":0,"[UNK]":1,"[CLS]":2,"[SEP]":3,"a":4,"##a":5,"##":6}}})";

TEST_F(TokenizerTest, WordPieceMarksTheBeginOfWords) {
  file("tokenizer.json", kWordPiece);
  const auto tokenizer = read(8);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->model, "bert");
  EXPECT_THAT(tokenizer->tokens,
              ElementsAre("[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2581a", "a", "\u2581##", "[PAD7]"));
  EXPECT_EQ(tokenizer->kinds[2], TokenKind::kControl);
  EXPECT_EQ(tokenizer->kinds[4], TokenKind::kNormal);
  EXPECT_EQ(tokenizer->kinds[7], TokenKind::kUnused);
  EXPECT_EQ(tokenizer->bos, 2);
  EXPECT_EQ(tokenizer->separator, 3);
  EXPECT_EQ(tokenizer->unknown, 1);
  EXPECT_EQ(tokenizer->lowercase, true);
  EXPECT_EQ(tokenizer->strip_accents, true) << "as lowercase, where it is not said";
}

TEST_F(TokenizerTest, TokensWithoutAnEmbeddingAreLeftOutAndToldOf) {
  file("tokenizer.json", kWordPiece);
  ASSERT_TRUE(read(5));
  EXPECT_THAT(notices_, ElementsAre(HasSubstr("2 tokens")));
}

constexpr const char* kByteLevel =
    R"({"added_tokens":[{"id":4,"content":"<|end|>","special":false},{"id":5,"content":"<tool>","special":false}],
  "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
  {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
  "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"aab":3},"merges":[["a","b"],"a ab"]}})";

TEST_F(TokenizerTest, ByteLevelKeepsMergesAndKnowsItsWords) {
  file("tokenizer.json", kByteLevel);
  file("tokenizer_config.json", R"({"eos_token":{"content":"<|end|>"},"chat_template":"{{ x }}"})");
  file("generation_config.json", R"({"eos_token_id":[4,5]})");
  const auto tokenizer = read(6);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->model, "gpt2");
  EXPECT_EQ(tokenizer->pre, "qwen2");
  EXPECT_THAT(tokenizer->merges, ElementsAre("a b", "a ab"));
  EXPECT_EQ(tokenizer->kinds[4], TokenKind::kControl) << "it looks special";
  EXPECT_EQ(tokenizer->kinds[5], TokenKind::kUserDefined);
  EXPECT_EQ(tokenizer->eos, 4);
  EXPECT_EQ(tokenizer->eot, 5);
  EXPECT_EQ(tokenizer->add_bos, false);
  EXPECT_EQ(tokenizer->chat_template, "{{ x }}");
}

TEST_F(TokenizerTest, AMergeThatMakesNoTokenIsRefused) {
  for (const auto& [from, to, word] :
       {std::tuple(R"(["a","b"])", R"(["a","c"])", "'c'"), std::tuple(R"("ab":2)", R"("ba":2)", "'ab'")}) {
    std::string text = kByteLevel;
    text.replace(text.find(from), std::string_view(from).size(), to);
    file("tokenizer.json", text);
    EXPECT_THAT(refusal(6), HasSubstr(word));
  }
}

TEST_F(TokenizerTest, AWayToCutWordsThatNobodyKnowsIsRefusedWithIt) {
  std::string text = kByteLevel;
  text.replace(text.find("(?i:"), 4, "(?x:");
  file("tokenizer.json", text);
  EXPECT_THAT(refusal(), HasSubstr("Split((?x:"));
}

TEST_F(TokenizerTest, SentencePieceScoresFollowTheMerges) {
  file("tokenizer.json",
       R"({"added_tokens":[{"id":0,"content":"<unk>","special":true},{"id":1,"content":"<s>","special":true}],
    "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},{"type":"Replace","pattern":{"String":" "},"content":"▁"}]},
    "pre_tokenizer":null,
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}]},
    "model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>",
      "vocab":{"<unk>":0,"<s>":1,"<0x0A>":2,"▁":3,"a":4,"▁a":5,"aa":6},"merges":["▁ a","a a"]}})");
  const auto tokenizer = read(7);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->model, "llama");
  EXPECT_EQ(tokenizer->kinds[0], TokenKind::kUnknown);
  EXPECT_EQ(tokenizer->kinds[2], TokenKind::kByte);
  EXPECT_GT(tokenizer->scores[5], tokenizer->scores[6]);
  EXPECT_EQ(tokenizer->space_first, true);
  EXPECT_EQ(tokenizer->add_bos, true);
  EXPECT_EQ(tokenizer->add_eos, false);
}

TEST_F(TokenizerTest, UnigramBringsItsCharacterMap) {
  file("tokenizer.json",
       R"({"added_tokens":[{"id":0,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true},
    {"id":3,"content":"<unk>","special":true}],
    "normalizer":{"type":"Precompiled","precompiled_charsmap":"AAECAw=="},
    "pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"WhitespaceSplit"},{"type":"Metaspace","replacement":"▁","add_prefix_space":true}]},
    "post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}},
      {"SpecialToken":{"id":"</s>","type_id":0}}]},
    "model":{"type":"Unigram","unk_id":3,"vocab":[["<s>",0],["<pad>",0],["</s>",0],["<unk>",0],["▁a",-1.5]]}})");
  const auto tokenizer = read(5);
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  EXPECT_EQ(tokenizer->model, "t5");
  EXPECT_EQ(tokenizer->character_map, std::string("\0\1\2\3", 4));
  EXPECT_EQ(tokenizer->kinds[3], TokenKind::kUnknown);
  EXPECT_FLOAT_EQ(tokenizer->scores[4], -1.5f);
  EXPECT_EQ(tokenizer->drops_spaces, true);
  EXPECT_EQ(tokenizer->add_bos, true);
  EXPECT_EQ(tokenizer->add_eos, true);
  EXPECT_EQ(tokenizer->eos, 2);
}

TEST_F(TokenizerTest, RefusesWhatContradictsItself) {
  const auto with = [&](std::string_view from, std::string_view to) {
    std::string text = kWordPiece;
    text.replace(text.find(from), from.size(), to);
    file("tokenizer.json", text);
    return refusal();
  };
  EXPECT_THAT(with("\"##a\":5", "\"##a\":4"), HasSubstr("same id"));
  EXPECT_THAT(with("\"##a\":5", "\"\":5"), HasSubstr("0 bytes"));
  EXPECT_THAT(with("\"##a\":5", "\"##a\":-5"), HasSubstr("id -5"));
  EXPECT_THAT(with("\"##a\":5", "\"##a\":5.5"), HasSubstr("no id"));
  EXPECT_THAT(with("\"##a\":5",
                   "\"##\xe2\x96\x81"
                   "a\":5"),
              HasSubstr("told apart"));
  EXPECT_THAT(with("{\"id\":3,\"content\":\"[SEP]\"", "{\"id\":3,\"content\":\"[END]\""),
              HasSubstr("among the added"));
  EXPECT_THAT(with("BertPreTokenizer", "Whitespace"), HasSubstr("BertPreTokenizer"));
  EXPECT_THAT(with("\"WordPiece\"", "\"WordLevel\""), HasSubstr("'WordLevel'"));
  EXPECT_THAT(with("\"id\":\"[SEP]\",\"type_id\"", "\"id\":\"[EOS]\",\"type_id\""),
              HasSubstr("does not have"));
  file("tokenizer.json", std::string(1'000'000, '['));
  EXPECT_THAT(refusal(), HasSubstr("deeper than 16"));
  fs::remove(folder_ / "tokenizer.json");
  EXPECT_THAT(refusal(), HasSubstr("none of tokenizer.json"));
}

std::string varint(std::uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>((value & 0x7f) | 0x80);
  return out + static_cast<char>(value);
}
std::string field(unsigned number, const std::string& bytes) {
  return varint(number << 3 | 2) + varint(bytes.size()) + bytes;
}
std::string field(unsigned number, std::uint64_t value) {
  return varint(number << 3) + varint(value);
}
std::string piece(const std::string& text, float score, std::uint64_t kind) {
  std::string bits(sizeof score, '\0');
  std::memcpy(bits.data(), &score, sizeof score);
  return field(1, field(1, text) + varint(2 << 3 | 5) + bits + field(3, kind));
}

TEST(SentencePiece, ReadsAModelAndRefusesADamagedOne) {
  const auto bytes = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("▁a", -2, 1) + piece("<0x41>", 0, 6) +
                     field(2, field(3, std::uint64_t{2}) + field(42, std::uint64_t{0} - 1)) +
                     field(3, field(3, std::uint64_t{0}));
  const auto pieces = read_sentencepiece(bytes);
  ASSERT_TRUE(pieces) << pieces.error().message;
  ASSERT_EQ(pieces->pieces.size(), 4u);
  EXPECT_EQ(pieces->pieces[2].text, "▁a");
  EXPECT_EQ(pieces->pieces[2].score, -2);
  EXPECT_EQ(pieces->pieces[3].kind, TokenKind::kByte);
  EXPECT_FALSE(pieces->unigram);
  EXPECT_FALSE(pieces->space_first);
  EXPECT_EQ(pieces->eos, -1);
  // Cut anywhere it is damaged or shorter, never read beyond.
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto cut = read_sentencepiece(bytes.substr(0, size));
    if (cut) EXPECT_LE(cut->pieces.size(), 4u);
  }
  EXPECT_FALSE(read_sentencepiece(std::string(100, '\xff')));
  EXPECT_FALSE(read_sentencepiece(field(1, field(3, std::uint64_t{99}))));
  EXPECT_FALSE(read_sentencepiece(varint(1 << 3 | 2) + varint(~std::uint64_t{0}) + "x"));
}

}  // namespace
}  // namespace lm::importer
