// One life of a model in the arbiter's books.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "core/instance_machine.h"
#include "core/ledger.h"
#include "core/placement.h"
#include "domain/footprint.h"
#include "domain/ids.h"

namespace lm::core {

// What was selected of a family before a load of another of its models was ordered.
struct Choice {
  ModelId model;
  bool remote = false;
};

// From Queued to Absent. Owned by its model's Entry; only Arbiter::enter moves the machine.
struct Instance {
  InstanceId id;
  Generation generation;
  InstanceMachine machine;
  TimePoint since;  // of the state
  bool force = false;

  std::optional<Footprint> footprint;  // the last that was told
  bool predicting = false;             // another was asked for: it is not admitted before that
  std::optional<Placement> plan;       // the devices that it goes to; empty: the host, or an upstream's
  bool for_host = false;               // the footprint is of the host alone
  bool layers_asked = false;           // it was asked for layer by layer
  LoadOptions options;                 // it was or will be loaded with these
  int places = 0;                      // of max_loaded's
  bool wait_told = false;              // a wait for room was decided and told
  std::optional<Need> lacks;   // waits for the end of others' turns, and for so much; found by every settle
  bool lacks_devices = false;  // waits for the end of another family's turn
  bool adopted = false;        // an upstream loaded it by itself
  ModelId named;               // what was ordered: of an upstream, one of its models
  std::optional<Choice> chosen_over;   // in its family, until it is there
  std::optional<Error> yield_error;    // the upstream did not say that it holds nothing any more
  std::optional<TimePoint> committed;  // the room it waits for is on its way since then
  std::optional<TimePoint> drained;    // those that it waits for answer nobody any more since then
  DeviceBytes reserved;
  DeviceBytes held;
  DeviceBytes most_held;  // at any time
  Bytes host_at_ready;    // held of the host when the load ended
  Bytes reclaimable;
  int slots = 0;
  int context = 0;
  int pid = 0;
  LoadStage stage = LoadStage::kStarting;
  double fraction = 0;
  TimePoint ordered_at;        // StartLoad
  TimePoint last_progress_at;  // of a load: silence is counted from here

  TimePoint turn_began;
  TimePoint last_used;
  std::optional<Duration> keep_alive;  // by a client's word; negative: for ever
  std::set<RequestId> leases;
  bool batch_last = false;  // the last grant was of the batch class
  bool outdated = false;    // its model's files or options changed: goes when it has drained

  EndCause cause = EndCause::kNone;
  std::string why;
  std::optional<Error> failure;
  std::optional<TimePoint> retry_at;  // Failed; empty: not before something changes or somebody insists
  TimePoint drain_deadline;
  bool yields_turn = false;  // Draining because others wait: answers that can be continued are preempted
  TimePoint drain_began;
  TimePoint watchdog_at;  // Stopping: when to ask again
  TimePoint release_deadline;
  TimePoint measure_at;  // Reclaiming: when the next measurement was asked for
  Duration measure_gap{};
  DeviceBytes free_before;  // of the devices, when the worker was told to end
  ReleaseReport report;
  std::set<JobId> unload_jobs;

  bool was_ready() const { return slots > 0; }
};

}  // namespace lm::core
