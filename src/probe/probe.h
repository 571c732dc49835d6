// Measures devices and what processes hold on them. One implementation for each source of measurements: the
// host here, drivers in files of their own.
#pragma once

#include <cstddef>
#include <vector>

#include "base/result.h"
#include "domain/device.h"
#include "os/process.h"

namespace lm::probe {

struct Request {
  std::vector<os::ProcessIdentity> processes;  // of ours, to be measured one by one
  std::size_t holders = 0;  // this many of the largest per device; 0: none, which is much cheaper
};

struct Reading {
  std::vector<DeviceReading> devices;
  std::vector<ProcessReading>
      processes;  // those asked for that still run; a device that cannot tell is not in `held`
};

// Owned by the runtime, used by one thread at a time. Every call measures anew; nothing is cached. May block
// as long as the driver takes; the host's takes less than a millisecond without holders.
class Probe {
 public:
  virtual ~Probe() = default;

  // What is there. Headroom and limits are configuration and left empty.
  virtual Result<std::vector<Device>> devices() = 0;
  virtual Result<Reading> read(const Request& request) = 0;
};

}  // namespace lm::probe
