#include "runtime/event_hub.h"

#include "base/clock.h"

namespace lm::runtime {

void EventHub::publish(News news) {
  ring_.push_back(std::make_shared<const Happening>(
      Happening{.id = ++last_id_, .at_ms = unix_time_ms(), .news = std::move(news)}));
  if (ring_.size() > kKept) ring_.pop_front();
  if (more_) std::exchange(more_, nullptr)->open();
}

EventHub::Subscription EventHub::subscribe(std::optional<std::uint64_t> after) {
  // A number from another life of the daemon starts over.
  return {*this, after && *after <= last_id_ ? *after : last_id_};
}

Task<std::shared_ptr<const Happening>> EventHub::Subscription::next(Duration limit) {
  if (seen_ >= hub_->last_id_) {
    if (!hub_->more_) hub_->more_ = std::make_shared<Latch>(hub_->executor_);
    const auto more = hub_->more_;
    if (!co_await more->wait(limit)) co_return nullptr;
  }
  const std::uint64_t first = hub_->ring_.front()->id;
  if (seen_ + 1 < first) {
    missed_ = true;
    seen_ = first - 1;
  }
  co_return hub_->ring_[static_cast<std::size_t>(++seen_ - first)];
}

}  // namespace lm::runtime
