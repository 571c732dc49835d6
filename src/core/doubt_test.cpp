#include "core/doubt.h"

#include <gtest/gtest.h>

namespace lm::core {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

constexpr TimePoint kStart{};

TEST(Doubt, AnEstimateIsBelievedUntilSomebodyIsRefusedForIt) {
  Doubt doubt;
  EXPECT_EQ(doubt.believed(seconds(300), kStart), seconds(300));
  EXPECT_EQ(doubt.believed(seconds(300), kStart + minutes(60)), seconds(300)) << "nobody asked";
  doubt.refused(kStart + minutes(60));
  EXPECT_EQ(doubt.believed(seconds(300), kStart + minutes(60)), seconds(300));
}

TEST(Doubt, ItCountsHalfAfterEveryMinute) {
  Doubt doubt;
  doubt.refused(kStart);
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(1)), seconds(160));
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(5)), seconds(10));
  EXPECT_LT(doubt.believed(seconds(320), kStart + minutes(60 * 24)), std::chrono::milliseconds(1));
}

TEST(Doubt, FurtherRefusalsDoNotBeginItAnew) {
  Doubt doubt;
  doubt.refused(kStart);
  for (int i = 1; i <= 120; ++i) doubt.refused(kStart + seconds(i));
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(2)), seconds(80));
}

TEST(Doubt, WhatBecomesOfTheOneThatIsLetInIsWaitedFor) {
  Doubt doubt;
  doubt.refused(kStart);
  doubt.let_in(kStart + minutes(5));
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(5)), seconds(320)) << "one at a time";
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(10)), seconds(10)) << "it came to nothing";
}

TEST(Doubt, EndsWhereSomebodyIsServed) {
  Doubt doubt;
  doubt.refused(kStart);
  doubt.served();
  EXPECT_EQ(doubt.believed(seconds(320), kStart + minutes(60)), seconds(320));
}

TEST(Doubt, LeavesNothingOfNothing) {
  Doubt doubt;
  doubt.refused(kStart);
  EXPECT_EQ(doubt.believed(Duration(), kStart), Duration());
  EXPECT_EQ(doubt.believed(Duration(), kStart + minutes(3)), Duration());
}

}  // namespace
}  // namespace lm::core
