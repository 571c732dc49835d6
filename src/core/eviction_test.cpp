#include "core/eviction.h"

#include <algorithm>
#include <random>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

const DeviceId kGpu("gpu");
const DeviceId kHost("host");

Need need(std::int64_t gpu, std::int64_t host = 0, int places = 0) {
  return {.bytes = {{kGpu, Bytes(gpu)}, {kHost, Bytes(host)}}, .places = places};
}

std::vector<std::size_t> chosen(const Need& shortage, const std::vector<Victim>& victims) {
  return cheapest_set(shortage, victims).value();
}

TEST(Eviction, NothingMissingTakesNobody) {
  EXPECT_TRUE(chosen({}, {{need(5), 1}}).empty());
  EXPECT_TRUE(chosen({}, {}).empty());
}

TEST(Eviction, NobodyIsTakenInVain) {
  EXPECT_FALSE(cheapest_set(need(11), std::vector<Victim>{{need(5), 1}, {need(5), 1}}));
  EXPECT_FALSE(cheapest_set(need(1), std::vector<Victim>{}));
  EXPECT_FALSE(cheapest_set(need(0, 0, 1), std::vector<Victim>{{need(5), 1}})) << "bytes are no place";
}

TEST(Eviction, TakesTheCheapestSetNotTheCheapestOnes) {
  // The cheapest alone is not enough, and the cheapest two cost more than the big one.
  EXPECT_EQ(chosen(need(8), {{need(4), 1}, {need(4), 1.5}, {need(8), 2}}), std::vector<std::size_t>{2});
  EXPECT_EQ(chosen(need(8), {{need(4), 1}, {need(4), 1.5}, {need(8), 3}}), (std::vector<std::size_t>{0, 1}));
}

TEST(Eviction, LeavesWhoeverFreesNothingThatIsMissing) {
  EXPECT_EQ(chosen(need(0, 3), {{need(9), 0.1}, {need(0, 3), 5}}), std::vector<std::size_t>{1});
}

TEST(Eviction, APlaceIsFreedByWhoeverHoldsOne) {
  EXPECT_EQ(chosen(need(0, 0, 1), {{need(9), 0.1}, {need(1, 0, 1), 5}}), std::vector<std::size_t>{1});
}

TEST(Eviction, TiesGoToTheFirst) {
  EXPECT_EQ(chosen(need(3), {{need(3), 1}, {need(3), 1}, {need(3), 1}}), std::vector<std::size_t>{0});
}

TEST(Eviction, CostFallsWithIdleTimeAndGrowsWithReload) {
  using std::chrono::seconds;
  EXPECT_GT(eviction_cost(seconds(1), seconds(1), 0), eviction_cost(seconds(1), seconds(100), 0));
  EXPECT_GT(eviction_cost(seconds(9), seconds(10), 0), eviction_cost(seconds(1), seconds(10), 0));
  EXPECT_GT(eviction_cost(Duration(), std::chrono::hours(1000), 0), 0)
      << "no loss is free: nobody goes for nothing";
  EXPECT_GT(eviction_cost(Duration(-1), Duration(-1), -1), 0);
}

TEST(Eviction, CostGrowsWithTheRate) {
  using std::chrono::seconds;
  EXPECT_GT(eviction_cost(seconds(1), seconds(5), 0.5), eviction_cost(seconds(1), seconds(5), 0.1));
  EXPECT_GT(eviction_cost(seconds(1), seconds(5), 1), eviction_cost(seconds(1), seconds(1), 0.002))
      << "asked for each second until just now, against once, later";
  EXPECT_LT(eviction_cost(seconds(1), seconds(60), 0.5), eviction_cost(seconds(20), seconds(60), 0.1))
      << "a load of twenty seconds, more rarely";
}

double cost_of(const std::vector<std::size_t>& set, const std::vector<Victim>& victims) {
  double sum = 0;
  for (const std::size_t i : set) sum += victims[i].cost;
  return sum;
}

bool covers(const std::vector<std::size_t>& set, const std::vector<Victim>& victims, const Need& shortage) {
  Need freed;
  for (const std::size_t i : set) freed += victims[i].frees;
  return freed.covers(shortage);
}

