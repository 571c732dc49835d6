#include "base/gate.h"

#include <exception>
#include <list>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>

namespace lm {

namespace asio = boost::asio;

struct Gate::State {
  explicit State(asio::any_io_executor e) : executor(std::move(e)) {}

  void left() {
    if (--inside != 0) return;
    for (asio::steady_timer* waiter : waiters) waiter->cancel();
  }

  asio::any_io_executor executor;
  std::vector<asio::steady_timer*> waiters;
  std::list<asio::cancellation_signal> started;
  std::size_t inside = 0;
  bool closed = false;
};

Gate::Hold::Hold(std::shared_ptr<State> state) : state_(std::move(state)) {
  ++state_->inside;
}

Gate::Hold& Gate::Hold::operator=(Hold&& other) noexcept {
  Hold old(std::move(*this));
  state_ = std::move(other.state_);
  return *this;
}

Gate::Hold::~Hold() {
  if (state_) state_->left();
}

Gate::Gate(asio::any_io_executor executor) : state_(std::make_shared<State>(std::move(executor))) {}
Gate::~Gate() = default;

std::optional<Gate::Hold> Gate::enter() {
  if (state_->closed) return std::nullopt;
  return Hold(state_);
}

void Gate::close() {
  state_->closed = true;
}
bool Gate::closed() const {
  return state_->closed;
}
std::size_t Gate::inside() const {
  return state_->inside;
}

bool Gate::start(Task<void> task) {
  auto hold = enter();
  if (!hold) return false;
  const auto signal = state_->started.emplace(state_->started.end());
  asio::co_spawn(
      state_->executor, std::move(task),
      asio::bind_cancellation_slot(
          signal->slot(), [signal, state = state_, hold = std::move(*hold)](std::exception_ptr thrown) mutable {
            // Not from inside of its own emission: cancel() may be on the way through the list.
            asio::post(state->executor, [signal, state, hold = std::move(hold)] { state->started.erase(signal); });
            if (!thrown) return;
            try {
              std::rethrow_exception(thrown);
            } catch (const boost::system::system_error& error) {
              if (error.code() != asio::error::operation_aborted) throw;
            }
          }));
  return true;
}

void Gate::cancel() {
  for (asio::cancellation_signal& signal : state_->started) signal.emit(asio::cancellation_type::terminal);
}

Task<bool> Gate::wait_empty(Duration limit) {
  using SteadyPoint = asio::steady_timer::time_point;
  const auto state = state_;
  const auto now = SteadyPoint::clock::now();
  const SteadyPoint end = limit >= SteadyPoint::max() - now ? SteadyPoint::max() : now + limit;

  asio::steady_timer timer(state->executor, end);
  struct Registration {
    Registration(State& s, asio::steady_timer& t) : owner(s), mine(t) { owner.waiters.push_back(&mine); }
    ~Registration() { std::erase(owner.waiters, &mine); }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;
    State& owner;
    asio::steady_timer& mine;
  };
  const Registration registration(*state, timer);
  // Somebody may have entered between the wake-up and its delivery: look again. A cancelled coroutine leaves
  // by exception.
  while (state->inside != 0 && SteadyPoint::clock::now() < end) {
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  co_return state->inside == 0;
}

}  // namespace lm
