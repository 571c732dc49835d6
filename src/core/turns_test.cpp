#include "core/turns.h"

#include <random>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

using std::chrono::milliseconds;

TimePoint at(double s) {
  return TimePoint(from_seconds(s));
}
Duration span(double s) {
  return from_seconds(s);
}

TEST(Turns, QuantumFollowsTheCostOfAChange) {
  const Settings::Scheduling policy;
  EXPECT_EQ(quantum(policy, span(0.1)), policy.quantum_min);
  EXPECT_EQ(quantum(policy, span(1)), span(8));
  EXPECT_EQ(quantum(policy, Duration()), policy.quantum_min);
}

TEST(Turns, WithoutOthersATurnNeverEnds) {
  const Turn turn{.began = at(0), .batch_waiting = false, .idle = true};
  EXPECT_FALSE(closable_from(turn, {}, span(2)));
  EXPECT_TRUE(admits(turn, {}, span(2), at(1e6), at(1e6)));
}

TEST(Turns, AnIdleOneGivesWayAtOnce) {
  const Turn turn{.began = at(5), .batch_waiting = false, .idle = true};
  EXPECT_EQ(closable_from(turn, {.oldest = at(9), .aged_at = at(39)}, span(2)), at(5));
}

// DESIGN §4: max(turn_began, oldest_other_waiting) + Q.
TEST(Turns, ABusyOneGivesWayAQuantumAfterSomebodyWaits) {
  const Turn turn{.began = at(5), .batch_waiting = false, .idle = false};
  EXPECT_EQ(closable_from(turn, {.oldest = at(9), .aged_at = at(39)}, span(2)), at(11));
  EXPECT_EQ(closable_from(turn, {.oldest = at(1), .aged_at = at(31)}, span(2)), at(7));
}

TEST(Turns, AnAgedHeadElsewhereEndsTheQuantum) {
  const Turn turn{.began = at(5), .batch_waiting = false, .idle = false};
  EXPECT_EQ(closable_from(turn, {.oldest = at(9), .aged_at = at(10)}, span(20)), at(10));
  EXPECT_EQ(closable_from(turn, {.oldest = at(1), .aged_at = at(2)}, span(20)), at(5))
      << "not before it began";
  EXPECT_FALSE(admits(turn, {.oldest = at(9), .aged_at = at(10)}, span(20), at(9.5), at(10)));
  EXPECT_TRUE(admits(turn, {.oldest = at(9), .aged_at = at(10)}, span(20), at(9.5), at(9.9)));
}

// The first trap of DESIGN §4: a quantum or an age cap that may cut a turn before its batch is served
// collapses at 60 to 80 % load.
TEST(Turns, RegressionNothingCutsATurnBeforeItsBatchIsServed) {
  const Turn turn{.began = at(5), .batch_waiting = true, .idle = false};
  const Contention overdue{.oldest = at(-100), .aged_at = at(-70)};
  EXPECT_FALSE(closable_from(turn, overdue, span(2)));
  EXPECT_TRUE(admits(turn, overdue, span(2), at(5), at(1000))) << "its batch is admitted however late";
  EXPECT_TRUE(admits(turn, overdue, span(2), at(-3), at(1000)));
  EXPECT_FALSE(admits(turn, overdue, span(2), at(5.001), at(1000)))
      << "who came later waits for the next turn";
}

// The second trap: swapping whenever a head is overdue livelocks. Two models whose heads are both overdue
// must each serve what waited when their turn began, so every turn makes progress.
TEST(Turns, RegressionTwoOverdueHeadsDoNotLivelock) {
  struct Waiting {
    std::vector<TimePoint> heads;
  };
  Waiting models[2];
  for (int i = 0; i < 20; ++i) models[i % 2].heads.push_back(at(i * 0.1));
  int resident = 0;
  int swaps = 0;
  int served = 0;
  TimePoint now = at(1000);  // everybody is far beyond every cap
  TimePoint began = now;
  while (served < 20) {
    ASSERT_LT(swaps, 5) << "swaps without progress";
    auto& mine = models[resident].heads;
    const auto& others = models[1 - resident].heads;
    const Contention contention =
        others.empty() ? Contention{}
                       : Contention{.oldest = others.front(), .aged_at = others.front() + span(30)};
    const Turn turn{.began = began, .batch_waiting = !mine.empty(), .idle = mine.empty()};
    const auto closable = closable_from(turn, contention, span(4));
    if (closable && *closable <= now) {
      resident = 1 - resident;
      ++swaps;
      now += span(0.5);
      began = now;
      continue;
    }
    ASSERT_FALSE(mine.empty()) << "neither served nor ended";
    ASSERT_TRUE(admits(turn, contention, span(4), mine.front(), now));
    mine.erase(mine.begin());
    ++served;
    now += span(1);
  }
  EXPECT_EQ(swaps, 1);
}

