#include "core/kept_memory.h"

#include <gtest/gtest.h>

namespace lm::core {
namespace {

using namespace std::chrono_literals;

const TimePoint kNow = TimePoint(1h);

TEST(KeptMemory, WhatIsKeptCanBeAskedFor) {
  KeptMemory memory;
  EXPECT_EQ(memory.droppable(kNow), Bytes());
  memory.now_keeps(mib(100));
  EXPECT_EQ(memory.droppable(kNow), mib(100));
  EXPECT_EQ(memory.coming(kNow), Bytes());
  EXPECT_LT(memory.due(kNow), kNow) << "nothing is awaited";
}

TEST(KeptMemory, NothingIsAskedForTwice) {
  KeptMemory memory;
  memory.now_keeps(mib(100));
  memory.ask(mib(30), kNow);
  EXPECT_EQ(memory.coming(kNow), mib(30));
  EXPECT_EQ(memory.droppable(kNow), mib(70));
  EXPECT_GT(memory.due(kNow), kNow);
  memory.ask(mib(20), kNow + 1s);
  EXPECT_EQ(memory.coming(kNow + 1s), mib(50));
  memory.now_keeps(mib(60));
  EXPECT_EQ(memory.coming(kNow + 1s), mib(10));
  EXPECT_EQ(memory.droppable(kNow + 1s), mib(50));
  memory.now_keeps(mib(40));
  EXPECT_EQ(memory.coming(kNow + 1s), Bytes()) << "more than was asked for";
  EXPECT_EQ(memory.droppable(kNow + 1s), mib(40));
  EXPECT_LT(memory.due(kNow + 1s), kNow);
}

TEST(KeptMemory, WhatBecomesMoreBringsNothing) {
  KeptMemory memory;
  memory.now_keeps(mib(100));
  memory.ask(mib(30), kNow);
  memory.now_keeps(mib(130));
  EXPECT_EQ(memory.coming(kNow), mib(30));
  EXPECT_EQ(memory.droppable(kNow), mib(100));
}

TEST(KeptMemory, WhatIsLateIsNotCountedOnAndNotAskedForAtOnce) {
  KeptMemory memory;
  memory.now_keeps(mib(100));
  memory.ask(mib(30), kNow);
  const TimePoint late = memory.due(kNow);
  EXPECT_EQ(memory.coming(late), Bytes());
  EXPECT_EQ(memory.droppable(late), Bytes());
  const TimePoint again = memory.due(late);
  EXPECT_GT(again, late);
  EXPECT_EQ(memory.droppable(again), mib(100));
  memory.ask(mib(10), again);
  EXPECT_EQ(memory.coming(again), mib(10)) << "what was late before is not awaited again";
}

TEST(KeptMemory, ComesAfterAll) {
  KeptMemory memory;
  memory.now_keeps(mib(100));
  memory.ask(mib(30), kNow);
  const TimePoint late = memory.due(kNow);
  memory.now_keeps(mib(70));
  EXPECT_EQ(memory.droppable(late), mib(70));
}

TEST(KeptMemory, WhatTheMeasurementSawIsRemembered) {
  KeptMemory memory;
  memory.now_keeps(mib(100));
  EXPECT_EQ(memory.measured(), Bytes());
  memory.note_measurement();
  memory.now_keeps(mib(150));
  EXPECT_EQ(memory.measured(), mib(100));
}

}  // namespace
}  // namespace lm::core
