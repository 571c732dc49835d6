#include "runtime/wait_timeline.h"

#include <algorithm>
#include <optional>

namespace lm::runtime {
namespace {

constexpr std::size_t kRemembered = 64;
// Shorter is the arbiter's own turn, not a wait.
constexpr Duration kShortest = std::chrono::microseconds(100);

}  // namespace

void WaitTimeline::entered(InstanceId instance, InstanceState state, TimePoint now) {
  Life& life = lives_[instance];
  if (state == InstanceState::kQueued) life.queued = now;
  if (state == InstanceState::kReserved) life.reserved = now;
  if (state == InstanceState::kStopping) life.stopped = now;
  if (state == InstanceState::kAbsent || state == InstanceState::kFailed) life.gone = now;
  // Ids only grow: the first is the oldest.
  if (lives_.size() > kRemembered) lives_.erase(lives_.begin());
}

std::vector<Phase> WaitTimeline::before_load(InstanceId instance) const {
  const auto own = lives_.find(instance);
  if (own == lives_.end() || own->second.reserved - own->second.queued < kShortest) return {};
  const auto [queued, reserved, stopped, gone] = own->second;
  std::optional<TimePoint> last_stop;
  for (const auto& [id, life] : lives_) {
    if (id == instance || life.stopped == TimePoint() || life.gone < queued || life.gone > reserved) continue;
    last_stop = std::max(last_stop.value_or(queued), life.stopped);
  }
  if (!last_stop) return {{"wait", reserved - queued}};
  return {{"drain", *last_stop - queued}, {"free", reserved - *last_stop}};
}

}  // namespace lm::runtime
