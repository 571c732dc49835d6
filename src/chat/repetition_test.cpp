#include "chat/repetition.h"

#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace lm::chat {
namespace {

// What is shown of a text that comes in pieces of so many bytes.
std::string shown(std::string_view text, std::size_t size = 5) {
  RepetitionFilter filter;
  std::string out;
  for (std::size_t at = 0; at < text.size(); at += size) {
    const std::string_view piece = text.substr(at, size);
    out += piece.substr(0, filter.feed(piece));
  }
  return out;
}

std::string times(int count, std::string_view text) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(Repetition, CutsLoopsOfSyllablesPhrasesAndSentences) {
  const std::vector<std::string> loops = {
      times(500, "ha"),
      times(500, "哈"),
      times(200, "the the "),
      times(100, "I love you. "),
      times(100, "我喜歡你。"),
      times(60, "As an AI model I cannot say that. "),
      times(60, "The capital of France is Paris, which is a very large and beautiful city in Europe. "),
      times(60, "今天天氣很好，我們一起去公園散步吧，然後再去吃一頓好吃的晚餐。\n")};
  for (const std::string& loop : loops) {
    const std::string text = "Well, here is what I think about it: " + loop;
    const std::string kept = shown(text);
    EXPECT_LT(kept.size(), 600u) << loop.substr(0, 40);
    EXPECT_TRUE(text.starts_with(kept));
    for (const std::size_t size : {1u, 3u, 64u, 5000u}) EXPECT_EQ(shown(text, size), kept) << size;
  }
}

TEST(Repetition, CutsNoCharacterInTwo) {
  for (std::size_t size = 1; size < 20; ++size) {
    const std::string kept = shown(times(500, "好"), size);
    EXPECT_EQ(kept.size() % 3, 0u) << size;
  }
}

TEST(Repetition, LeavesSongsAlone) {
  const std::string refrain = "Row, row, row the boat,\ngently down the stream,\n";
  std::string song;
  for (int verse = 0; verse < 8; ++verse)
    song += refrain + "merrily number " + std::to_string(verse) + " we go along the shore,\n" + refrain;
  EXPECT_EQ(shown(song), song);
  const std::string clapping =
      "Clap your hands!\nClap your hands!\nClap your hands!\nLa la la la la la la la\n";
  const std::string verses = clapping + "Now once again:\n" + clapping + "And the last time:\n" + clapping;
  EXPECT_EQ(shown(verses), verses);
}

TEST(Repetition, LeavesCodeAndTablesAlone) {
  const std::string code =
      "```c\nstatic const int table[] = {\n" + times(12, "    0, 0, 0, 0, 0, 0,\n") + "};\n```\n";
  EXPECT_EQ(shown(code), code);
  std::string program = "def main():\n";
  for (int i = 0; i < 40; ++i) program += "    print(" + std::to_string(i) + ")\n";
  EXPECT_EQ(shown(program), program);
  std::string table = "| a | b | c | d |\n|---|---|---|---|\n";
  for (int i = 0; i < 30; ++i) table += "| " + std::to_string(i) + " | 0 | 0 | 0 |\n";
  EXPECT_EQ(shown(table), table);
  const std::string rule = times(80, "-") + "\n";
  EXPECT_EQ(shown(rule), rule);
}

TEST(Repetition, LeavesRandomTextAlone) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    std::string text;
    for (int i = 0; i < 400; ++i) text += std::to_string(random() % 30) + " ";
    ASSERT_EQ(shown(text), text) << "seed " << seed;
  }
}

}  // namespace
}  // namespace lm::chat
