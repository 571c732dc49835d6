#include "core/instance_machine.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

using enum InstanceState;

constexpr int kStates = kInstanceStateCount;

InstanceState state_at(int i) {
  return static_cast<InstanceState>(i);
}
Trigger trigger_at(int i) {
  return static_cast<Trigger>(i);
}

// What the design says, written down apart from the table: "state trigger -> next" for a change, "state
// trigger" for a word that changes nothing. All else is illegal.
constexpr const char* kOracle = R"(
absent        wanted                 -> queued
absent        found                  -> ready
queued        wanted
queued        room_reserved          -> reserved
queued        given_up               -> absent
queued        refused                -> failed
reserved      wanted
reserved      worker_taken           -> standby_taken
reserved      load_failed            -> stopping
reserved      given_up               -> stopping
reserved      worker_exited          -> reclaiming
standby_taken wanted
standby_taken progressed             -> loading
standby_taken load_succeeded         -> ready
standby_taken load_failed            -> stopping
standby_taken given_up               -> stopping
standby_taken worker_exited          -> reclaiming
loading       wanted
loading       progressed
loading       load_succeeded         -> ready
loading       load_failed            -> stopping
loading       given_up               -> stopping
loading       worker_exited          -> reclaiming
ready         wanted
ready         drain_began            -> draining
ready         worker_exited          -> reclaiming
ready         slept                  -> sleeping
sleeping      wanted
sleeping      drain_began            -> draining
sleeping      worker_exited          -> reclaiming
sleeping      woke                   -> ready
draining      wanted
draining      drain_began
draining      drained                -> stopping
draining      worker_exited          -> reclaiming
stopping      wanted
stopping      worker_taken
stopping      progressed
stopping      load_succeeded
stopping      load_failed
stopping      given_up
stopping      drain_began
stopping      worker_exited          -> reclaiming
reclaiming    wanted
reclaiming    given_up
reclaiming    drain_began
reclaiming    released               -> absent
reclaiming    released_after_failure -> failed
failed        wanted                 -> queued
failed        retry_due              -> absent
)";

// (state, trigger) -> next state, or "" where it stays.
std::map<std::pair<std::string, std::string>, std::string> oracle() {
  std::map<std::pair<std::string, std::string>, std::string> cells;
  std::istringstream lines(kOracle);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string state, trigger, arrow, next;
    if (words >> state >> trigger) {
      words >> arrow >> next;
      cells[{state, trigger}] = next;
    }
  }
  return cells;
}

TEST(InstanceMachine, EveryCellSaysWhatTheDesignSays) {
  const auto expected = oracle();
  int legal = 0;
  for (int s = 0; s < kStates; ++s) {
    for (int t = 0; t < kTriggerCount; ++t) {
      const std::string state(to_string(state_at(s)));
      const std::string trigger(to_string(trigger_at(t)));
      const Cell& c = cell(state_at(s), trigger_at(t));
      const auto it = expected.find({state, trigger});
      if (it == expected.end()) {
        EXPECT_EQ(c.kind, Cell::kIllegal) << state << " " << trigger;
        continue;
      }
      ++legal;
      if (it->second.empty()) {
        EXPECT_EQ(c.kind, Cell::kStay) << state << " " << trigger;
      } else {
        ASSERT_EQ(c.kind, Cell::kGo) << state << " " << trigger;
        EXPECT_EQ(to_string(c.next), it->second) << state << " " << trigger;
        EXPECT_NE(c.next, state_at(s)) << "a change changes";
      }
    }
  }
  EXPECT_EQ(legal, static_cast<int>(expected.size())) << "the oracle names states and triggers that exist";
}

// A machine brought into `target` by legal triggers.
InstanceMachine machine_in(InstanceState target) {
  std::vector<InstanceMachine> reached(1);
  std::set<InstanceState> seen = {kAbsent};
  for (std::size_t i = 0; i < reached.size(); ++i) {
    if (reached[i].state() == target) return reached[i];
    for (int t = 0; t < kTriggerCount; ++t) {
      if (cell(reached[i].state(), trigger_at(t)).kind != Cell::kGo) continue;
      InstanceMachine next = reached[i];
      next.apply(trigger_at(t));
      if (seen.insert(next.state()).second) reached.push_back(next);
    }
  }
  ADD_FAILURE() << to_string(target) << " cannot be reached";
  return {};
}

TEST(InstanceMachine, AppliesTheTable) {
  for (int s = 0; s < kStates; ++s) {
    for (int t = 0; t < kTriggerCount; ++t) {
      const Cell& c = cell(state_at(s), trigger_at(t));
      if (c.kind == Cell::kIllegal) continue;
      InstanceMachine machine = machine_in(state_at(s));
      ASSERT_EQ(machine.state(), state_at(s));
      EXPECT_EQ(machine.apply(trigger_at(t)), c.kind == Cell::kGo);
      EXPECT_EQ(machine.state(), c.kind == Cell::kGo ? c.next : state_at(s));
    }
  }
}

// The states that can be reached from `from`, itself included.
std::set<InstanceState> reachable(InstanceState from) {
  std::set<InstanceState> seen = {from};
  std::vector<InstanceState> open = {from};
  while (!open.empty()) {
    const InstanceState state = open.back();
    open.pop_back();
    for (int t = 0; t < kTriggerCount; ++t) {
      const Cell& c = cell(state, trigger_at(t));
      if (c.kind == Cell::kGo && seen.insert(c.next).second) open.push_back(c.next);
    }
  }
  return seen;
}

