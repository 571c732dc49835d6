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

void WaitTimeline::saved(InstanceId instance, Duration took) {
  lives_[instance].save = took;
}

std::vector<Phase> WaitTimeline::before_load(InstanceId instance) const {
  const auto own = lives_.find(instance);
  if (own == lives_.end() || own->second.reserved - own->second.queued < kShortest) return {};
  const auto [queued, reserved, stopped, gone, saving] = own->second;
  std::optional<TimePoint> last_stop;
  Duration save{};
  for (const auto& [id, life] : lives_) {
    if (id == instance || life.stopped == TimePoint() || life.gone < queued || life.gone > reserved) continue;
    if (life.stopped < last_stop.value_or(queued)) {
      last_stop = last_stop.value_or(queued);
      continue;
    }
    last_stop = life.stopped;
    save = life.save;
  }
  if (!last_stop) return {{"wait", reserved - queued}};
  save = std::min(save, reserved - *last_stop);
  std::vector<Phase> phases = {{"drain", *last_stop - queued}};
  if (save > Duration()) phases.push_back({"save", save});
  phases.push_back({"free", reserved - *last_stop - save});
  return phases;
}

}  // namespace lm::runtime
