// What is wrong, or odd, about a configuration, and where.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace lm::config {

// Lines and columns count from 1; 0: not in a line of a file.
struct Position {
  int line = 0;
  int column = 0;
  bool operator==(const Position&) const = default;
};

struct Problem {
  std::string file;
  Position at;
  std::string key;      // "residency.linger"; empty where the text as a whole is meant
  std::string message;  // one sentence without a full stop, with what to write instead
  bool operator==(const Problem&) const = default;
};
using Warning = Problem;

// "llm-manager.yaml:7:3: residency.linger: expected …".
std::string to_string(const Problem& problem);

// All of them as one kInvalidArgument, reason "invalid_config": a line each in the message, and a field
// "problem" each.
Error to_error(const std::vector<Problem>& problems);

}  // namespace lm::config
