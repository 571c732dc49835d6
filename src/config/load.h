// From texts to a Config: pure. Reading the texts from disk is sources.h.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/config.h"
#include "config/dotenv.h"
#include "config/problem.h"

namespace lm::config {

struct SourceText {
  std::filesystem::path path;  // for messages; relative paths in the text start from its folder
  std::string text;
};

struct Sources {
  std::optional<SourceText> config;                // none: the defaults
  std::vector<SourceText> dotenv;                  // the first that sets a name wins
  std::map<std::string, std::string> environment;  // of the process; wins over .env
  std::filesystem::path working_folder;            // what relative paths in `environment` start from
};

struct Loaded {
  Config config;
  std::vector<Warning> warnings;
  std::filesystem::path file;                 // the configuration that counted; empty: none, the defaults
  Environment environment;                    // everything that was set, for keys that are read later
  std::map<std::string, Position> positions;  // in the file, of each key and each name in it

  // Where the file has a key, or else its section; 0 where it has neither.
  Position position(const std::string& key) const;
};

// All that is wrong is told at once: kInvalidArgument, reason "invalid_config", a field "problem" for each
// (problem.h). Unknown keys under models, vtuber and sections that are not ours are one warning together.
Result<Loaded> load(const Sources& sources);

// `path` as written, from `folder`: "~" is `home`, absolute paths stay, the rest lies in the folder. Empty
// stays empty.
std::filesystem::path resolve_path(const std::string& path, const std::filesystem::path& folder,
                                   const std::string& home);

}  // namespace lm::config
