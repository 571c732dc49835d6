// Who holds the host's memory: for the report after a release that freed less than expected.
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "domain/device.h"

namespace lm::probe {

// The `most` processes that hold most (ProcessMemory::held), largest first; those that hold nothing are left
// out. Reads one file for each process of the machine: milliseconds, so not on every measurement.
Result<std::vector<Holder>> read_host_holders(std::size_t most, const std::filesystem::path& root = "/");

}  // namespace lm::probe
