// Before a worker parses a file that nobody trusts: gives up everything but reading what is open, computing
// and exiting. For the worker program; the daemon does not link it.
#pragma once

#include <chrono>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::os {

struct SandboxLimits {
  Bytes address_space = gib(4);       // malloc and mmap fail beyond; mapped files count
  std::chrono::seconds cpu{10};       // SIGXCPU at its end, SIGKILL a second later
  int open_files = 64;                // a number beyond cannot be opened
  bool may_start_threads = false;     // threads only, never processes
  bool may_open_for_reading = false;  // any path that file permissions allow; false: what is open now is all
  Bytes written;                      // how long a file that is open for writing may become; 0: none can grow
};

// From its return on, in every thread and for ever: no file can be opened for writing, created or grown
// beyond `written`, no socket made, no process started, no program run, no page made executable; asking
// answers EPERM, and what only an attack asks for (execve, ptrace, another architecture's system calls) ends
// the process with SIGSYS. Reading and writing open descriptors, memory within the limits, clocks and exiting
// work. Core dumps are off. Errors: kUnimplemented where the kernel has no seccomp; after any error the
// process is half confined and must exit.
Result<void> enter_inspection_sandbox(const SandboxLimits& limits);

}  // namespace lm::os
