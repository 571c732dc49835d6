// What has to be known of a request's JSON body before it is passed on unread: which model it wants and
// whether it streams.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::api {

struct RequestScan {
  std::optional<std::string> model;  // top-level "model"
  bool stream = false;               // top-level "stream": true
};

// Walks the text once, without building it in memory. kInvalidArgument "invalid_json" where it is not one
// JSON object (or is nested deeper than 64), "invalid_model" where "model" is not a string.
Result<RequestScan> scan_request(std::string_view body);

}  // namespace lm::api
