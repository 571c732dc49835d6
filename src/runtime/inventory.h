// The models there are: the configuration's and those in the model folders, checked against the disk. Blocks
// while it looks.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "config/config.h"
#include "domain/model.h"
#include "runtime/imports.h"

namespace lm::runtime {

struct Inventory {
  std::vector<Model> models;             // a file that is not there is the model's problem, not an error
  std::map<std::string, ModelId> roles;  // "chat", "knowledge", "translation", "embedding"
  std::vector<std::string> warnings;
  std::vector<Import>
      missing;  // files that have to be made of checkpoints; their models have the problem "importing"
};

// `folders`: beside the configuration's own. A model_path that names a Hugging Face checkpoint stands for its
// file in `imports`.
Inventory take_inventory(const config::Config& config, const std::vector<std::filesystem::path>& folders,
                         const std::filesystem::path& imports);

// Which file is there, as the disk tells without its being read: another name where it was replaced, an empty
// one where there is none.
std::string fingerprint_of(const std::filesystem::path& file);

}  // namespace lm::runtime
