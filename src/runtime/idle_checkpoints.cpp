#include "runtime/idle_checkpoints.h"

#include <boost/asio/steady_timer.hpp>

namespace lm::runtime {

struct IdleCheckpoints::Timer {
  explicit Timer(const boost::asio::any_io_executor& executor) : timer(executor) {}
  boost::asio::steady_timer timer;
  bool stopped = false;  // cancelling a timer that has fired already comes too late
};

IdleCheckpoints::IdleCheckpoints(Seams seams, Duration idle) : seams_(std::move(seams)), idle_(idle) {}

IdleCheckpoints::~IdleCheckpoints() {
  for (const auto& [instance, timer] : timers_) {
    timer->stopped = true;
    timer->timer.cancel();
  }
}

void IdleCheckpoints::granted(RequestId request, InstanceId instance) {
  requests_.emplace(request, instance);
  if (++busy_[instance] > 1) return;
  ended(instance);
  seams_.cancel(instance);
}

void IdleCheckpoints::released(RequestId request) {
  const auto found = requests_.find(request);
  if (found == requests_.end()) return;
  const InstanceId instance = found->second;
  requests_.erase(found);
  const auto busy = busy_.find(instance);
  if (--busy->second > 0) return;
  busy_.erase(busy);
  if (idle_ <= Duration()) return;
  ended(instance);
  const auto timer = std::make_shared<Timer>(seams_.executor);
  timers_.emplace(instance, timer);
  timer->timer.expires_after(idle_);
  timer->timer.async_wait([this, timer, instance](const boost::system::error_code& cancelled) {
    if (cancelled || timer->stopped) return;
    timers_.erase(instance);
    seams_.begin(instance);
  });
}

void IdleCheckpoints::ended(InstanceId instance) {
  const auto found = timers_.find(instance);
  if (found == timers_.end()) return;
  found->second->stopped = true;
  found->second->timer.cancel();
  timers_.erase(found);
}

}  // namespace lm::runtime
