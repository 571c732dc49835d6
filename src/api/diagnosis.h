// What is wrong with this installation and what to do about it, as far as the daemon can see.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "domain/snapshot.h"
#include "probe/host_memory.h"
#include "runtime/runtime.h"

namespace lm::api {

struct Check {
  std::string name;
  std::string status;  // "ok", "warning", "problem"
  std::string message;
  std::string fix;  // empty where there is nothing to do
};

// What the checks look at, gathered at one moment. Plain values.
struct Findings {
  Snapshot snapshot;
  std::vector<DeviceReading> readings;
  std::optional<probe::HostMemory> host;  // empty: it could not be read
  std::string engine;                     // "0.5.0-… cpu"; empty: no worker has answered yet
  std::vector<int> strays;                // workers whose daemon is gone
  std::vector<int> ended;                 // of those who held what an upstream kept
  std::vector<backend::Upstreams::Trouble> upstream_troubles;
  std::vector<std::string> warnings;  // about the configuration
};

// For people: an upstream that loaded a model when it was not its turn.
std::string intrusion_text(const UpstreamView& view);

// Reads /proc for host and strays: milliseconds.
Findings find_out(const runtime::Runtime& runtime);

// Pure. At least one check of each subject, well or not, so that its reader sees what was looked at.
std::vector<Check> diagnose(const Findings& findings);

}  // namespace lm::api
