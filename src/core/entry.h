// One configured model in the arbiter's books, whether it is in memory or not.
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "core/doubt.h"
#include "core/instance.h"
#include "domain/model.h"
#include "domain/upstream.h"

namespace lm::core {

// Kept unloaded by somebody's word until an explicit load.
struct Hold {
  std::string who;
  std::int64_t unix_ms = 0;
};

// A load of this model at an upstream that was given up while it ran: it may come to its end there all the
// same.
struct GivenUpLoad {
  ModelId model;
  TimePoint until;  // what is seen of it later was loaded by somebody
};

// All that is known of one configured model; or of what an upstream holds on our devices, which is loaded,
// drained, evicted and measured like a model and is called its seat: requests for any of its models wait
// there.
struct Entry {
  Model model;
  bool listed = true;          // false: gone from the configuration, its instance is on its way out
  std::optional<bool> pinned;  // by word of an administrator; else the configuration's
  bool pin_rests = false;      // unloaded by somebody's word: the pin sleeps until the model is wanted again
  std::optional<Hold> hold;
  int failures = 0;                  // of loads in a row, for the back-off
  std::optional<Error> refused;      // of an upstream's model: its last load failed there
  TimePoint refused_until;           // no request has it tried again before
  int deaths = 0;                    // while it served, without an answer in between
  std::optional<Footprint> learned;  // measured, or predicted before; spares the next load the prediction
  bool learned_for_host = false;     // `learned` is of the host alone
  std::optional<Extent> extent;      // the same layer by layer
  std::vector<Experience> known;     // by numbers of layers
  Duration load_took = std::chrono::seconds(1);
  int slots_last = 1;          // when it was loaded last
  bool loaded_before = false;  // in this daemon's life: its file was read
  Doubt doubt;                 // of the waits that are foreseen for it
  std::optional<Instance> instance;

  // ---- of a seat
  std::optional<Upstream> upstream;  // empty: a model
  std::vector<Resident> residents;   // what it says it has in memory
  bool reachable = false;            // as last seen, and not before
  bool runs = true;
  std::optional<Error> stuck;   // it was told to give its memory back and did not
  std::vector<Holder> holders;  // of what it kept then
  TimePoint stuck_until;        // not asked again before
  std::optional<GivenUpLoad> given_up;
  int intrusions = 0;        // it loaded by itself what was not its turn: so often lately
  TimePoint intruder_until;  // such a one is not sent away before

  bool is_seat() const { return upstream.has_value(); }
  bool serves_generation() const {
    return std::ranges::any_of(residents, [](const Resident& r) { return r.kind == ModelKind::kGeneration; });
  }
  bool is_pinned() const { return !model.remote && pinned.value_or(model.policy.pinned); }
  InstanceState state() const { return instance ? instance->machine.state() : InstanceState::kAbsent; }
};

// The name by which people are told of it: a model's id, an upstream's name.
inline ModelId told_as(const Entry& entry) {
  return entry.upstream ? ModelId(entry.upstream->id.str()) : entry.model.id;
}

}  // namespace lm::core
