#include "core/turns.h"

#include <algorithm>

namespace lm::core {

Duration quantum(const Settings::Scheduling& policy, Duration swap_cost) {
  return std::max(policy.quantum_min, from_seconds(policy.quantum_factor * seconds(swap_cost)));
}

std::optional<TimePoint> closable_from(const Turn& turn, const Contention& contention, Duration q) {
  if (!contention.oldest) return std::nullopt;
  if (turn.idle) return turn.began;
  switch (turn.policy) {
    case SchedulingPolicy::kExhaustive:
      return std::nullopt;
    case SchedulingPolicy::kFifo:
      if (turn.oldest_waiting && *turn.oldest_waiting <= *contention.oldest) return std::nullopt;
      return turn.began;
    case SchedulingPolicy::kGated:
      break;
  }
  if (turn.batch_waiting) return std::nullopt;
  TimePoint limit = std::max(turn.began, *contention.oldest) + q;
  if (contention.aged_at) limit = std::min(limit, std::max(turn.began, *contention.aged_at));
  return limit;
}

bool admits(const Turn& turn, const Contention& contention, Duration q, TimePoint arrived, TimePoint now) {
  if (!contention.oldest) return true;
  switch (turn.policy) {
    case SchedulingPolicy::kExhaustive:
      return true;
    case SchedulingPolicy::kFifo:
      return arrived <= *contention.oldest;
    case SchedulingPolicy::kGated:
      break;
  }
  if (arrived <= turn.began) return true;
  TimePoint limit = std::max(turn.began, *contention.oldest) + q;
  if (contention.aged_at) limit = std::min(limit, *contention.aged_at);
  return now < limit;
}

bool goes_before(const Contender& a, const Contender& b, TimePoint now) {
  const bool a_aged = a.aged_at <= now;
  const bool b_aged = b.aged_at <= now;
  if (a_aged != b_aged) return a_aged;
  if (a_aged) return a.head < b.head;
  const auto score = [](const Contender& c) {
    // Half a second for everybody, so that a newcomer's score is not nothing.
    return (c.waiting_seconds + 0.5) * c.weight / std::max(1e-3, seconds(c.swap_cost));
  };
  const double sa = score(a);
  const double sb = score(b);
  return sa != sb ? sa > sb : a.head < b.head;
}

}  // namespace lm::core
