// What core::Arbiter wants done: imperative, plain values. runtime carries them out and tells the outcome as
// events.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "domain/decision.h"
#include "domain/event.h"
#include "domain/expected_wait.h"
#include "domain/switch.h"

namespace lm {

// Look up or predict what the model would take with these options. Answer: FootprintPredicted.
struct PredictFootprint {
  InstanceId instance;
  Generation generation;
  ModelId model;
  LoadOptions options;
  bool layers = false;  // layer by layer: what was learned of the whole is not enough
};

// Take a standby worker, or start one, and load. Answers: WorkerTaken, LoadProgressed…, then LoadSucceeded or
// LoadFailed; WorkerExited in the end, whatever happens.
// Of a model of an upstream: have the upstream load it. Answers: LoadProgressed…, then LoadSucceeded or
// LoadFailed; nothing more until EvictUpstream.
struct StartLoad {
  InstanceId instance;
  Generation generation;
  ModelId model;
  LoadOptions options;
  DeviceBytes reservation;
};

// The gate of an instance closed: told so that the outside can say so; nothing has to be done.
struct BeginDrain {
  InstanceId instance;
  ModelId model;
  EndCause cause = EndCause::kNone;
};

// End the requests that the instance still serves (their clients get an error). Each answers LeaseReleased.
struct CutRequests {
  InstanceId instance;
  std::vector<RequestId> requests;
  Error error;
};

// Break off answers that the instance is giving, and keep their clients' streams open: their slots are saved
// with the others' when the worker stops, and they are continued when they are granted again. Each answers
// RequestPreempted, or LeaseReleased where it ended first.
struct PreemptRequests {
  InstanceId instance;
  std::vector<RequestId> requests;
};

// Measure what the worker holds, then end it: politely, and after `grace` by force. Answer: WorkerExited.
struct StopInstance {
  InstanceId instance;
  Generation generation;
  Duration grace{};
};

// Ask the upstream to give up all that it holds on our devices, and watch until it says so or `limit` has
// passed. Answer: UpstreamYielded. Nothing of others is killed; a server that we started by a command is
// ended.
struct EvictUpstream {
  InstanceId instance;
  Generation generation;
  UpstreamId upstream;
  Duration limit{};
};

// Have the upstream load this model of its too: the devices are its own already. Answer: UpstreamLoaded.
struct LoadAtUpstream {
  InstanceId instance;
  Generation generation;
  ModelId model;
};

// Give back at least this much of the host's memory that kept conversations take, those of `spare` last: to
// disk where that is worth it. Answer: StatesKept, as after any change.
struct DropStates {
  Bytes bytes;
  ModelId spare;
};

// Answer: ReleaseMeasured, not before `not_before`.
struct MeasureRelease {
  InstanceId instance;
  Generation generation;
  UpstreamId upstream;  // not empty: of this upstream's processes; else of the worker that is gone
  DeviceBytes expected;
  TimePoint not_before;
};

struct GrantLease {
  RequestId request;
  InstanceId instance;  // 0: an upstream answers that waits for nothing
  Generation generation;
  ModelId model;
};

// What an arrived request has to expect that is not served at once: told once, before it is granted. Whoever
// wants to know more later asks for Arbiter::expected_wait.
struct TellWait {
  RequestId request;
  ExpectedWait wait;
};

struct RejectRequest {
  RequestId request;
  Error error;
};

// What an explicit wish came to. `changed` is false where it was so already.
struct JobResult {
  bool changed = false;
  std::optional<ReleaseReport> release;
  std::optional<Switch> switched;  // of SwitchWanted, where the family changed
  bool operator==(const JobResult&) const = default;
};

struct FinishJob {
  JobId job;
  std::optional<Error> error;  // empty: it succeeded
  JobResult result;
};

// Learn: what this model was measured to hold.
struct RecordFootprint {
  ModelId model;
  LoadOptions options;
  Footprint footprint;
  Duration load_took{};
};

struct RecordDecision {
  Decision decision;
};

// An instance entered a state; the event stream says so.
struct PublishState {
  InstanceId instance;
  ModelId model;
  InstanceState state = InstanceState::kAbsent;
  EndCause cause = EndCause::kNone;
  std::optional<Error> error;
  std::optional<ReleaseReport> release;  // on the way out of Reclaiming
};

// A switch has reached its next stage; kDone, kFailed and kCancelled are the last of it. For the log, the
// event stream and the list of switches.
struct PublishSwitch {
  Switch change;
};

// Keep what must survive a restart.
struct RecordHold {
  ModelId model;  // empty: every local model
  bool held = false;
  std::string who;
  std::int64_t unix_ms = 0;
};
struct RecordPin {
  ModelId model;
  bool pinned = false;
};

// Send TimerFired at `at`; replaces the time asked for before. There is one timer: the arbiter's state knows
// what is due.
struct ArmTimer {
  TimePoint at;
};

// Nothing of ours is left in memory and nobody waits; follows ShutdownBegan once.
struct FinishShutdown {};

using Command = std::variant<PredictFootprint, StartLoad, BeginDrain, CutRequests, PreemptRequests,
                             StopInstance, EvictUpstream, LoadAtUpstream, DropStates, MeasureRelease,
                             GrantLease, TellWait, RejectRequest, FinishJob, RecordFootprint, RecordDecision,
                             PublishState, PublishSwitch, RecordHold, RecordPin, ArmTimer, FinishShutdown>;
using Commands = std::vector<Command>;

std::string_view name_of(const Command& command);

}  // namespace lm