std::vector<Victim> random_victims(std::mt19937_64& random, std::size_t n) {
  std::vector<Victim> victims;
  for (std::size_t i = 0; i < n; ++i) {
    victims.push_back({need(static_cast<std::int64_t>(random() % 10), static_cast<std::int64_t>(random() % 4),
                            static_cast<int>(random() % 2)),
                       0.1 + static_cast<double>(random() % 100)});
  }
  return victims;
}

// Written without looking: tries every subset by recursion.
double brute_force(const std::vector<Victim>& victims, std::size_t from, const Need& freed,
                   const Need& shortage, double cost) {
  if (freed.covers(shortage)) return cost;
  if (from == victims.size()) return 1e18;
  Need with = freed;
  with += victims[from].frees;
  return std::min(brute_force(victims, from + 1, with, shortage, cost + victims[from].cost),
                  brute_force(victims, from + 1, freed, shortage, cost));
}

TEST(Eviction, IsExactUpToSixteen) {
  std::mt19937_64 random(1);
  int possible = 0;
  for (int round = 0; round < 400; ++round) {
    const auto victims = random_victims(random, random() % 9);
    const Need shortage = need(static_cast<std::int64_t>(random() % 25),
                               static_cast<std::int64_t>(random() % 6), static_cast<int>(random() % 3));
    const auto set = cheapest_set(shortage, victims);
    const double best = brute_force(victims, 0, {}, shortage, 0);
    ASSERT_EQ(set.has_value(), best < 1e18);
    if (!set) continue;
    ++possible;
    ASSERT_TRUE(covers(*set, victims, shortage));
    ASSERT_NEAR(cost_of(*set, victims), best, 1e-9);
  }
  EXPECT_GT(possible, 50);
}

// All subsets by counting, of as many as are tried one by one, on three kinds of room at once: no cheaper set
// covers, and none of its members could stay.
TEST(Eviction, IsTheCheapestOfAllSubsets) {
  std::mt19937_64 random(4);
  int possible = 0;
  for (int round = 0; round < 150; ++round) {
    const auto victims = random_victims(random, 1 + random() % 13);
    const Need shortage = need(static_cast<std::int64_t>(random() % 40),
                               static_cast<std::int64_t>(random() % 10), static_cast<int>(random() % 4));
    double best = 1e18;
    for (std::uint32_t subset = 0; subset < (1U << victims.size()); ++subset) {
      std::vector<std::size_t> members;
      for (std::size_t i = 0; i < victims.size(); ++i) {
        if (subset >> i & 1U) members.push_back(i);
      }
      if (covers(members, victims, shortage)) best = std::min(best, cost_of(members, victims));
    }
    const auto set = cheapest_set(shortage, victims);
    ASSERT_EQ(set.has_value(), best < 1e18);
    if (!set) continue;
    ++possible;
    ASSERT_TRUE(covers(*set, victims, shortage));
    ASSERT_NEAR(cost_of(*set, victims), best, 1e-9);
    for (std::size_t k = 0; k < set->size(); ++k) {
      auto without = *set;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(k));
      ASSERT_FALSE(covers(without, victims, shortage)) << "it just makes room";
    }
  }
  EXPECT_GT(possible, 30);
}

// Beyond sixteen: it covers, nobody in it is needless, and it costs at most everything up to and including
// the dearest member of the cheapest-first prefix that covers.
TEST(Eviction, GreedyCoversWithoutNeedlessMembers) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 100; ++round) {
    const auto victims = random_victims(random, 17 + random() % 20);
    const Need shortage = need(static_cast<std::int64_t>(random() % 60),
                               static_cast<std::int64_t>(random() % 12), static_cast<int>(random() % 4));
    const auto set = cheapest_set(shortage, victims);
    if (!set) continue;
    ASSERT_TRUE(covers(*set, victims, shortage));
    ASSERT_TRUE(std::ranges::is_sorted(*set));
    for (std::size_t k = 0; k < set->size(); ++k) {
      auto without = *set;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(k));
      ASSERT_FALSE(covers(without, victims, shortage)) << "member " << k << " is needless";
    }
    std::vector<std::size_t> order(victims.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(victims[i].cost, i); });
    std::vector<std::size_t> prefix;
    for (const std::size_t i : order) {
      if (covers(prefix, victims, shortage)) break;
      prefix.push_back(i);
    }
    ASSERT_LE(cost_of(*set, victims), cost_of(prefix, victims) + 1e-9);
  }
}

}  // namespace
}  // namespace lm::core
