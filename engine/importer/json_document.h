// A JSON file that nobody trusts: read whole, with limits, and asked for what is expected in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include <boost/json.hpp>

#include "base/result.h"

namespace lm::importer {

namespace json = boost::json;

struct JsonLimits {
  std::size_t bytes = std::size_t{4} << 20;
  std::size_t depth = 16;
};

// `file` names it in messages. kInvalidArgument, reason invalid_checkpoint: too long, nested too deep, no
// JSON, no object (nor array) at its top. Allocates in proportion to the text.
Result<json::value> parse_json(std::string_view text, std::string_view file, const JsonLimits& limits = {});

// What is at `key`: nullptr or nullopt where `object` is none, the key is not there or is of another kind.
// JSON's null counts as not there. `integer` takes 3 and 3.0, not 3.5.
const json::value* member(const json::value& object, std::string_view key);
const json::object* object_at(const json::value& object, std::string_view key);
const json::array* array_at(const json::value& object, std::string_view key);
std::optional<std::string_view> text_at(const json::value& object, std::string_view key);
std::optional<std::int64_t> integer_at(const json::value& object, std::string_view key);
std::optional<double> real_at(const json::value& object, std::string_view key);
std::optional<bool> flag_at(const json::value& object, std::string_view key);

// The value itself as an integer, as above.
std::optional<std::int64_t> as_integer(const json::value& value);

}  // namespace lm::importer
