// Who asks for what and when: a trace that was recorded, or a synthetic one. Plain values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace lm::simulate {

struct Arrival {
  Duration at{};      // since the beginning, a client's not before; a workload's are in order
  int model = 0;      // of Workload::models
  int context = 0;    // tokens to read
  int generated = 0;  // tokens to write
  Duration
      service{};    // how long the answer takes, where the trace says nothing of tokens (`by_tokens` false)
  int client = -1;  // who asks one after the other: this once what it asked before has ended; -1: nobody such
};

struct Workload {
  std::vector<std::string> models;
  std::vector<Arrival> arrivals;
  int clients =
      0;  // how many ask one after the other: what they ask for follows from how fast they are answered
  bool by_tokens = true;  // the answers' times follow from tokens and the machine's rates

  // From the first to the last arrival.
  Duration span() const;
};

// A CSV with a first line of names; t_s, model, context_tokens and generated_tokens must be among them,
// client may be (an empty one is nobody's), others are skipped. Times are seconds, from any beginning, in
// order. kInvalidArgument, reason "invalid_trace", with file and line: the first thing that is wrong.
Result<Workload> read_trace(std::string_view csv, const std::string& file);

// Poisson arrivals, exponentially long answers.
struct Synthetic {
  double rate = 1;                             // requests a second, all models together
  Duration service = std::chrono::seconds(2);  // mean
  int models = 2;                              // A, B, …; model 27 is called M27
  double skew = 0;                             // the n-th is asked for n^-skew as often as the first
  Duration span = std::chrono::hours(1);
  std::uint64_t seed = 1;
};
Workload synthesize(const Synthetic& wanted);

// The same requests so many times as dense (0.5: half the load).
Workload scaled(Workload workload, double factor);

}  // namespace lm::simulate
