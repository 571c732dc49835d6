// The answer of /api/v1/models/plan for people. Pure.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "cli/console.h"

namespace lm::cli {

// Ends with a line's end.
std::string plan_text(const boost::json::value& plan, const Stream& stream);

}  // namespace lm::cli
