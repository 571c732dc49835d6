#include "base/checksum.h"

#include <algorithm>
#include <set>
#include <string>

#include <gtest/gtest.h>

namespace lm {
namespace {

std::string content(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(i * 131 + (i >> 7));
  return text;
}

TEST(Checksum, DoesNotDependOnHowTheContentIsCut) {
  const std::string text = content(1000);
  for (const std::size_t piece : {1u, 7u, 63u, 64u, 65u, 999u}) {
    Checksum sum;
    for (std::size_t at = 0; at < text.size(); at += piece) sum.add(text.substr(at, piece));
    EXPECT_EQ(sum.value(), checksum(text)) << piece;
  }
}

TEST(Checksum, EveryBitEveryLengthAndEveryOrderCounts) {
  std::string text = content(300);
  std::set<std::uint64_t> sums = {checksum(text)};
  for (std::size_t i = 0; i < text.size(); ++i) {
    text[i] = static_cast<char>(text[i] ^ 1);
    EXPECT_TRUE(sums.insert(checksum(text)).second) << i;
    text[i] = static_cast<char>(text[i] ^ 1);
  }
  for (std::size_t size = 0; size < 300; ++size)
    EXPECT_TRUE(sums.insert(checksum(std::string(size, '\0'))).second) << size;
  std::string swapped = text;
  std::swap_ranges(swapped.begin(), swapped.begin() + 64, swapped.begin() + 64);
  EXPECT_TRUE(sums.insert(checksum(swapped)).second);
}

// It is written into files: another value makes the old ones foreign.
TEST(Checksum, StaysWhatItWas) {
  EXPECT_EQ(checksum("the quick brown fox"), 0x8a5775a2987447a3);
}

}  // namespace
}  // namespace lm
