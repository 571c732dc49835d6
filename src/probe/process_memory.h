// What one process has of the host's memory. Reads /proc; a few tens of microseconds.
#pragma once

#include <filesystem>

#include "base/bytes.h"
#include "base/result.h"
#include "os/process.h"

namespace lm::probe {

// The kernel counts a page of shared memory in each process that maps it, and huge pages (transparent ones
// among the anonymous, reserved ones apart) in full. Between Linux 6.2 and 6.16 a count may be off by up to
// 32 pages per processor.
struct ProcessMemory {
  Bytes anonymous;    // private
  Bytes shared;       // shared memory and tmpfs
  Bytes swapped;      // of the two above, now on the swap device
  Bytes huge;         // reserved huge pages
  Bytes reclaimable;  // resident pages of mapped files

  // Comes back only when the process lets go of it.
  Bytes held() const { return anonymous + shared + swapped + huge; }
};

// kNotFound where that process has ended, also where its number belongs to another one by now, and where it
// is a zombie, which has no memory any more.
Result<ProcessMemory> read_process_memory(os::ProcessIdentity process,
                                          const std::filesystem::path& root = "/");

// The proportional set size, in which a page shared by n processes counts a n-th. Walks all page tables of
// the process: tens of milliseconds for a large one, during which its mmap lock is held for reading. Needs
// the right to trace it.
Result<Bytes> read_proportional_size(os::ProcessIdentity process, const std::filesystem::path& root = "/");

}  // namespace lm::probe
