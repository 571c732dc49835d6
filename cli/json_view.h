// Reading what the daemon has answered without trusting its shape: a member that is missing or of another
// kind is its default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include "base/bytes.h"

namespace lm::cli {

// All views live as long as the value they came from. `from` may be any kind of value.
std::string_view text_of(const boost::json::value& from, std::string_view key);
// Whole numbers and fractions alike; nullopt where there is none.
std::optional<double> number_of(const boost::json::value& from, std::string_view key);
Bytes bytes_of(const boost::json::value& from, std::string_view key);
bool flag_of(const boost::json::value& from, std::string_view key);
// The member if it is an object or array, else nullptr.
const boost::json::object* object_of(const boost::json::value& from, std::string_view key);
const boost::json::array* array_of(const boost::json::value& from, std::string_view key);
const boost::json::value* member_of(const boost::json::value& from, std::string_view key);

// nullopt where the text is no JSON; never throws.
std::optional<boost::json::value> parse_json(std::string_view text);

}  // namespace lm::cli
