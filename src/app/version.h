// The product's version.
#pragma once

#include <string_view>

namespace lm::app {

inline constexpr std::string_view kVersion = "0.1.0";

}  // namespace lm::app
