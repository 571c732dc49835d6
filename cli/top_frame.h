// What `top` shows: devices, models, what was decided last. Pure.
#pragma once

#include <cstdint>
#include <string>

#include <boost/json/value.hpp>

#include "cli/console.h"

namespace lm::cli {

// The daemon's answers, as they came; null where there is none.
struct TopAnswers {
  boost::json::value health, devices, models, decisions;
};

// Whole lines, no wider than the stream, at most `rows`: first the decisions are left out, the oldest first,
// then the models that are at the end. `address` names the daemon.
std::string top_frame(const TopAnswers& answers, const std::string& address, std::int64_t now_ms,
                      const Stream& stream, int rows);

// The line of one decision, as `explain` shows it.
std::string decision_line(const boost::json::value& decision, std::int64_t now_ms, const Stream& stream);

}  // namespace lm::cli