TEST(Turns, AdmissionAndClosingAgree) {
  // Where a turn may be ended nobody new is admitted, and the other way round: else a request would wait for
  // nothing, or an instance would be closed under a request that it just admitted.
  std::mt19937_64 random(3);
  const auto some = [&](double most) { return static_cast<double>(random() % 1000) / 1000 * most; };
  for (int round = 0; round < 10000; ++round) {
    const Turn turn{.began = at(some(50)), .batch_waiting = false, .idle = false};
    const TimePoint oldest = at(some(100));
    const Contention contention{.oldest = oldest, .aged_at = oldest + span(some(40))};
    const Duration q = span(some(20));
    const TimePoint arrived = turn.began + span(0.001 + some(50));
    const TimePoint now = std::max(arrived, oldest) + span(some(50));
    ASSERT_EQ(admits(turn, contention, q, arrived, now), *closable_from(turn, contention, q) > now);
  }
}

TEST(Turns, ServingToExhaustionEndsWithTheQueue) {
  Turn turn{.began = at(5), .batch_waiting = false, .idle = false, .policy = SchedulingPolicy::kExhaustive};
  const Contention overdue{.oldest = at(-100), .aged_at = at(-70)};
  EXPECT_FALSE(closable_from(turn, overdue, span(2)));
  EXPECT_TRUE(admits(turn, overdue, span(2), at(999), at(1000))) << "however long others wait";
  turn.idle = true;
  EXPECT_EQ(closable_from(turn, overdue, span(2)), at(5));
  EXPECT_FALSE(closable_from(turn, {}, span(2)));
}

TEST(Turns, StrictArrivalOrderGoesByWhoCameFirst) {
  Turn turn{.began = at(5),
            .batch_waiting = false,
            .idle = false,
            .policy = SchedulingPolicy::kFifo,
            .oldest_waiting = at(3)};
  const Contention others{.oldest = at(4), .aged_at = at(4)};
  EXPECT_FALSE(closable_from(turn, others, span(100))) << "one of its own came before";
  EXPECT_TRUE(admits(turn, others, span(100), at(3), at(6)));
  EXPECT_FALSE(admits(turn, others, span(100), at(4.1), at(6)));
  turn.oldest_waiting = at(4.1);
  EXPECT_EQ(closable_from(turn, others, span(100)), at(5));
  turn.oldest_waiting.reset();
  EXPECT_EQ(closable_from(turn, others, span(100)), at(5)) << "it only answers";
  EXPECT_TRUE(admits(turn, {}, span(100), at(4.1), at(6)));
}

Contender contender(double head, double waiting, double swap = 1, double weight = 1, double cap = 30) {
  return {.head = at(head),
          .aged_at = at(head + cap),
          .waiting_seconds = waiting,
          .weight = weight,
          .swap_cost = span(swap)};
}

TEST(Turns, TheAgedGoFirstTheOldestOfThemBeforeAll) {
  const TimePoint now = at(100);
  EXPECT_TRUE(goes_before(contender(60, 1), contender(99, 1e6), now));
  EXPECT_FALSE(goes_before(contender(99, 1e6), contender(60, 1), now));
  EXPECT_TRUE(goes_before(contender(50, 1), contender(60, 1e6), now));
}

TEST(Turns, ElseTheMostWaitingForTheCost) {
  const TimePoint now = at(100);
  EXPECT_TRUE(goes_before(contender(90, 30), contender(80, 20), now));
  EXPECT_TRUE(goes_before(contender(90, 20, 1), contender(80, 20, 4), now)) << "cheap to load";
  EXPECT_TRUE(goes_before(contender(90, 20, 1, 3), contender(80, 20), now)) << "weight";
  EXPECT_TRUE(goes_before(contender(80, 20), contender(90, 20), now)) << "ties go to the older head";
}

TEST(Turns, OrderIsStrictAndWeak) {
  std::mt19937_64 random(4);
  const TimePoint now = at(100);
  std::vector<Contender> all;
  for (int i = 0; i < 40; ++i) {
    all.push_back(contender(static_cast<double>(random() % 100), static_cast<double>(random() % 5),
                            static_cast<double>(random() % 3), 1 + static_cast<double>(random() % 2)));
  }
  const auto before = [&](const Contender& a, const Contender& b) { return goes_before(a, b, now); };
  for (const Contender& a : all) {
    ASSERT_FALSE(before(a, a));
    for (const Contender& b : all) {
      ASSERT_FALSE(before(a, b) && before(b, a));
      for (const Contender& c : all) {
        if (before(a, b) && before(b, c)) {
          ASSERT_TRUE(before(a, c));
        }
      }
    }
  }
}

}  // namespace
}  // namespace lm::core
