// The version that this program was built as.
#pragma once

#include <string_view>

namespace lm::cli {

// "0.1.0"; lives for ever.
std::string_view version();

}  // namespace lm::cli
