// One run: a workload on a machine under the arbiter's policy, in virtual time. Pure: the same input gives
// the same output.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "domain/demand.h"
#include "domain/settings.h"
#include "simulate/machine.h"
#include "simulate/workload.h"

namespace lm::simulate {

// What became of one request. Times count from the beginning of the workload.
struct Answered {
  enum class Fate : std::uint8_t {
    kNotAsked,   // the run ended before
    kWaiting,    // not served when the run ended
    kAnswering,  // served, not answered when the run ended
    kAnswered,
    kRefused,  // the arbiter refused it, or it waited for longer than its class may
    kCut,      // its answer was cut off
  };
  Fate fate = Fate::kNotAsked;
  Duration asked{};
  Duration granted{};
  Duration ended{};
  std::optional<Duration> expected;  // wait, as told at its arrival; empty: it was served at once
};

struct ModelTally {
  std::uint64_t loads = 0;
  std::uint64_t preempted = 0;  // answers that were set aside
  Bytes moved;                  // into its device, by loads
};

struct RunRecord {
  std::vector<Answered> answers;   // one for each arrival, in their order
  std::vector<ModelTally> models;  // in the machine's order
  Duration ended{};                // when the last thing happened, or the horizon
  DemandView demand;               // as the gauge stood at the last arrival, or at the horizon
};

// `machine` has every model of the workload (with_models). Ends when everything is answered, or at `horizon`.
RunRecord run(const Machine& machine, const Workload& workload, const Settings& settings,
              std::optional<Duration> horizon = {});

}  // namespace lm::simulate
