// What a run comes to: the figures that clients and owners go by. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "simulate/run.h"

namespace lm::simulate {

// Seconds; all 0 where there is nothing to measure.
struct Spread {
  double mean = 0, p50 = 0, p99 = 0, max = 0;
};

// What was told of waits at arrival, against what they were; of requests that were told one and answered.
// Means, seconds.
struct Foresight {
  std::uint64_t told = 0;
  double expected = 0, actual = 0;
  double error = 0;  // of |actual - expected|
};

struct Figures {
  std::string name;  // of the model; empty: all together
  bool assumed = false;
  std::uint64_t requests = 0, served = 0, refused = 0, cut = 0;
  std::uint64_t left = 0;  // neither answered nor refused when the run ended
  double served_per_s = 0;
  Spread wait;   // of those answered: from arrival to the begin of the answer
  Spread total;  // of those answered: to its end
  Foresight foresight;
  std::uint64_t loads = 0;
  double swaps_per_request = 0;  // loads for each answered request, the first ones included
  std::uint64_t preempted = 0;
  Bytes moved;
};

struct Outcome {
  Figures all;
  std::vector<Figures> models;  // in the machine's order
  double span_s = 0;            // of the run
  DemandView demand;
};

Outcome figures(const RunRecord& run, const Machine& machine, const Workload& workload);

// The work of the workload as a share of what the machine can answer with one model at a time and no change:
// the sum of all answers' times, each by its model's slots, in the workload's span. 0 of an empty span.
double offered_load(const Machine& machine, const Workload& workload);

}  // namespace lm::simulate
