#include "runtime/control_loop.h"

#include <algorithm>

#include <boost/asio/steady_timer.hpp>

#include "base/assert.h"

namespace lm::runtime {

struct ControlLoop::Timer {
  explicit Timer(const boost::asio::any_io_executor& executor) : timer(executor) {}
  boost::asio::steady_timer timer;
  ControlLoop* loop = nullptr;
};

ControlLoop::ControlLoop(boost::asio::any_io_executor executor, const Clock& clock, Settings settings)
    : clock_(clock), arbiter_(settings), timer_(std::make_shared<Timer>(executor)) {
  timer_->loop = this;
}

ControlLoop::~ControlLoop() {
  timer_->loop = nullptr;
  timer_->timer.cancel();
}

void ControlLoop::post(Event event) {
  events_.push_back(std::move(event));
  if (stepping_) return;
  stepping_ = true;
  while (!events_.empty()) {
    const Event next = std::move(events_.front());
    events_.pop_front();
    const TimePoint now = clock_.now();
    if (recorder_) recorder_(next, now);
    for (const Command& command : arbiter_.step(next, now)) {
      if (const auto* timer = std::get_if<ArmTimer>(&command)) {
        arm(timer->at);
      } else {
        LM_ASSERT(runner_ != nullptr, "somebody runs the commands");
        runner_(command);
      }
    }
  }
  stepping_ = false;
}

void ControlLoop::arm(TimePoint at) {
  timer_->timer.expires_after(std::clamp<Duration>(at - clock_.now(), Duration(), std::chrono::hours(24)));
  timer_->timer.async_wait([timer = timer_](const boost::system::error_code& error) {
    if (!error && timer->loop != nullptr) timer->loop->post(TimerFired{});
  });
}

}  // namespace lm::runtime
