// What has happened, as core::Arbiter is told it: past tense, plain values. Events about a worker carry the
// instance and the generation they speak of; the arbiter drops those of an earlier life.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "domain/footprint.h"
#include "domain/instance.h"
#include "domain/model.h"
#include "domain/settings.h"
#include "domain/upstream.h"

namespace lm {

// ---- from clients

// A request wants `model`. It is answered by exactly one of GrantLease and RejectRequest, unless
// RequestCancelled comes first.
struct RequestArrived {
  RequestId request;
  ModelId model;
  PriorityClass priority = PriorityClass::kInteractive;
  std::optional<TimePoint> deadline;  // for the wait, not for the answer; empty: the class's limit
  bool preemptible = false;           // its answer can be broken off and continued later without a seam
  double weight = 1;                  // of its age where models compete, beside its model's
};

// Its client has left. Legal at any time until the lease was released; a granted lease still ends by
// LeaseReleased. One that was preempted waits again and can be cancelled like any that waits.
struct RequestCancelled {
  RequestId request;
};

// The first of a granted request's answer has come, or of this part of it. Told of those that may be
// preempted, at most once for each GrantLease.
struct AnswerBegan {
  RequestId request;
};

// A granted request has ended, however it did. Exactly once for each GrantLease that RequestPreempted does
// not answer.
struct LeaseReleased {
  RequestId request;
};

// Answers PreemptRequests, where the answer had not ended before: the lease is back, and the request waits
// again for its model, in its old place. It is answered by one more GrantLease or RejectRequest.
struct RequestPreempted {
  RequestId request;
};

// A client says how long a model that is in memory is to stay after its last use; negative: for ever. Holds
// for the instance's life or until the next such word. The owner's word about the model and a pin stand above
// it, and Settings::Residency::keep_alive_limit bounds it; an upstream's model is its upstream's.
struct KeepAliveAsked {
  ModelId model;
  Duration keep_alive{};
};

// ---- from administrators; each ends in exactly one FinishJob, unless JobAbandoned comes first

struct LoadWanted {
  JobId job;
  ModelId model;
  std::string who;     // for people: "command line", "discord:1234"
  bool force = false;  // try although the prediction says that it does not fit
};

struct UnloadWanted {
  JobId job;
  std::optional<ModelId> model;  // empty: every local instance
  std::string who;
  bool hold = false;         // and keep them unloaded until an explicit load
  std::int64_t unix_ms = 0;  // when it was asked, for people
};

struct PinChanged {
  JobId job;
  ModelId model;
  bool pinned = false;
};

// Somebody chooses `model` (DESIGN §4, Residency): the family that holds the devices makes room for its
// family, and it is loaded. A remote one is chosen at once and the local models go without linger.
struct SwitchWanted {
  JobId job;
  ModelId model;
  std::string who;
};

// The administrator who waits for the job has left: a load that only it wanted is given up.
struct JobAbandoned {
  JobId job;
};

// ---- from the worker's backend

struct FootprintPredicted {
  InstanceId instance;
  Generation generation;
  std::optional<Footprint> footprint;  // empty: `error` says why
  std::optional<Error> error;
  std::optional<Extent> extent = {};  // where the file was looked at
  std::vector<Experience> known = {};  // measured before, also in earlier lives of the daemon
};

struct WorkerTaken {
  InstanceId instance;
  Generation generation;
  int pid = 0;
};

struct LoadProgressed {
  InstanceId instance;
  Generation generation;
  LoadStage stage = LoadStage::kStarting;
  double fraction = 0;  // of this stage, 0 to 1
};

struct LoadSucceeded {
  InstanceId instance;
  Generation generation;
  DeviceBytes held;  // measured of the process, and the engine's own account where that is more
  Bytes reclaimable;
  int slots = 1;    // answers at the same time
  int context = 0;  // tokens, all slots
  Duration took{};  // from StartLoad
};

struct LoadFailed {
  InstanceId instance;
  Generation generation;
  Error error;
};

// The process is reaped (or was never started). Exactly once for each StartLoad, after which nothing more is
// heard of this generation. `held_before` was measured before it was told to end, or last seen.
struct WorkerExited {
  InstanceId instance;
  Generation generation;
  std::string how;  // "exited with 0", "killed by SIGKILL"
  DeviceBytes held_before;
  Bytes reclaimable_before;
  std::optional<Error> error = {};  // what it said before it died: "device_lost" names a `device`
};

// ---- from an upstream's backend

// Answers EvictUpstream, exactly once: it says that it holds nothing of ours any more, or `error` says why
// not (unreachable, silent, past its deadline). Its word proves nothing: MeasureRelease follows.
struct UpstreamYielded {
  InstanceId instance;
  Generation generation;
  std::optional<Error> error;
};

// Answers LoadAtUpstream, exactly once, within what a load may take there.
struct UpstreamLoaded {
  InstanceId instance;
  Generation generation;
  ModelId model;
  std::optional<Error> error;
};

// What a watched upstream shows, whenever that changes and at least every few seconds while it can be
// reached.
struct UpstreamSeen {
  UpstreamId upstream;
  bool reachable = true;
  bool tells_residents = false;  // false: it cannot say what it has in memory, `residents` is empty
  std::vector<Resident> residents;
  // By its processes on our devices for models, measured, whatever it says; where that cannot be measured,
  // what its residents claim.
  DeviceBytes held;
  bool measured = true;  // false: `held` is its word, on one device at least
  bool runs = true;      // false: its processes are there for its models only, and there are none
};

// ---- from the probes

// Answers MeasureRelease: what can still be measured of the gone worker.
struct ReleaseMeasured {
  InstanceId instance;
  Generation generation;
  DeviceBytes residual;
  std::vector<Holder> holders;
  std::vector<DeviceReading> devices;
  std::string method;    // as the report's; kNotMeasured: the measurement failed, and the rest says nothing
  bool complete = true;  // false: it may have held something that cannot be measured here, now or later
};

struct ProcessUse {
  InstanceId instance;
  DeviceBytes held;
  Bytes reclaimable;
};

struct MemoryMeasured {
  std::vector<DeviceReading> devices;
  std::vector<ProcessUse> instances;
};

// What is kept in memory of conversations whose models are unloaded, all together; whenever that changes.
// MemoryMeasured counts the same bytes as used by others.
struct StatesKept {
  Bytes memory;
};

// ---- from the daemon itself

struct ModelsChanged {
  std::vector<Model> models;
  std::vector<Upstream> upstreams;  // those that `models` name, and those that only have to be watched
};

struct SettingsChanged {
  Settings settings;
  std::vector<Device> devices;
};

// What people had asked for before the last restart.
struct DesiredRestored {
  struct Hold {
    ModelId model;  // empty: every local model
    std::string who;
    std::int64_t unix_ms = 0;
  };
  std::vector<Hold> holds;
  std::vector<ModelId> pins;
  std::uint64_t last_switch = 0;  // the number of the last one that is on record
};

// The time asked for by ArmTimer has come.
struct TimerFired {};

// No new work; everything running drains until the deadline, then is stopped.
struct ShutdownBegan {
  TimePoint deadline;
};

using Event =
    std::variant<RequestArrived, RequestCancelled, AnswerBegan, LeaseReleased, RequestPreempted,
                 KeepAliveAsked, LoadWanted, UnloadWanted, PinChanged, SwitchWanted, JobAbandoned,
                 FootprintPredicted, WorkerTaken, LoadProgressed, LoadSucceeded, LoadFailed, WorkerExited,
                 UpstreamYielded, UpstreamLoaded, UpstreamSeen, ReleaseMeasured, MemoryMeasured, StatesKept,
                 ModelsChanged, SettingsChanged, DesiredRestored, TimerFired, ShutdownBegan>;

std::string_view name_of(const Event& event);

}  // namespace lm
