#include "simulate/figures.h"

#include <gtest/gtest.h>

namespace lm::simulate {
namespace {

using std::chrono::seconds;

Answered answered(int asked, int granted, int ended, Answered::Fate fate = Answered::Fate::kAnswered) {
  return {.fate = fate, .asked = seconds(asked), .granted = seconds(granted), .ended = seconds(ended)};
}

// Four requests, two models; everything can be counted by hand.
TEST(Figures, AreCountedByModelAndInAll) {
  const Machine machine = *with_models(Machine(), {"a", "b"});
  Workload workload{.models = {"a", "b"}, .arrivals = {}, .by_tokens = false};
  for (const auto& [at, model] : {std::pair(0, 0), std::pair(1, 0), std::pair(2, 1), std::pair(4, 1)})
    workload.arrivals.push_back({.at = seconds(at), .model = model, .service = seconds(4)});
  RunRecord done;
  done.answers = {answered(0, 2, 6), answered(1, 2, 7), answered(2, 8, 10),
                  answered(4, 0, 5, Answered::Fate::kRefused)};
  done.models = {{.loads = 1, .preempted = 0, .moved = gib(8)},
                 {.loads = 1, .preempted = 2, .moved = gib(8)}};
  done.ended = seconds(10);
  const Outcome outcome = figures(done, machine, workload);
  const Figures& a = outcome.models[0];
  EXPECT_EQ(a.served, 2U);
  EXPECT_DOUBLE_EQ(a.wait.mean, 1.5);
  EXPECT_DOUBLE_EQ(a.wait.max, 2);
  EXPECT_DOUBLE_EQ(a.total.mean, 6);
  EXPECT_DOUBLE_EQ(a.swaps_per_request, 0.5);
  const Figures& b = outcome.models[1];
  EXPECT_EQ(b.served, 1U);
  EXPECT_EQ(b.refused, 1U);
  EXPECT_DOUBLE_EQ(b.wait.p99, 6);
  EXPECT_EQ(outcome.all.requests, 4U);
  EXPECT_EQ(outcome.all.served, 3U);
  EXPECT_DOUBLE_EQ(outcome.all.served_per_s, 0.3);
  EXPECT_DOUBLE_EQ(outcome.all.wait.p50, 2) << "the middle one of 1, 2 and 6";
  EXPECT_EQ(outcome.all.preempted, 2U);
  EXPECT_EQ(outcome.all.moved, gib(16));
  // Sixteen seconds of answers, four at a time, in four seconds.
  EXPECT_DOUBLE_EQ(offered_load(machine, workload), 1);
}

TEST(Figures, OfNothingAreNothing) {
  const Machine machine = *with_models(Machine(), {"a"});
  const Workload workload{.models = {"a"}, .arrivals = {{.at = {}}, {.at = {}}}, .by_tokens = true};
  RunRecord done;
  done.answers = {{.fate = Answered::Fate::kWaiting}, {}};
  done.models = {{}};
  const Outcome outcome = figures(done, machine, workload);
  EXPECT_EQ(outcome.all.left, 1U);
  EXPECT_EQ(outcome.all.requests, 1U) << "what was not asked before the end is not counted";
  EXPECT_EQ(outcome.all.served_per_s, 0);
  EXPECT_EQ(outcome.all.wait.p99, 0);
  EXPECT_EQ(outcome.all.swaps_per_request, 0);
  EXPECT_EQ(offered_load(machine, workload), 0);
}

}  // namespace
}  // namespace lm::simulate
