// The dashboard's files, which are in the program itself: cmake/Dashboard.cmake puts them there.
#pragma once

#include <span>

#include "http/static_file.h"

namespace lm::app {

// Live as long as the program. Empty where it was built without them (scripts/bootstrap builds them).
std::span<const http::StaticFile> dashboard();

}  // namespace lm::app
