#include "core/kept_states.h"

#include <algorithm>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::core {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

KeptState state(std::uint64_t id, std::int64_t size_mib, std::int64_t last_used) {
  return {.id = id,
          .size = mib(size_mib),
          .in_memory = true,
          .loaded = false,
          .last_used = last_used,
          .reread = std::chrono::seconds(5)};
}

constexpr double kDiskRate = 500e6;

TEST(KeptStates, WhatFitsStays) {
  const std::vector states = {state(1, 100, 1), state(2, 100, 2)};
  const auto moves = keep_within(states, {.memory = mib(200), .disk = Bytes(), .disk_rate = kDiskRate});
  EXPECT_EQ(moves, StateMoves{});
}

TEST(KeptStates, TheLeastRecentlyUsedGoesFirst) {
  const std::vector states = {state(1, 100, 3), state(2, 100, 1), state(3, 100, 2)};
  const auto moves = keep_within(states, {.memory = mib(200), .disk = Bytes(), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(2));
  EXPECT_THAT(moves.spill, IsEmpty());
}

TEST(KeptStates, ACopyOfWhatIsLoadedGoesBeforeAll) {
  std::vector states = {state(1, 100, 1), state(2, 100, 9)};
  states[1].loaded = true;
  const auto moves = keep_within(states, {.memory = mib(100), .disk = Bytes(), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(2));
}

TEST(KeptStates, WhatLeavesMemoryGoesToDiskWhereThatIsQuickerThanReadingThePromptAgain) {
  std::vector states = {state(1, 100, 1), state(2, 100, 2), state(3, 100, 3)};
  states[0].reread = std::chrono::milliseconds(10);  // 100 MiB take 210 ms
  const auto moves = keep_within(states, {.memory = mib(100), .disk = gib(1), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(1));
  EXPECT_THAT(moves.spill, ElementsAre(2));
}

TEST(KeptStates, WhatIsNewerOnDiskIsNotPushedOutByWhatIsOlder) {
  std::vector states = {state(1, 100, 1), state(2, 100, 5), state(3, 100, 9)};
  states[1].in_memory = false;
  const auto moves = keep_within(states, {.memory = mib(100), .disk = mib(100), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(1));
  EXPECT_THAT(moves.spill, IsEmpty());
}

TEST(KeptStates, WhatIsOlderOnDiskMakesRoomForWhatIsNewer) {
  std::vector states = {state(1, 100, 1), state(2, 100, 5), state(3, 100, 9)};
  states[0].in_memory = false;
  const auto moves = keep_within(states, {.memory = mib(100), .disk = mib(100), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(1));
  EXPECT_THAT(moves.spill, ElementsAre(2));
}

TEST(KeptStates, OneThatIsLargerThanTheDiskPushesNobodyOut) {
  std::vector states = {state(1, 300, 9), state(2, 100, 5)};
  states[1].in_memory = false;
  const auto moves = keep_within(states, {.memory = mib(100), .disk = mib(200), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, ElementsAre(1));
  EXPECT_THAT(moves.spill, IsEmpty());
}

TEST(KeptStates, NothingIsAllowedThenNothingStays) {
  std::vector states = {state(1, 10, 1), state(2, 10, 2)};
  states[1].in_memory = false;
  const auto moves = keep_within(states, {.memory = Bytes(), .disk = Bytes(), .disk_rate = kDiskRate});
  EXPECT_THAT(moves.drop, UnorderedElementsAre(1, 2));
}

TEST(KeptStates, BudgetsHoldWhateverIsKept) {
  for (std::uint32_t seed = 0; seed < 2000; ++seed) {
    std::mt19937 dice(seed);
    const auto below = [&](int n) { return static_cast<std::int64_t>(dice() % static_cast<unsigned>(n)); };
    std::vector<KeptState> states;
    for (std::uint64_t id = 1; id <= static_cast<std::uint64_t>(below(12)); ++id) {
      states.push_back({.id = id,
                        .size = mib(below(300)),
                        .in_memory = below(2) == 0,
                        .loaded = below(4) == 0,
                        .last_used = below(6),
                        .reread = std::chrono::milliseconds(below(2000))});
    }
    const StateBudget budget{.memory = mib(below(1000)), .disk = mib(below(1000)), .disk_rate = kDiskRate};
    const StateMoves moves = keep_within(states, budget);
    const std::set<std::uint64_t> drop(moves.drop.begin(), moves.drop.end());
    const std::set<std::uint64_t> spill(moves.spill.begin(), moves.spill.end());
    EXPECT_EQ(drop.size(), moves.drop.size()) << "seed " << seed;
    Bytes memory, disk;
    bool moved_from_memory = false;
    Bytes all_memory, all_disk;
    for (const KeptState& s : states) {
      (s.in_memory ? all_memory : all_disk) += s.size;
      if (spill.contains(s.id)) {
        EXPECT_TRUE(s.in_memory && !drop.contains(s.id)) << "seed " << seed;
        moved_from_memory = true;
        disk += s.size;
      } else if (!drop.contains(s.id)) {
        (s.in_memory ? memory : disk) += s.size;
      } else if (s.in_memory) {
        moved_from_memory = true;
      }
    }
    EXPECT_LE(memory, budget.memory) << "seed " << seed;
    EXPECT_LE(disk, budget.disk) << "seed " << seed;
    EXPECT_TRUE(!moved_from_memory || all_memory > budget.memory) << "moved without need, seed " << seed;
    if (all_memory <= budget.memory && all_disk <= budget.disk) EXPECT_EQ(moves, StateMoves{}) << seed;
    // Who stays in memory is no earlier in the order of going than who left it.
    for (const KeptState& stays : states) {
      if (!stays.in_memory || drop.contains(stays.id) || spill.contains(stays.id)) continue;
      for (const KeptState& left : states) {
        if (!left.in_memory || !(drop.contains(left.id) || spill.contains(left.id))) continue;
        EXPECT_TRUE(!stays.loaded || left.loaded) << "seed " << seed;
        if (stays.loaded == left.loaded) EXPECT_GE(stays.last_used, left.last_used) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace lm::core
