// The configuration as `serve` would take it, read to find what is wrong with it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace lm::cli {

struct CheckedConfiguration {
  std::filesystem::path file;         // empty: there is none, the defaults count
  std::vector<std::string> warnings;  // with file and line
  std::size_t models = 0;
};

// `chosen` empty: the search path. Reads files. kInvalidArgument tells all problems, a line each; kNotFound.
Result<CheckedConfiguration> check_configuration(const std::filesystem::path& chosen);

}  // namespace lm::cli
