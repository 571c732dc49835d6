// Starts a process; what Subprocess stands on. No Asio here.
#pragma once

#include <string>
#include <sys/types.h>
#include <vector>

#include "base/result.h"
#include "os/file.h"
#include "os/subprocess.h"

namespace lm::os {

struct Spawned {
  pid_t pid = 0;
  UniqueFd pidfd;
};

// Descriptors for 0, 1 and 2 of the child; the rest as SpawnOptions says. Main thread only.
Result<Spawned> spawn_process(const SpawnOptions& options, int standard_input, int standard_output,
                              int standard_error);

}  // namespace lm::os
