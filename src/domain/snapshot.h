// What the arbiter knows at a moment, for lists, health and metrics: a copy that nobody decides by.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "domain/demand.h"
#include "domain/event.h"
#include "domain/expected_wait.h"
#include "domain/switch.h"

namespace lm {

struct InstanceView {
  InstanceId id;
  Generation generation;
  ModelId model;
  InstanceState state = InstanceState::kAbsent;
  EndCause cause = EndCause::kNone;  // why it ends or ended
  std::string why;                   // the state's reason, a sentence
  LoadStage stage = LoadStage::kStarting;
  double fraction = 0;
  DeviceBytes reserved;
  DeviceBytes held;                // last measured
  std::vector<LayerShare> shares;  // where its layers were placed; empty: on the host
  Bytes reclaimable;
  int slots = 0;
  int context = 0;
  int active = 0;                        // leases
  int waiting = 0;                       // requests and jobs
  std::optional<ExpectedWait> expected;  // of a request that came now; where some wait already
  int pid = 0;
  TimePoint since;                      // of the state
  std::optional<TimePoint> expires_at;  // Ready and idle: when keep_alive ends
  std::optional<TimePoint> retry_at;    // Failed
  std::optional<Error> error;           // Failed
};

struct ModelView {
  Model model;
  PublishedState state = PublishedState::kUnloaded;
  bool pinned = false;
  std::string held_by;  // not empty: a hold, and whose
  std::int64_t held_since_ms = 0;
  std::optional<Footprint> footprint;
  std::optional<InstanceView> instance;
  std::optional<Error> error;  // its upstream could not load it lately; with the time until it is tried again
};

struct DeviceView {
  Device device;
  Bytes reserved;   // by our instances
  Bytes used;       // by our instances, measured
  Bytes external;   // by processes that are not ours, measured
  Bytes available;  // what a further reservation may take
};

// An upstream that shares our devices.
struct UpstreamView {
  Upstream upstream;
  bool reachable = true;
  bool runs = true;                      // false: a command of ours that nobody has asked for yet
  bool intrudes = false;                 // it has loaded a model by itself while others have the devices
  std::vector<Resident> residents;       // what it says it has in memory
  std::optional<InstanceView> instance;  // what it holds on our devices, while that is so
  std::optional<Error> stuck;            // it was told to give its memory back and did not
  std::vector<Holder> holders;           // who held what it kept, when that was measured
};

struct Snapshot {
  TimePoint now;
  std::vector<ModelView> models;
  std::vector<UpstreamView> upstreams;
  Family family = Family::kLocal;  // the one that the devices are for
  ModelId selected;                // the last model chosen there; may be empty
  bool remote_selected = false;    // it needs nothing of our devices
  std::optional<Switch> switching;
  std::vector<DeviceView> devices;
  DemandView demand;  // how many models are wanted at the same time, and how many fit
  int waiting = 0;
  std::optional<TimePoint> oldest_waiting;   // arrival of the oldest waiting request
  std::optional<TimePoint> last_transition;  // of any instance
};

}  // namespace lm
