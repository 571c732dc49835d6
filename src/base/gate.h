// Gate: counts what is under way, so that its owner can refuse more and wait for the last to leave (after
// Seastar's gate).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <utility>

#include <boost/asio/any_io_executor.hpp>

#include "base/task.h"
#include "base/time.h"

namespace lm {

// One thread. Owned by whoever starts the work; holds may outlive it (they keep its state alive).
class Gate {
  struct State;

 public:
  // A stay inside, from enter() to destruction. Move-only.
  class Hold {
   public:
    Hold() = default;
    Hold(Hold&& other) noexcept : state_(std::move(other.state_)) {}
    Hold& operator=(Hold&& other) noexcept;
    ~Hold();
    explicit operator bool() const { return state_ != nullptr; }

   private:
    friend class Gate;
    explicit Hold(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
  };

  explicit Gate(boost::asio::any_io_executor executor);
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  // nullopt once closed.
  std::optional<Hold> enter();
  // No more enter; those inside may finish. Does not wait.
  void close();
  bool closed() const;
  std::size_t inside() const;

  // Runs `task` inside, on the executor, until it ends. False once closed: then it never begins. An exception
  // that leaves it, other than its own cancellation's, is thrown out of the executor's run().
  bool start(Task<void> task);
  // Ends the waits of everything that start() has begun: those tasks leave by asio's operation_aborted.
  void cancel();

  // True when nobody is inside any more, false when `limit` passed first. Several may wait. Does not close.
  Task<bool> wait_empty(Duration limit);

 private:
  std::shared_ptr<State> state_;
};

}  // namespace lm
