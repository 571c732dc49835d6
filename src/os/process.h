// A process, named so that a reused pid is never mistaken for it: its number and the moment it started. Reads
// /proc; never blocks on a device.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/result.h"
#include "os/file.h"

namespace lm::os {

// Two are equal only where they name the same process of the same boot.
struct ProcessIdentity {
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat: clock ticks after boot

  bool operator==(const ProcessIdentity&) const = default;
};

// What /proc/PID/stat says. A zombie is still a process.
struct ProcessStat {
  ProcessIdentity identity;
  std::string name;  // at most 15 bytes, as the kernel keeps it
  char state = '?';  // R, S, D, Z, …
  pid_t parent = 0;
  pid_t group = 0;
};

// kNotFound where there is no such process.
Result<ProcessStat> read_process_stat(pid_t pid, const std::filesystem::path& root = "/");
Result<ProcessIdentity> identify(pid_t pid);

// The living processes of that group, its leader first. Reads all of /proc: milliseconds.
std::vector<ProcessIdentity> group_members(pid_t group, const std::filesystem::path& root = "/");

// Changes with every start of the machine.
Result<std::string> boot_id();

// A descriptor that names this process for ever, readable once it has ended. kNotFound where there is none.
Result<UniqueFd> open_pidfd(pid_t pid);

// ESRCH is success: the process is gone, which is what signals are sent for.
Result<void> send_signal(const UniqueFd& pidfd, int signal);

// "SIGKILL" of 9, "signal 40" where there is no name.
std::string signal_name(int signal);

}  // namespace lm::os
