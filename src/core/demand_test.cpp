#include "core/demand.h"

#include <cmath>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

TimePoint at(double s) {
  return TimePoint(from_seconds(s));
}
const ModelId kA("a");
const ModelId kB("b");

TEST(Demand, NobodyAskedIsNothing) {
  const Demand demand;
  EXPECT_EQ(demand.rate(kA, at(5)), 0);
  EXPECT_EQ(demand.answering(kA, at(5)), 0);
}

TEST(Demand, ASteadyRateIsFoundAndFadesWhenItEnds) {
  Demand demand;
  double now = 0;
  for (; now < 3600; now += 0.5) demand.arrived(kA, at(now));
  EXPECT_NEAR(demand.rate(kA, at(now)), 2, 0.01) << "six times its memory have passed";
  const double memory = seconds(Demand::kMemory);
  EXPECT_NEAR(demand.rate(kA, at(now + memory)), 2 / std::exp(1.0), 0.01);
  EXPECT_EQ(demand.rate(kB, at(now)), 0);
}

TEST(Demand, AYoungOnePromisesNothing) {
  Demand demand;
  demand.arrived(kA, at(0));
  EXPECT_DOUBLE_EQ(demand.rate(kA, at(0)), 1 / seconds(Demand::kMemory)) << "not one a nanosecond";
}

TEST(Demand, ANewRateReplacesTheOld) {
  Demand demand;
  double now = 0;
  for (; now < 3600; now += 1) demand.arrived(kA, at(now));
  for (; now < 7200; now += 10) demand.arrived(kA, at(now));
  EXPECT_NEAR(demand.rate(kA, at(now)), 0.1, 0.01);
}

// Little's law: the answers under way are the rate times their length.
TEST(Demand, AnswersUnderWayFollowLittle) {
  Demand demand;
  std::uint64_t id = 0;
  for (int now = 0; now < 7200; now += 2) {  // one each two seconds, four seconds long
    demand.arrived(kA, at(now));
    demand.granted(RequestId(++id), kA, at(now));
    if (id > 2) demand.released(RequestId(id - 2), at(now));
  }
  EXPECT_NEAR(demand.rate(kA, at(7200)), 0.5, 0.01);
  EXPECT_NEAR(demand.answering(kA, at(7200)), 2, 0.05);
}

TEST(Demand, WhoWasNeverGrantedOrIsForgottenCountsNothing) {
  Demand demand;
  demand.released(RequestId(7), at(1));
  demand.arrived(kA, at(1));
  demand.granted(RequestId(1), kA, at(1));
  demand.forget(kA);
  demand.released(RequestId(1), at(100));
  EXPECT_EQ(demand.rate(kA, at(100)), 0);
  EXPECT_EQ(demand.answering(kA, at(100)), 0);
}

TEST(Demand, AnAnswersLengthIsAMeanThatFollows) {
  Demand demand;
  EXPECT_FALSE(demand.answer_takes(kA));
  demand.arrived(kA, at(0));
  EXPECT_FALSE(demand.answer_takes(kA)) << "none has ended";
  double now = 0;
  const auto answer = [&](std::uint64_t id, double takes) {
    demand.granted(RequestId(id), kA, at(now));
    demand.released(RequestId(id), at(now += takes));
  };
  answer(1, 4);
  EXPECT_NEAR(seconds(*demand.answer_takes(kA)), 4, 1e-6);
  answer(2, 2);
  EXPECT_NEAR(seconds(*demand.answer_takes(kA)), 3, 1e-6);
  for (std::uint64_t id = 3; id < 400; ++id) answer(id, 10);
  EXPECT_NEAR(seconds(*demand.answer_takes(kA)), 10, 0.01);
  EXPECT_FALSE(demand.answer_takes(kB));
}

TEST(Demand, TheTimeAsideIsNoAnswering) {
  Demand demand;
  demand.arrived(kA, at(0));
  demand.granted(RequestId(1), kA, at(0));
  const Duration first = demand.set_aside(RequestId(1), at(3));
  EXPECT_EQ(first, from_seconds(3));
  EXPECT_EQ(demand.set_aside(RequestId(1), at(4)), Duration()) << "it answers no more";
  demand.granted(RequestId(1), kA, at(60), first);
  const Duration both = demand.set_aside(RequestId(1), at(61));
  EXPECT_EQ(both, from_seconds(4));
  demand.granted(RequestId(1), kA, at(100), both);
  demand.released(RequestId(1), at(102));
  EXPECT_NEAR(seconds(*demand.answer_takes(kA)), 6, 1e-6);
}

}  // namespace
}  // namespace lm::core
