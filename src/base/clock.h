// Where the outside of the daemon reads the time. Code in core is given `now` instead.
#pragma once

#include <cstdint>

#include "base/time.h"

namespace lm {

// Not owned by its users; must outlive them. now() never goes back, never blocks.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint now() const = 0;
};

// CLOCK_MONOTONIC.
class SteadyClock final : public Clock {
 public:
  TimePoint now() const override;
};

// A clock that stands still until it is moved: for tests and for the simulator.
class ManualClock final : public Clock {
 public:
  TimePoint now() const override { return now_; }
  void advance(Duration d) { now_ += d; }
  void set(TimePoint t) { now_ = t; }

 private:
  TimePoint now_{};
};

// Wall-clock milliseconds since the Unix epoch, for people and for stored records; never for deciding.
std::int64_t unix_time_ms();

}  // namespace lm
