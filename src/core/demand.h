// What is asked for lately: rates of arrival and answers under way, model by model, as averages that fade.
// Kept by the arbiter, on its time.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/time.h"
#include "domain/ids.h"

namespace lm::core {

class Demand {
 public:
  // What happened so long ago counts by a factor of e less.
  static constexpr Duration kMemory = std::chrono::minutes(10);

  // Times never go back.
  void arrived(const ModelId& model, TimePoint now);
  // `before`: what set_aside() said of it.
  void granted(RequestId request, const ModelId& model, TimePoint now, Duration before = {});
  // Its answer is set aside, and goes on when it is granted again: for so long it has answered.
  Duration set_aside(RequestId request, TimePoint now);
  // Legal for a request that was never granted: nothing happens.
  void released(RequestId request, TimePoint now);
  void forget(const ModelId& model) { tallies_.erase(model); }

  // Requests a second. Rises from 0 over kMemory: a young daemon promises nothing.
  double rate(const ModelId& model, TimePoint now) const;
  // Answers under way at a time, on average; by Little's law the rate times the time that an answer takes.
  double answering(const ModelId& model, TimePoint now) const;
  // How long an answer takes, on average over the last few dozens, without the times when it was set aside;
  // empty: none has ended.
  std::optional<Duration> answer_takes(const ModelId& model) const;

 private:
  struct Tally {
    double arrivals = 0;      // faded, at `at`
    double busy_seconds = 0;  // of ended answers, faded
    TimePoint at;
    std::uint64_t ended = 0;  // answers
    double answer_seconds = 0;
  };
  struct Lease {
    ModelId model;
    TimePoint granted;
    Duration before;  // it answered already, when it was set aside
  };
  static double faded(const Tally& tally, TimePoint now);  // the factor from its time to now
  Tally& at(const ModelId& model, TimePoint now);

  std::map<ModelId, Tally> tallies_;
  std::map<RequestId, Lease> leases_;
};

}  // namespace lm::core
