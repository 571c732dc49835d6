// One event of the daemon as a line for people. Pure.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/value.hpp>

namespace lm::cli {

// `kind` is the event's name ("state", "decision"); kinds of a later daemon are shown as their JSON.
std::string event_text(std::string_view kind, const boost::json::value& datum);

}  // namespace lm::cli
