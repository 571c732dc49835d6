// Ctrl-C as something to wait for instead of the program's end.
#pragma once

#include "base/result.h"
#include "os/file.h"

namespace lm::cli {

// One at a time per process: from its construction to its end SIGINT no longer kills, but makes descriptor()
// readable.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // Readable while there is a Ctrl-C that nobody has taken. Owned here.
  int descriptor() const { return event_.get(); }
  // Whether there was one since the last call; never blocks.
  bool take();
  // Waits until `other` (none: -1) can be read, Ctrl-C, or `milliseconds` (-1: without end) have passed. True
  // where it is `other`. Leaves the Ctrl-C to take().
  bool wait_readable(int other, int milliseconds = -1) const;

 private:
  os::UniqueFd event_;
};

}  // namespace lm::cli
