// The "Name:   123 kB" lines of /proc/PID/status, /proc/PID/smaps_rollup and /proc/meminfo.
#pragma once

#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace lm::probe {

// What stands after "name:" in its line, without surrounding white space.
std::optional<std::string_view> field_of(std::string_view text, std::string_view name);

// The amount in "name:   123 kB".
std::optional<Bytes> bytes_of(std::string_view text, std::string_view name);

}  // namespace lm::probe
