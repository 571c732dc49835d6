// A request's body with another model's name in it: what an upstream calls a model is not what our clients
// call it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::api {

// `body` with `name` (UTF-8) as the value of its top-level "model", and every other byte as it was; put in
// front where there is none. A key that comes twice is replaced twice, so that upstreams that take the first
// and upstreams that take the last are asked for the same model. `body` is one that scan_request() has
// accepted; where it is not one JSON object: kInvalidArgument "invalid_json". Walks the text once, without
// building it in memory.
Result<std::string> with_model(std::string_view body, std::string_view name);

}  // namespace lm::api
