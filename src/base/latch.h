// Latch: one thing that will happen once, and those who wait for it.
#pragma once

#include <memory>

#include <boost/asio/any_io_executor.hpp>

#include "base/task.h"
#include "base/time.h"

namespace lm {

// One thread. Owned by whoever makes it happen; waits keep its state alive and may outlive it.
class Latch {
 public:
  explicit Latch(boost::asio::any_io_executor executor);

  // Wakes everybody who waits, in the executor's next turn; from then on nobody waits any more. Again:
  // nothing.
  void open();
  bool is_open() const;

  // True once it is open, false where `limit` passed first. A cancelled wait throws asio's operation_aborted.
  Task<bool> wait(Duration limit) const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lm
