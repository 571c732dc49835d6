// The example that `llm-manager config example` prints, made from the schema.
#pragma once

#include <string>

namespace lm::config {

// YAML with every key there is. As it stands it says exactly the defaults. A line whose # has no space after
// it is a setting that is off: its value is an example.
std::string config_example();

}  // namespace lm::config
