// Where a configuration lies on disk. Reads small files, so it blocks for as long as the disk takes.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/load.h"

namespace lm::config {

// The variables of this process.
std::map<std::string, std::string> process_environment();

// Without --config the first of these that is there counts: WORKING_FOLDER/llm-manager.yaml,
// ${XDG_CONFIG_HOME:-~/.config}/llm-manager/config.yaml, /etc/llm-manager/config.yaml.
std::vector<std::filesystem::path> search_path(const std::filesystem::path& working_folder,
                                               const std::map<std::string, std::string>& environment);

// `chosen` (--config) "-" is standard input, read once; else it must be there: kNotFound, reason "config_not_found". Otherwise the search path; finding
// none is fine. The .env files are the ones beside the configuration and in the working folder, in that
// order. A file that is there and cannot be read is an error that names it.
Result<Sources> find_sources(const std::optional<std::filesystem::path>& chosen,
                             const std::filesystem::path& working_folder,
                             std::map<std::string, std::string> environment);

// Fills the keys that are named by file and have no value yet. A file that cannot be read, is empty, or has
// more than one line is an error; one that others may read is a warning.
Result<std::vector<Warning>> read_key_files(Config& config);

}  // namespace lm::config
