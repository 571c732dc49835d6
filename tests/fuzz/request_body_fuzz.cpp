// The scan of a request's body agrees with a parser that builds it.
#include <cstdint>
#include <string_view>

#include <boost/json/parse.hpp>

#include "api/request_scan.h"
#include "base/assert.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto scan = lm::api::scan_request(input, "messages");
  boost::system::error_code broken;
  boost::json::parse_options options;
  options.max_depth = 64;
  const auto value = boost::json::parse(input, broken, {}, options);
  if (!scan) return 0;  // it may be stricter: a model that is no string, a depth that is one too much
  LM_ASSERT(!broken && value.is_object(), "what is passed on is a JSON object");
  const auto* model = value.as_object().if_contains("model");
  LM_ASSERT(scan->model.has_value() == (model != nullptr && model->is_string()),
            "the model is the top-level one");
  if (scan->model) LM_ASSERT(*scan->model == std::string_view(model->as_string()), "and the same");
  const auto* stream = value.as_object().if_contains("stream");
  LM_ASSERT(scan->stream == (stream != nullptr && stream->is_bool() && stream->as_bool()),
            "and so is stream");
  LM_ASSERT(scan->asks == value.as_object().contains("messages"), "and whether anything is asked");
  return 0;
}
