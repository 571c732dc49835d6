// Points and spans of the monotonic time that every decision is made on. Types only: reading a clock is base/clock.h.
#pragma once

#include <chrono>

namespace lm {

// Names the time line; it has no now(), so that code which only decides cannot read a clock.
struct MonotonicTimeline {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicTimeline, duration>;
  static constexpr bool is_steady = true;
};

using Duration = MonotonicTimeline::duration;
using TimePoint = MonotonicTimeline::time_point;

// Seconds as a floating-point number, for people and for arithmetic on rates.
constexpr double seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

// The span nearest to `s` seconds.
constexpr Duration from_seconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

}  // namespace lm
