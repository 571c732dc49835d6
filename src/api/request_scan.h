// What has to be known of a request's JSON body before it is passed on unread: which model it wants, whether
// it streams, and whether its answer may be broken off and continued.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::api {

struct RequestScan {
  std::optional<std::string> model;  // top-level "model"
  bool stream = false;               // top-level "stream": true
  // Nothing in it asks for what a continuation could not keep: tools, a schema or a grammar, probabilities,
  // several answers, a prompt in tokens, …
  bool continuable = true;
  bool asks = false;  // the member that holds the question is there
};

// Walks the text once, without building it in memory. kInvalidArgument "invalid_json" where it is not one
// JSON object (or is nested deeper than 64), "invalid_model" where "model" is not a string. Of a member that is
// there twice the last one counts. `question`: the name of the member without which nothing is asked.
Result<RequestScan> scan_request(std::string_view body, std::string_view question = {});

}  // namespace lm::api
