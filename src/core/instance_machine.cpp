#include "core/instance_machine.h"

#include <array>

#include <fmt/format.h>

#include "base/assert.h"

namespace lm::core {
namespace {

using enum InstanceState;

constexpr Cell go(InstanceState next) {
  return {Cell::kGo, next};
}
constexpr Cell stay{Cell::kStay, kAbsent};
constexpr Cell none{Cell::kIllegal, kAbsent};

using Row = std::array<Cell, kTriggerCount>;

// clang-format off
// A late word of a worker that was told to end is no error: it stays. Wanting what is on its way, or on its way out, stays: the
// arbiter's backlog remembers who waits. A victim is never revived (a request that wants it waits for its next life).
constexpr std::array<Row, kInstanceStateCount> kTable = {{
//                 Wanted        RoomReserved    WorkerTaken        Progressed    LoadSucceeded  LoadFailed     GivenUp        DrainBegan     Drained        WorkerExited     Released      ReleasedAfterFailure  Refused       RetryDue      Slept          Woke        Found
/* absent       */ {go(kQueued), none,           none,              none,         none,          none,          none,          none,          none,          none,            none,         none,                 none,         none,         none,          none,       go(kReady)},
/* queued       */ {stay,        go(kReserved),  none,              none,         none,          none,          go(kAbsent),   none,          none,          none,            none,         none,                 go(kFailed),  none,         none,          none,       none},
/* reserved     */ {stay,        none,           go(kStandbyTaken), none,         none,          go(kStopping), go(kStopping), none,          none,          go(kReclaiming), none,         none,                 none,         none,         none,          none,       none},
/* standby_taken*/ {stay,        none,           none,              go(kLoading), go(kReady),    go(kStopping), go(kStopping), none,          none,          go(kReclaiming), none,         none,                 none,         none,         none,          none,       none},
/* loading      */ {stay,        none,           none,              stay,         go(kReady),    go(kStopping), go(kStopping), none,          none,          go(kReclaiming), none,         none,                 none,         none,         none,          none,       none},
/* ready        */ {stay,        none,           none,              none,         none,          none,          none,          go(kDraining), none,          go(kReclaiming), none,         none,                 none,         none,         go(kSleeping), none,       none},
/* sleeping     */ {stay,        none,           none,              none,         none,          none,          none,          go(kDraining), none,          go(kReclaiming), none,         none,                 none,         none,         none,          go(kReady), none},
/* draining     */ {stay,        none,           none,              none,         none,          none,          none,          stay,          go(kStopping), go(kReclaiming), none,         none,                 none,         none,         none,          none,       none},
/* stopping     */ {stay,        none,           stay,              stay,         stay,          stay,          stay,          stay,          none,          go(kReclaiming), none,         none,                 none,         none,         none,          none,       none},
/* reclaiming   */ {stay,        none,           none,              none,         none,          none,          stay,          stay,          none,          none,            go(kAbsent),  go(kFailed),          none,         none,         none,          none,       none},
/* failed       */ {go(kQueued), none,           none,              none,         none,          none,          none,          none,          none,          none,            none,         none,                 none,         go(kAbsent),  none,          none,       none},
}};
// clang-format on

constexpr std::array<std::string_view, kTriggerCount> kTriggers = {
    "wanted",   "room_reserved", "worker_taken", "progressed",    "load_succeeded", "load_failed",
    "given_up", "drain_began",   "drained",      "worker_exited", "released",       "released_after_failure",
    "refused",  "retry_due",     "slept",        "woke",          "found"};

}  // namespace

std::string_view to_string(Trigger trigger) {
  return kTriggers.at(static_cast<std::size_t>(trigger));
}

const Cell& cell(InstanceState state, Trigger trigger) {
  return kTable.at(static_cast<std::size_t>(state)).at(static_cast<std::size_t>(trigger));
}

bool InstanceMachine::apply(Trigger trigger) {
  const Cell& c = cell(state_, trigger);
  LM_ASSERT(c.kind != Cell::kIllegal, "a trigger that the instance's state does not allow");
  if (c.kind == Cell::kStay) return false;
  state_ = c.next;
  return true;
}

std::string describe_state_machine() {
  std::string text =
      "# The instance machine\n\nGenerated from the table in `src/core/instance_machine.cpp` by "
      "`instance_machine_test`; do not edit.\n\n"
      "Memory is charged from `reserved` to the end of `reclaiming`.\n\n```mermaid\nstateDiagram-v2\n  [*] "
      "--> absent\n";
  for (int s = 0; s < kInstanceStateCount; ++s) {
    for (int t = 0; t < kTriggerCount; ++t) {
      const auto state = static_cast<InstanceState>(s);
      const auto trigger = static_cast<Trigger>(t);
      const Cell& c = cell(state, trigger);
      if (c.kind != Cell::kGo) continue;
      text += fmt::format("  {} --> {}: {}\n", to_string(state), to_string(c.next), to_string(trigger));
    }
  }
  text += "```\n\n| state | published as | charged |";
  for (const auto trigger : kTriggers) text += fmt::format(" {} |", trigger);
  text += "\n|---|---|---|";
  for (int t = 0; t < kTriggerCount; ++t) text += "---|";
  text += "\n";
  for (int s = 0; s < kInstanceStateCount; ++s) {
    const auto state = static_cast<InstanceState>(s);
    text += fmt::format("| **{}** | {} | {} |", to_string(state), to_string(published(state)),
                        is_charged(state) ? "yes" : "no");
    for (int t = 0; t < kTriggerCount; ++t) {
      const Cell& c = cell(state, static_cast<Trigger>(t));
      text += c.kind == Cell::kGo     ? fmt::format(" {} |", to_string(c.next))
              : c.kind == Cell::kStay ? " stays |"
                                      : " — |";
    }
    text += "\n";
  }
  text +=
      "\nA dash is a broken invariant: the process ends. Words of an earlier life are dropped before they "
      "reach the table.\n";
  return text;
}

}  // namespace lm::core
