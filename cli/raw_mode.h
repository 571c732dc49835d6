// A terminal that gives keys as they come.
#pragma once

#include <termios.h>

namespace lm::cli {

// Keys as they come, without echo; Ctrl-C stays a signal. Restores on destruction.
class RawMode {
 public:
  explicit RawMode(int descriptor);
  ~RawMode();
  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;
  // False where the descriptor is no terminal, or cannot be set.
  bool active() const { return active_; }

 private:
  int descriptor_;
  termios before_{};
  bool active_;
};

}  // namespace lm::cli
