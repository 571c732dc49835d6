// What a reload changes, in words.
#pragma once

#include <string>
#include <vector>

#include "config/config.h"

namespace lm::config {

struct Change {
  std::string key;     // "residency.linger"; "models.qwen" where a whole entry came or went
  std::string before;  // empty: was not set
  std::string after;   // empty: is no longer set
  bool restart = false;
  bool operator==(const Change&) const = default;
};

// "residency.linger: 30s → 1min", "models.qwen: added", "server.listen: … (needs a restart)".
std::string to_string(const Change& change);

// In the order of the schema. Keys and tokens only say that they changed.
std::vector<Change> diff(const Config& before, const Config& after);

}  // namespace lm::config
