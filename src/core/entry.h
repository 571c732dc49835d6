// One configured model in the arbiter's books, whether it is in memory or not.
#pragma once

#include <optional>
#include <string>

#include "core/instance.h"
#include "domain/model.h"

namespace lm::core {

// Kept unloaded by somebody's word until an explicit load.
struct Hold {
  std::string who;
  std::int64_t unix_ms = 0;
};

// All that is known of one configured model.
struct Entry {
  Model model;
  bool listed = true;          // false: gone from the configuration, its instance is on its way out
  std::optional<bool> pinned;  // by word of an administrator; else the configuration's
  bool pin_rests = false;      // unloaded by somebody's word: the pin sleeps until the model is wanted again
  std::optional<Hold> hold;
  int failures = 0;                  // in a row, for the back-off
  std::optional<Footprint> learned;  // measured, or predicted before; spares the next load the prediction
  Duration load_took = std::chrono::seconds(1);
  std::optional<Instance> instance;

  bool is_pinned() const { return pinned.value_or(model.policy.pinned); }
  InstanceState state() const { return instance ? instance->machine.state() : InstanceState::kAbsent; }
};

}  // namespace lm::core
