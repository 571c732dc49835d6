// Scripts that make a shell complete the commands, made from the same declarations that parse them. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.h"

namespace lm::cli {

// nullopt where the shell is none of bash, zsh, fish. Names of models are asked of the daemon while
// completing.
std::optional<std::string> completion_script(std::string_view shell,
                                             const std::vector<CommandShape>& commands);

}  // namespace lm::cli
