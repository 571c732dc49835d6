#include "wire/line_buffer.h"

#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace lm::wire {
namespace {

TEST(LineBuffer, CutsLinesHoweverTheyArrive) {
  const std::string text = "one\n\ntwo three\nfour\n";
  const std::vector<std::string> expected = {"one", "", "two three", "four"};
  for (std::size_t chunk = 1; chunk <= text.size(); ++chunk) {
    LineBuffer buffer;
    std::vector<std::string> got;
    for (std::size_t at = 0; at < text.size(); at += chunk) {
      buffer.append(std::string_view(text).substr(at, chunk));
      while (auto line = buffer.next()) got.push_back(*line);
    }
    EXPECT_EQ(got, expected) << "in chunks of " << chunk;
    EXPECT_FALSE(buffer.overflowed());
  }
}

TEST(LineBuffer, KeepsAnUnfinishedLine) {
  LineBuffer buffer;
  buffer.append("half");
  EXPECT_EQ(buffer.next(), std::nullopt);
  buffer.append(" a line");
  EXPECT_EQ(buffer.next(), std::nullopt);
  buffer.append("\nnext");
  EXPECT_EQ(buffer.next(), "half a line");
  EXPECT_EQ(buffer.next(), std::nullopt);
}

TEST(LineBuffer, RefusesALineThatIsTooLong) {
  LineBuffer exact(4);
  exact.append("1234\n");
  EXPECT_EQ(exact.next(), "1234");

  LineBuffer whole(4);
  whole.append("12345\n");
  EXPECT_EQ(whole.next(), std::nullopt);
  EXPECT_TRUE(whole.overflowed());

  LineBuffer endless(4);
  endless.append("ok\n12345");
  EXPECT_EQ(endless.next(), "ok");
  EXPECT_EQ(endless.next(), std::nullopt);
  EXPECT_TRUE(endless.overflowed());
  endless.append("\nafter\n");
  EXPECT_EQ(endless.next(), std::nullopt) << "nothing comes out of a broken stream";
}

TEST(LineBuffer, AgreesWithSplittingTheWhole) {
  std::mt19937 random(42);
  for (int round = 0; round < 200; ++round) {
    std::string text;
    std::vector<std::string> expected(1);
    for (int i = 0; i < 300; ++i) {
      const char c = random() % 5 == 0 ? '\n' : static_cast<char>('a' + random() % 26);
      text += c;
      if (c == '\n') {
        expected.emplace_back();
      } else {
        expected.back() += c;
      }
    }
    expected.pop_back();
    LineBuffer buffer;
    std::vector<std::string> got;
    std::size_t at = 0;
    while (at < text.size()) {
      const std::size_t n = 1 + random() % 17;
      buffer.append(std::string_view(text).substr(at, n));
      at += n;
      if (random() % 2 == 0) {
        while (auto line = buffer.next()) got.push_back(*line);
      }
    }
    while (auto line = buffer.next()) got.push_back(*line);
    ASSERT_EQ(got, expected);
  }
}

}  // namespace
}  // namespace lm::wire
