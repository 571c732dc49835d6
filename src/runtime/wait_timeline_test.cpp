#include "runtime/wait_timeline.h"

#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using std::chrono::milliseconds;

TimePoint at(int ms) {
  return TimePoint() + std::chrono::hours(1) + milliseconds(ms);
}

constexpr InstanceId kOld{1}, kOther{2}, kNew{3};

TEST(WaitTimeline, ALoadWithRoomWaitsForNothing) {
  WaitTimeline timeline;
  timeline.entered(kNew, InstanceState::kQueued, at(0));
  timeline.entered(kNew, InstanceState::kReserved, at(0));
  EXPECT_TRUE(timeline.before_load(kNew).empty());
  EXPECT_TRUE(timeline.before_load(kOld).empty()) << "never heard of";
}

TEST(WaitTimeline, TellsTheDrainAndTheProofOfRoomApart) {
  WaitTimeline timeline;
  timeline.entered(kNew, InstanceState::kQueued, at(10));
  timeline.entered(kOld, InstanceState::kDraining, at(10));
  timeline.entered(kOld, InstanceState::kStopping, at(40));
  timeline.entered(kOld, InstanceState::kReclaiming, at(55));
  timeline.entered(kOld, InstanceState::kAbsent, at(60));
  timeline.entered(kNew, InstanceState::kReserved, at(60));
  const std::vector<Phase> expected = {{"drain", milliseconds(30)}, {"free", milliseconds(20)}};
  EXPECT_EQ(timeline.before_load(kNew), expected);
}

TEST(WaitTimeline, TellsTheSavingOfConversationsApart) {
  WaitTimeline timeline;
  timeline.entered(kNew, InstanceState::kQueued, at(10));
  timeline.entered(kOld, InstanceState::kStopping, at(40));
  timeline.saved(kOld, milliseconds(12));
  timeline.entered(kOld, InstanceState::kAbsent, at(60));
  timeline.entered(kNew, InstanceState::kReserved, at(60));
  const std::vector<Phase> expected = {
      {"drain", milliseconds(30)}, {"save", milliseconds(12)}, {"free", milliseconds(8)}};
  EXPECT_EQ(timeline.before_load(kNew), expected);
}

TEST(WaitTimeline, WhoeverGoesLastIsWaitedFor) {
  WaitTimeline timeline;
  timeline.entered(kOld, InstanceState::kStopping, at(0));  // went before anybody asked
  timeline.entered(kNew, InstanceState::kQueued, at(10));
  timeline.entered(kOther, InstanceState::kStopping, at(15));
  timeline.entered(kOld, InstanceState::kAbsent, at(20));
  timeline.entered(kOther, InstanceState::kAbsent, at(30));
  timeline.entered(kNew, InstanceState::kReserved, at(30));
  const std::vector<Phase> expected = {{"drain", milliseconds(5)}, {"free", milliseconds(15)}};
  EXPECT_EQ(timeline.before_load(kNew), expected);
}

TEST(WaitTimeline, AReleaseOfAnotherTimeIsNotCounted) {
  WaitTimeline timeline;
  timeline.entered(kOld, InstanceState::kStopping, at(0));
  timeline.entered(kOld, InstanceState::kAbsent, at(5));
  timeline.entered(kNew, InstanceState::kQueued, at(10));
  timeline.entered(kNew, InstanceState::kReserved, at(34));
  timeline.entered(kOther, InstanceState::kStopping, at(40));
  timeline.entered(kOther, InstanceState::kAbsent, at(50));
  const std::vector<Phase> expected = {{"wait", milliseconds(24)}};
  EXPECT_EQ(timeline.before_load(kNew), expected);
}

TEST(WaitTimeline, ForgetsTheOldest) {
  WaitTimeline timeline;
  timeline.entered(kOld, InstanceState::kQueued, at(0));
  timeline.entered(kOld, InstanceState::kReserved, at(9));
  for (std::uint64_t i = 100; i < 200; ++i)
    timeline.entered(InstanceId(i), InstanceState::kQueued, at(static_cast<int>(i)));
  EXPECT_TRUE(timeline.before_load(kOld).empty());
}

}  // namespace
}  // namespace lm::runtime
