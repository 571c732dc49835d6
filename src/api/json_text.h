// JSON as it leaves the daemon.
#pragma once

#include <string>

#include <boost/json/value.hpp>

namespace lm::api {

// Text that any client can read: UTF-8, whatever bytes paths, processes and models are called by, and numbers
// as people write them ("1", "0.25"), which read back as the same; what is no number is null.
std::string json_text(const boost::json::value& value);

}  // namespace lm::api
