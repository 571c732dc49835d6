#include "config/split_name.h"

#include <gtest/gtest.h>

namespace lm::config {
namespace {

TEST(SplitName, IsTakenApartAndMadeAgain) {
  const auto name = split_name("Q4/model-Q4-00002-of-00013");
  ASSERT_TRUE(name);
  EXPECT_EQ(*name, (SplitName{.base = "Q4/model-Q4", .index = 2, .count = 13}));
  EXPECT_EQ(name->stem(13), "Q4/model-Q4-00013-of-00013");
}

TEST(SplitName, IsNotSeenWhereThereIsNone) {
  for (const std::string_view stem :
       {"", "model", "-00001-of-00002", "a/-00001-of-00002", "m-00003-of-00002", "m-00000-of-00002",
        "m-00001-of-00000", "m-0000x-of-00002", "m-00001-of-0000", "m-00001_of_00002", "m-00001-of-99999"}) {
    EXPECT_FALSE(split_name(stem)) << stem;
  }
}

}  // namespace
}  // namespace lm::config
