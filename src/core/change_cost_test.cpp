#include "core/change_cost.h"

#include <random>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

Duration span(double s) {
  return from_seconds(s);
}

TEST(ChangeCost, IsAGuessUntilAnythingIsMeasured) {
  EXPECT_EQ(ChangeCost().value(), ChangeCost::kGuess);
  EXPECT_EQ(ChangeCost().room(), Duration());
}

TEST(ChangeCost, TheFirstMeasurementReplacesTheGuess) {
  ChangeCost by_load;
  by_load.loaded(span(0.3));
  EXPECT_EQ(by_load.value(), span(0.3));
  ChangeCost by_change;
  by_change.changed(span(40), span(0.1), true);
  EXPECT_EQ(by_change.value(), span(40)) << "however far from it";
  EXPECT_EQ(by_change.room(), span(0.1));
}

TEST(ChangeCost, ABetterKindReplacesALesserOne) {
  ChangeCost cost;
  cost.loaded(span(9));
  cost.changed(span(7), span(0.2), true);
  EXPECT_EQ(cost.value(), span(7)) << "a change says more than a load";
  cost.changed(span(1), span(0.2), false);
  EXPECT_EQ(cost.value(), span(1)) << "the file is in memory by now";
}

TEST(ChangeCost, IsNoMeasureOfQuantaUntilAModelCameBack) {
  ChangeCost cost;
  EXPECT_EQ(cost.of_returning(), Duration()) << "a guess";
  cost.loaded(span(9));
  cost.changed(span(7), span(0.2), true);
  EXPECT_EQ(cost.of_returning(), Duration()) << "their files may have come from the disk";
  cost.changed(span(1), span(0.2), false);
  EXPECT_EQ(cost.of_returning(), span(1));
  cost.loaded(span(9));
  EXPECT_EQ(cost.of_returning(), span(1));
}

TEST(ChangeCost, ALesserKindIsLeftOut) {
  ChangeCost cost;
  cost.changed(span(1), span(0.1), false);
  cost.changed(span(60), span(0.1), true);
  cost.loaded(span(60));
  EXPECT_EQ(cost.value(), span(1)) << "another model's first load comes from the disk";
  cost.changed(span(2), span(0.1), false);
  EXPECT_NEAR(seconds(cost.value()), 1.2, 1e-6) << "those of the same kind are averaged";
}

TEST(ChangeCost, OneOutlierMovesItALittle) {
  ChangeCost cost;
  cost.changed(span(1), span(0.1), false);
  cost.changed(span(3600), span(0.1), false);
  EXPECT_LE(seconds(cost.value()), 1.61) << "the machine slept";
  for (int i = 0; i < 20; ++i) cost.changed(span(1), span(0.1), false);
  EXPECT_NEAR(seconds(cost.value()), 1, 0.01);
}

TEST(ChangeCost, AMachineThatHasBecomeSlowIsBelieved) {
  ChangeCost cost;
  cost.changed(Duration(), span(0.1), false);
  for (int i = 0; i < 40; ++i) cost.changed(span(30), span(5), false);
  EXPECT_NEAR(seconds(cost.value()), 30, 0.5) << "from nothing at all, too";
  EXPECT_NEAR(seconds(cost.room()), 5, 0.05);
}

// Whatever comes, it stays between what was measured (or the guess), and follows a steady machine.
TEST(ChangeCost, StaysWithinWhatWasMeasured) {
  std::mt19937_64 random(11);
  for (int round = 0; round < 300; ++round) {
    ChangeCost cost;
    Duration least = Duration::max();
    Duration most{};
    const int samples = 1 + static_cast<int>(random() % 30);
    for (int i = 0; i < samples; ++i) {
      const Duration took = span(static_cast<double>(random() % 1000) / 50);
      least = std::min(least, took);
      most = std::max(most, took);
      switch (random() % 3) {
        case 0:
          cost.loaded(took);
          break;
        default:
          cost.changed(took, took / 2, random() % 2 == 0);
      }
      ASSERT_GE(cost.value(), least);
      ASSERT_LE(cost.value(), most);
      ASSERT_LE(cost.room(), most);
    }
  }
}

TEST(ChangeCost, NothingTakesLongerThanTwoMinutes) {
  ChangeCost cost;
  cost.changed(std::chrono::hours(1), std::chrono::hours(1), false);
  EXPECT_EQ(cost.value(), std::chrono::minutes(2));
  EXPECT_EQ(cost.room(), std::chrono::minutes(2));
}

TEST(ChangeCost, OneOutlierOfTheRoomCountsFourTimesWhatIsBelieved) {
  ChangeCost cost;
  cost.changed(std::chrono::seconds(1), std::chrono::seconds(1), false);
  cost.changed(std::chrono::seconds(1), std::chrono::minutes(1), false);
  EXPECT_LE(cost.room(), from_seconds(0.8 * 1 + 0.2 * 4));
}

}  // namespace
}  // namespace lm::core
