// The worker's end of its link to the manager.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "wire/codec.h"

namespace lm::worker {

// Owns nothing but the right to use the descriptor; every thread may send.
class Link {
 public:
  explicit Link(int fd) : fd_(fd) {}

  int fd() const { return fd_; }

  // Blocks while the manager does not read. A link that is gone ends the process: nobody is left to work for.
  void send(const wire::FromWorker& message);

  // Reads until the link ends, and gives every order to `order`. Unreadable lines and unknown kinds are
  // logged and dropped.
  void read(const std::function<void(wire::ToWorker)>& order);

 private:
  int fd_;
  std::mutex sending_;
};

}  // namespace lm::worker
