// What a configuration names and this disk does not have. Looks at names only: nothing is opened.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "config/load.h"
#include "config/problem.h"

namespace lm::config {

// Model folders and models' files that are not there, each at the line that names it; what else scanning the
// folders tells. `others`: folders that are scanned beside the configuration's own. `is_source`: whether a
// model_path names where a model comes from, which need not be here. Blocks for as long as the disk takes.
std::vector<Warning> check_disk(
    const Loaded& loaded, std::span<const std::filesystem::path> others = {},
    const std::function<bool(const std::string& model_path)>& is_source = [](const auto&) { return false; });

}  // namespace lm::config
