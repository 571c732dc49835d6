// How much memory the host has for us: the machine's, or less where a control group says so. Reads /proc and
// /sys; under a millisecond.
#pragma once

#include <filesystem>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::probe {

struct HostMemory {
  Bytes machine_total;      // MemTotal
  Bytes machine_available;  // MemAvailable: what a new process could get, page cache included
  Bytes swap_total;
  Bytes swap_used;

  // The tightest of the machine and every control group from our own up to the root. In a group, pages of
  // files count as free, since the kernel drops them before it fails anybody.
  Bytes capacity;
  Bytes free;
  // The control group's folder that binds each; empty: the machine itself.
  std::string capacity_bound_by;
  std::string free_bound_by;
};

// `root` stands for "/", so that recorded trees can be read. Control groups of both versions, mixed as well;
// a limit is v1's memory.limit_in_bytes, v2's memory.max or memory.high, whichever is lower. Errors: only
// where /proc/meminfo is missing or makes no sense; control groups that cannot be read do not bind.
Result<HostMemory> read_host_memory(const std::filesystem::path& root = "/");

}  // namespace lm::probe
