// What `list` and `ps` show of GET /api/v1/models. Pure.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "cli/console.h"

namespace lm::cli {

// Every model: NAME KIND SIZE STATE MEMORY FROM, and below it what is wrong with which. Whole lines.
std::string model_list(const boost::json::value& answer, const Stream& stream);

// Those that are in memory or on their way: NAME STATE DEVICE MEMORY SLOTS ACTIVE WAITING EXPIRES, and below
// it who keeps which model unloaded since when, and where more models are wanted than fit, what would help.
std::string running_models(const boost::json::value& answer, std::int64_t now_ms, const Stream& stream);

}  // namespace lm::cli
