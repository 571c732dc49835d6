// One life of a model in memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/time.h"
#include "domain/device.h"
#include "domain/ids.h"

namespace lm {

// The states of the instance machine (core/instance_machine.h has the transitions).
enum class InstanceState : std::uint8_t {
  kAbsent,        // nothing of it exists
  kQueued,        // wanted; waits for its footprint and for room
  kReserved,      // its bytes are charged; waits for a worker
  kStandbyTaken,  // a worker process is its own; the load was ordered
  kLoading,       // the worker reports progress
  kReady,         // serves
  kSleeping,      // loaded, but its weights were given up
  kDraining,      // takes no new request; running answers end
  kStopping,      // the worker was told to end
  kReclaiming,    // the worker is gone; its memory is not yet measured free
  kFailed,        // could not be loaded; remembers why and when to try again
};
inline constexpr int kInstanceStateCount = 11;
std::string_view to_string(InstanceState state);

// What the outside sees.
enum class PublishedState : std::uint8_t { kUnloaded, kLoading, kReady, kUnloading, kFailed };
std::string_view to_string(PublishedState state);
PublishedState published(InstanceState state);

// Why an instance ends: three causes, one path; and what can go wrong.
enum class EndCause : std::uint8_t {
  kNone,
  kExpired,     // idle for keep_alive
  kEvicted,     // policy needed the room
  kSwitched,    // another family was chosen for the devices
  kUnloaded,    // somebody asked
  kUnwanted,    // everybody who wanted the load has left
  kLoadFailed,  // the worker said it cannot
  kCrashed,     // the worker died
  kShutdown,    // the daemon stops
};
std::string_view to_string(EndCause cause);

// The stages of a load in their order.
enum class LoadStage : std::uint8_t {
  kStarting,
  kMetadata,
  kVocabulary,
  kWeights,
  kContext,
  kWarmUp,
  kReady
};
std::string_view to_string(LoadStage stage);
std::optional<LoadStage> load_stage_from_string(std::string_view text);

// A named span of a load, a release or a switch, in order: "drain", "free", "spawn", "vocabulary", "weights",
// "context", …
struct Phase {
  std::string name;
  Duration took{};
  bool operator==(const Phase&) const = default;
};

// How a release ended. Only the first says that the memory is free.
enum class ReleaseOutcome : std::uint8_t {
  kProved,   // measured: nothing of it is left
  kUnknown,  // it could not be measured: nothing is claimed to be free, and nothing to be held
  kClings,   // something is still held, as measured or as its holder says
};
std::string_view to_string(ReleaseOutcome outcome);

// What a release brought back: bytes held by the released instance, per device. `freed` is never more than
// was measured.
struct ReleaseReport {
  static constexpr std::string_view kNotMeasured = "unmeasured";
  struct Row {
    DeviceId device;
    Bytes before;    // held by the instance before it was told to end
    Bytes after;     // still held by it when the wait ended: 0 unless something clings
    Bytes freed;     // before - after
    Bytes expected;  // what the ledger had charged
    Bytes residual;  // = after, by name
    Bytes device_free_before, device_free_after;  // of the whole device, beside it
    bool operator==(const Row&) const = default;
  };
  std::vector<Row> devices;
  Bytes before, after, freed, expected, residual;  // summed
  Bytes reclaimable;                               // mapped file pages it had resident, reported apart
  std::vector<Holder> holders;                     // who holds the residual
  ReleaseOutcome outcome = ReleaseOutcome::kUnknown;
  // "process": per process; "device": by convergence of the device; "none": nothing of it can be measured
  // here; kNotMeasured: the measurement failed.
  std::string method;
  Duration took{};  // from the order to end until proved or given up
  bool proved() const { return outcome == ReleaseOutcome::kProved; }
  bool operator==(const ReleaseReport&) const = default;
};

// Both releases as one: rows of the same device summed, the worse outcome, as long as the longer.
ReleaseReport merge(const ReleaseReport& a, const ReleaseReport& b);

}  // namespace lm
