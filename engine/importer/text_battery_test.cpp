#include "text_battery.h"

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::importer {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

void add(Tokenizer& tokenizer, std::string token, TokenKind kind = TokenKind::kNormal) {
  tokenizer.tokens.push_back(std::move(token));
  tokenizer.kinds.push_back(kind);
}

Tokenizer of(const std::string& model) {
  Tokenizer tokenizer;
  tokenizer.model = model;
  return tokenizer;
}

// As UTF-8.
std::string character(unsigned code) {
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

// Bytes as byte-level tokenizers write them: U+0021 to U+007E, U+00A1 to U+00AC, U+00AE to U+00FF as they
// are, and 68 letters from U+0100 on for the others.
Tokenizer byte_level() {
  Tokenizer tokenizer = of("gpt2");
  for (unsigned code = 33; code <= 126; ++code) add(tokenizer, character(code));
  for (unsigned code = 161; code <= 172; ++code) add(tokenizer, character(code));
  for (unsigned code = 174; code < 256 + 68; ++code) add(tokenizer, character(code));
  return tokenizer;
}

TEST(TextBattery, AllBytesCarryEverything) {
  Tokenizer tokenizer = byte_level();
  ASSERT_EQ(tokenizer.tokens.size(), 256u);
  EXPECT_THAT(texts_without_tokens(tokenizer), IsEmpty());
  // 0xF0, with which emoji begin.
  std::erase(tokenizer.tokens, character(0xf0));
  tokenizer.kinds.pop_back();
  EXPECT_THAT(texts_without_tokens(tokenizer), ElementsAre("emoji"));
  // The line feed: U+010A.
  tokenizer = byte_level();
  std::erase(tokenizer.tokens, character(0x10a));
  tokenizer.kinds.pop_back();
  EXPECT_THAT(texts_without_tokens(tokenizer), ElementsAre("spaces"));
}

TEST(TextBattery, SentencePieceFallsBackToBytes) {
  Tokenizer tokenizer = of("llama");
  add(tokenizer, "\u2581");
  for (char c = '!'; c <= '~'; ++c) add(tokenizer, std::string(1, c));
  EXPECT_THAT(texts_without_tokens(tokenizer),
              ElementsAre("Chinese", "Japanese", "Arabic", "emoji", "spaces", "broken UTF-8"));
  for (int byte = 0; byte < 256; ++byte) {
    constexpr const char* kDigits = "0123456789ABCDEF";
    add(tokenizer, std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", TokenKind::kByte);
  }
  EXPECT_THAT(texts_without_tokens(tokenizer), IsEmpty());
}

TEST(TextBattery, AUnigramIsPutTogether) {
  Tokenizer tokenizer = of("t5");
  tokenizer.character_map = "x";
  add(tokenizer, "\u2581");
  for (const char* piece : {"مرح", "با", "\u2581كيف", "حا", "لك"}) add(tokenizer, piece);
  EXPECT_THAT(texts_without_tokens(tokenizer), Not(Contains("Arabic")));
  EXPECT_THAT(texts_without_tokens(tokenizer), Contains("Chinese"));
  EXPECT_THAT(texts_without_tokens(tokenizer), Not(Contains("spaces"))) << "its map knows them";
  tokenizer.tokens.back() = "ل";
  EXPECT_THAT(texts_without_tokens(tokenizer), Contains("Arabic"));
}

TEST(TextBattery, WordPieceNeedsABeginAndContinuations) {
  Tokenizer tokenizer = of("bert");
  for (const char* piece : {"\u2581مرح", "با", "\u2581كيف", "\u2581حالك"}) add(tokenizer, piece);
  EXPECT_THAT(texts_without_tokens(tokenizer), Not(Contains("Arabic")));
  EXPECT_THAT(texts_without_tokens(tokenizer), Contains("Chinese"));
  EXPECT_THAT(texts_without_tokens(tokenizer), Not(Contains("broken UTF-8"))) << "it is cleaned away";
  tokenizer.tokens[1] = "\u2581با";
  EXPECT_THAT(texts_without_tokens(tokenizer), Contains("Arabic"));
}

TEST(TextBattery, WhatNoTextMakesCarriesNothing) {
  Tokenizer tokenizer = byte_level();
  tokenizer.kinds[0] = TokenKind::kControl;  // "!"
  EXPECT_THAT(texts_without_tokens(tokenizer), ElementsAre("English", "code"));
}

}  // namespace
}  // namespace lm::importer
