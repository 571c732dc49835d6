#include "cli/json_view.h"

#include <cmath>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

namespace lm::cli {

const boost::json::value* member_of(const boost::json::value& from, std::string_view key) {
  const boost::json::object* object = from.if_object();
  return object == nullptr ? nullptr : object->if_contains(key);
}

std::string_view text_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  if (member == nullptr || !member->is_string()) return {};
  return {member->get_string().data(), member->get_string().size()};
}

std::optional<double> number_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  if (member == nullptr || !member->is_number()) return std::nullopt;
  return member->to_number<double>();
}

Bytes bytes_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  if (member == nullptr) return {};
  if (member->is_int64()) return Bytes(member->get_int64());
  const double number = number_of(from, key).value_or(0.0);
  // A size beyond what a machine has is nonsense; the cast below must not be.
  if (!std::isfinite(number) || std::abs(number) > 9e18) return {};
  return Bytes(static_cast<std::int64_t>(number));
}

bool flag_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  return member != nullptr && member->is_bool() && member->get_bool();
}

const boost::json::object* object_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  return member == nullptr ? nullptr : member->if_object();
}

const boost::json::array* array_of(const boost::json::value& from, std::string_view key) {
  const boost::json::value* member = member_of(from, key);
  return member == nullptr ? nullptr : member->if_array();
}

std::optional<boost::json::value> parse_json(std::string_view text) {
  boost::json::error_code error;
  boost::json::value value = boost::json::parse({text.data(), text.size()}, error);
  if (error) return std::nullopt;
  return value;
}

}  // namespace lm::cli
