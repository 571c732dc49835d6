// What somebody who has just started the daemon can do with it, to copy into another terminal.
#pragma once

#include <string>
#include <string_view>

#include "runtime/catalog.h"

namespace lm::app {

// Lines that end with a newline each: commands and requests to this daemon at `url`
// ("http://127.0.0.1:11435"), with roles that `catalog` has a model for. Where it has none, what brings the
// first one.
std::string next_steps(std::string_view url, const runtime::Catalog& catalog);

}  // namespace lm::app
