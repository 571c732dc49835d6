// The models there are: the configuration's and those in the model folders, checked against the disk. Blocks
// while it looks.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "domain/model.h"

namespace lm::runtime {

struct Inventory {
  std::vector<Model> models;             // a file that is not there is the model's problem, not an error
  std::map<std::string, ModelId> roles;  // "chat", "knowledge", "translation", "embedding"
  std::vector<std::string> warnings;
};

// `folders`: beside the configuration's own.
Inventory take_inventory(const config::Config& config, const std::vector<std::filesystem::path>& folders);

}  // namespace lm::runtime
