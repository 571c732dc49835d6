// The states of one instance and the only way to change them: a total table of state and trigger, every cell
// written. docs/state_machine.md is generated from the table; a test walks all cells.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "domain/instance.h"

namespace lm::core {

enum class Trigger : std::uint8_t {
  kWanted,                // a request, a job or a pin wants the model
  kRoomReserved,          // its bytes are charged and the load was ordered
  kWorkerTaken,           // a worker process is its own
  kProgressed,            // the worker reports a stage
  kLoadSucceeded,         //
  kLoadFailed,            // the worker said so, or fell silent
  kGivenUp,               // nobody wants it, or somebody asked for it to stop, before it was ready
  kDrainBegan,            // it was chosen to go
  kDrained,               // its last answer has ended, or was cut
  kWorkerExited,          // the process is reaped
  kReleased,              // its memory was measured free, or the wait for that ended
  kReleasedAfterFailure,  // the same, after a failed load or a death
  kRefused,               // admission says that it cannot fit
  kRetryDue,              // the back-off is over
  kSlept,                 // it gave up its weights
  kWoke,                  // and took them again
  kFound,                 // an upstream was seen to hold the devices
};
inline constexpr int kTriggerCount = 17;
std::string_view to_string(Trigger trigger);

// What one cell of the table says.
struct Cell {
  enum Kind : std::uint8_t { kGo, kStay, kIllegal } kind = kIllegal;
  InstanceState next = InstanceState::kAbsent;  // where kGo
};
const Cell& cell(InstanceState state, Trigger trigger);

// Owned by the arbiter, one for each model that is not absent. An illegal trigger is a broken invariant of
// ours: events from outside are checked for instance and generation before they become triggers.
class InstanceMachine {
 public:
  InstanceState state() const { return state_; }
  // Whether the state changed.
  bool apply(Trigger trigger);

 private:
  InstanceState state_ = InstanceState::kAbsent;
};

// Whether the ledger charges an instance in this state: from Reserved to the end of Reclaiming.
constexpr bool is_charged(InstanceState state) {
  return state >= InstanceState::kReserved && state <= InstanceState::kReclaiming;
}

// On its way into memory, and out of it.
constexpr bool is_coming(InstanceState state) {
  return state >= InstanceState::kReserved && state <= InstanceState::kLoading;
}
constexpr bool is_going(InstanceState state) {
  return state >= InstanceState::kDraining && state <= InstanceState::kReclaiming;
}

// docs/state_machine.md.
std::string describe_state_machine();

}  // namespace lm::core
