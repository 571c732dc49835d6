// The report of an unload as people read it: what was held, what came back, who holds the rest. Pure.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "cli/console.h"

namespace lm::cli {

// `answer` is what POST /api/v1/models/unload says; `what` is the model's name, or "all models". Whole lines.
std::string release_report(const boost::json::value& answer, const std::string& what, const Stream& stream);

}  // namespace lm::cli