TEST(InstanceMachine, EveryStateIsReachedAndNoneIsATrap) {
  EXPECT_EQ(reachable(kAbsent).size(), static_cast<std::size_t>(kStates));
  for (int s = 0; s < kStates; ++s) {
    const auto from = reachable(state_at(s));
    EXPECT_TRUE(from.contains(kAbsent)) << to_string(state_at(s));
    if (is_charged(state_at(s))) {
      EXPECT_TRUE(from.contains(kFailed) || from.contains(kAbsent));
    }
  }
}

TEST(InstanceMachine, ChargesFromReservedToTheEndOfReclaiming) {
  const std::set<InstanceState> uncharged = {kAbsent, kQueued, kFailed};
  for (int s = 0; s < kStates; ++s)
    EXPECT_EQ(is_charged(state_at(s)), !uncharged.contains(state_at(s))) << to_string(state_at(s));
  // The one way to be charged is a reservation, or an upstream that took it without one; the one way out is a
  // release.
  for (int s = 0; s < kStates; ++s) {
    for (int t = 0; t < kTriggerCount; ++t) {
      const Cell& c = cell(state_at(s), trigger_at(t));
      if (c.kind != Cell::kGo) continue;
      if (!is_charged(state_at(s)) && is_charged(c.next)) {
        EXPECT_TRUE(trigger_at(t) == Trigger::kRoomReserved || trigger_at(t) == Trigger::kFound);
      }
      if (is_charged(state_at(s)) && !is_charged(c.next)) {
        EXPECT_EQ(state_at(s), kReclaiming);
      }
    }
  }
}

// Every state is one of: not there, coming, serving, going. Who comes or goes is charged.
TEST(InstanceMachine, ComesServesAndGoes) {
  std::string ways;
  for (int s = 0; s < kStates; ++s) {
    const InstanceState state = state_at(s);
    EXPECT_FALSE(is_coming(state) && is_going(state)) << to_string(state);
    if (is_coming(state) || is_going(state)) {
      EXPECT_TRUE(is_charged(state)) << to_string(state);
    }
    ways += is_coming(state) ? 'c' : is_going(state) ? 'g' : is_charged(state) ? 's' : '-';
  }
  EXPECT_EQ(ways, "--cccssggg-");
  // Nobody who goes comes again before it was away.
  for (int s = 0; s < kStates; ++s) {
    for (int t = 0; t < kTriggerCount; ++t) {
      const Cell& c = cell(state_at(s), trigger_at(t));
      if (c.kind != Cell::kGo || !is_going(state_at(s))) continue;
      EXPECT_TRUE(is_going(c.next) || !is_charged(c.next)) << to_string(state_at(s));
    }
  }
}

TEST(InstanceMachine, AVictimIsNeverRevived) {
  for (const InstanceState ending : {kDraining, kStopping, kReclaiming}) {
    std::set<InstanceState> seen = {ending};
    std::vector<InstanceState> open = {ending};
    while (!open.empty()) {
      const InstanceState state = open.back();
      open.pop_back();
      if (state == kAbsent || state == kFailed) continue;
      EXPECT_NE(state, kReady) << "from " << to_string(ending);
      for (int t = 0; t < kTriggerCount; ++t) {
        const Cell& c = cell(state, trigger_at(t));
        if (c.kind == Cell::kGo && seen.insert(c.next).second) open.push_back(c.next);
      }
    }
  }
}

TEST(InstanceMachine, StaysWhereALateWordComes) {
  for (const Trigger late :
       {Trigger::kWorkerTaken, Trigger::kProgressed, Trigger::kLoadSucceeded, Trigger::kLoadFailed})
    EXPECT_EQ(cell(kStopping, late).kind, Cell::kStay) << to_string(late);
}

TEST(InstanceMachineDeathTest, AnIllegalTriggerEndsTheProcess) {
  const std::pair<InstanceState, Trigger> illegal[] = {
      {kAbsent, Trigger::kLoadSucceeded}, {kAbsent, Trigger::kReleased},
      {kQueued, Trigger::kWorkerExited},  {kReserved, Trigger::kLoadSucceeded},
      {kLoading, Trigger::kRoomReserved}, {kReady, Trigger::kWorkerTaken},
      {kDraining, Trigger::kSlept},       {kReclaiming, Trigger::kWorkerExited},
      {kFailed, Trigger::kReleased},      {kStopping, Trigger::kDrained},
  };
  for (const auto& [state, trigger] : illegal) {
    InstanceMachine machine = machine_in(state);
    EXPECT_DEATH(machine.apply(trigger), "broken invariant") << to_string(state) << " " << to_string(trigger);
  }
}

TEST(InstanceMachine, ItsDocumentIsTheTable) {
  const std::string path = LM_DOCS_DIR "/state_machine.md";
  const char* regenerate = std::getenv("LLM_MANAGER_REGENERATE");
  if (regenerate != nullptr && std::string(regenerate) == "1")
    std::ofstream(path) << describe_state_machine();
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), describe_state_machine())
      << "docs/state_machine.md is out of date: LLM_MANAGER_REGENERATE=1 core_unit_test rewrites it";
}

TEST(InstanceMachine, ItsDocumentNamesEveryStateAndTrigger) {
  const std::string text = describe_state_machine();
  for (int s = 0; s < kStates; ++s)
    EXPECT_NE(text.find("**" + std::string(to_string(state_at(s))) + "**"), std::string::npos);
  for (int t = 0; t < kTriggerCount; ++t)
    EXPECT_NE(text.find(" " + std::string(to_string(trigger_at(t))) + " |"), std::string::npos);
}

}  // namespace
}  // namespace lm::core
