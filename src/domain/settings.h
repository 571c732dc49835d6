// The owner's policy for the whole machine, as core needs it. Defaults are the product's.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/time.h"

namespace lm {

enum class ResidencyMode : std::uint8_t { kExclusive, kFit };

// By which rule models that compete for room take turns.
enum class SchedulingPolicy : std::uint8_t {
  kGated,       // a turn serves its batch, and goes on for a quantum while others wait
  kExhaustive,  // a turn lasts until nobody of its own waits: others may starve
  kFifo,        // strict arrival order over all models: as many changes as that takes
};
std::string_view to_string(SchedulingPolicy policy);

struct Settings {
  struct Residency {
    ResidencyMode mode = ResidencyMode::kExclusive;
    Duration linger = std::chrono::seconds(30);
    // The most generation models in memory at a time; embedding and rerank models never count, so that
    // retrieval cannot start a switch. Empty: as many as fit.
    std::optional<int> max_loaded;
    Duration keep_alive = std::chrono::minutes(5);  // negative: for ever
    // The longest stay that a client's own keep_alive can ask for; negative: for ever.
    Duration keep_alive_limit = Duration(-1);
    bool operator==(const Residency&) const = default;
  } residency;

  struct Scheduling {
    SchedulingPolicy policy = SchedulingPolicy::kGated;
    Duration quantum_min = std::chrono::seconds(2);
    double quantum_factor = 8;  // Q = max(quantum_min, quantum_factor * S)
    Duration age_cap_interactive = std::chrono::seconds(30);
    Duration age_cap_batch = std::chrono::minutes(10);
    Duration wait_interactive =
        std::chrono::minutes(10);  // the longest a request without a deadline of its own waits
    Duration wait_batch = std::chrono::hours(1);
    // G: answers that run on after a turn's end are preempted then, where they can be.
    Duration drain = std::chrono::seconds(1);
    int queue_per_model = 256;
    int queue_total = 1024;
    bool operator==(const Scheduling&) const = default;
  } scheduling;

  struct Limits {
    Duration drain_unload = std::chrono::seconds(30);      // an explicit unload lets answers run for so long
    Duration drain_evict = std::chrono::minutes(10);       // so does an eviction
    Duration stop_grace = std::chrono::milliseconds(300);  // between asking a worker to end and ending it
    Duration release_cap = std::chrono::seconds(5);        // how long a release may take to be measured
    Duration yield = std::chrono::seconds(30);  // how long an upstream may take to give up what it holds
    Duration load_silence = std::chrono::minutes(2);  // a load without progress for so long has failed
    Duration retry_first = std::chrono::seconds(1);   // back-off after a failed load: doubles
    Duration retry_most = std::chrono::minutes(1);
    bool operator==(const Limits&) const = default;
  } limits;

  bool operator==(const Settings&) const = default;
};

}  // namespace lm
