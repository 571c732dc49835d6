// Variables from .env files and from the process, and who set them. A value; the process's own win.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"

namespace lm::config {

struct DotenvLine {
  std::string name, value;
  int line = 0;
  bool operator==(const DotenvLine&) const = default;
};

// KEY=VALUE lines: `export ` before, 'single' (literal, may span lines) and "double" quotes (\n, \t, \", \\,
// \$), # comments after a space. Nothing is expanded. Lines that are none of it are skipped and told.
std::vector<DotenvLine> parse_dotenv(std::string_view text, const std::string& file,
                                     std::vector<Warning>& warnings);

class Environment {
 public:
  struct Variable {
    std::string value;
    std::string origin;            // the .env file's path; empty: the process
    std::filesystem::path folder;  // what a relative path in it starts from
  };

  // The first to set a name wins, so the process comes first, then .env files in their order.
  void add(std::string name, Variable variable);

  // nullopt where it is not set; empty text counts as not set, so that `NAME=` in .env is harmless.
  std::optional<Variable> find(std::string_view name) const;

 private:
  std::map<std::string, Variable, std::less<>> variables_;
};

}  // namespace lm::config
