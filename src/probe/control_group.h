// The memory limits that control groups put on this process. Linux, versions 1 and 2.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace lm::probe {

struct ControlGroupLimit {
  std::string folder;  // as seen below `root`, "/sys/fs/cgroup/..."
  Bytes limit;
  Bytes used;        // charged to the group and its children
  Bytes file_pages;  // of `used`: page cache, which gives way
};

// One entry for each group with a limit, from our own up to the root of the mounted tree. Unreadable ones are
// left out.
std::vector<ControlGroupLimit> read_control_group_limits(const std::filesystem::path& root = "/");

}  // namespace lm::probe
