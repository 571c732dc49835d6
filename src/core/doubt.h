// How far an estimate is believed by which requests are refused. While they are, nothing is measured that
// could correct it: one load that was slow for a reason that is gone would refuse everybody for ever. So the
// estimate counts half as much after every minute in which nobody was let in, until somebody is; what becomes
// of that one is waited for before the next. Kept by the arbiter for each model.
#pragma once

#include <optional>

#include "base/time.h"

namespace lm::core {

class Doubt {
 public:
  static constexpr Duration kHalf = std::chrono::minutes(1);

  // What of `estimate` counts against a request that comes at `now`.
  Duration believed(Duration estimate, TimePoint now) const;

  // Times never go back.
  void refused(TimePoint now);
  void let_in(TimePoint now) { since_ = now; }  // in spite of the estimate
  void served() { since_.reset(); }             // what was measured of it is in the estimate now

 private:
  std::optional<TimePoint> since_;
};

}  // namespace lm::core
