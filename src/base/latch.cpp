#include "base/latch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace lm {

struct Latch::State {
  boost::asio::any_io_executor executor;
  bool open = false;
  std::vector<boost::asio::steady_timer*> waiters;
};

Latch::Latch(boost::asio::any_io_executor executor) : state_(std::make_shared<State>()) {
  state_->executor = std::move(executor);
}

void Latch::open() {
  if (std::exchange(state_->open, true)) return;
  for (auto* timer : state_->waiters) timer->cancel();
}

bool Latch::is_open() const {
  return state_->open;
}

Task<bool> Latch::wait(Duration limit) const {
  const auto state = state_;
  if (state->open) co_return true;
  // A far deadline must not overflow the clock.
  const auto most = std::chrono::hours(24 * 365);
  boost::asio::steady_timer timer(state->executor, std::min<Duration>(limit, most));
  state->waiters.push_back(&timer);
  // Leaves the list however the wait ends, a cancellation's exception included.
  const std::shared_ptr<void> leave(nullptr, [&](void*) { std::erase(state->waiters, &timer); });
  co_await timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
  if (!state->open && (co_await boost::asio::this_coro::cancellation_state).cancelled() !=
                          boost::asio::cancellation_type::none) {
    throw boost::system::system_error(boost::asio::error::operation_aborted);
  }
  co_return state->open;
}

}  // namespace lm
