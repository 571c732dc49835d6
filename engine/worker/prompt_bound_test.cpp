#include "prompt_bound.h"

#include <gtest/gtest.h>

namespace lm::worker {
namespace {

TEST(TextSize, CountsWhatIsInStrings) {
  const TextSize size = text_size(R"({"prompt": "hello", "n": 12345678, "stop": ["a", "bc"]})");
  EXPECT_EQ(size.longest, 6U);
  EXPECT_EQ(size.all, 6U + 5U + 1U + 4U + 1U + 2U);
}

TEST(TextSize, AnEscapeIsOneByte) {
  EXPECT_EQ(text_size(R"(["\"\\\n\u00e9x"])").longest, 5U);
  EXPECT_EQ(text_size(R"(["a\"b", "c"])").all, 4U);
}

TEST(TextSize, EndsWhereTheTextIsCutOff) {
  EXPECT_EQ(text_size("").all, 0U);
  EXPECT_EQ(text_size(R"(")").all, 0U);
  EXPECT_EQ(text_size(R"(["abc)").all, 3U);
  EXPECT_EQ(text_size(R"(["abc\)").all, 4U);
  EXPECT_EQ(text_size(R"(["abc\u)").all, 4U);
}

TEST(PromptBound, IsExceededOnlyWhereTheLongestTokensWouldNotDo) {
  const PromptBound bound{.slot_context = 2048, .longest_token = 16};
  EXPECT_FALSE(bound.is_exceeded_by(0));
  EXPECT_FALSE(bound.is_exceeded_by(std::size_t{2048} * 16));
  EXPECT_FALSE(bound.is_exceeded_by((std::size_t{2049} * 16) - 1));
  EXPECT_TRUE(bound.is_exceeded_by(std::size_t{2049} * 16));
}

TEST(PromptBound, KnowsNothingWithoutAVocabulary) {
  EXPECT_FALSE((PromptBound{.slot_context = 1, .longest_token = 0}).is_exceeded_by(1'000'000));
}

}  // namespace
}  // namespace lm::worker
