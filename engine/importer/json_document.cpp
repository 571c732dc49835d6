#include "json_document.h"

#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {

Result<json::value> parse_json(std::string_view text, std::string_view file, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    return refuse(fmt::format("{} has {} bytes, more than the {} that one of its kind may have", file,
                              text.size(), limits.bytes));
  }
  json::parse_options options;
  options.max_depth = limits.depth;
  boost::system::error_code error;
  auto value = json::parse(text, error, {}, options);
  if (error == json::error::too_deep) {
    return refuse(fmt::format("{} is nested deeper than {} levels", file, limits.depth));
  }
  if (error) return refuse(fmt::format("{} is no JSON: {}", file, error.message()));
  if (!value.is_object() && !value.is_array()) return refuse(fmt::format("{} holds no object", file));
  return value;
}

const json::value* member(const json::value& object, std::string_view key) {
  const auto* as_object = object.if_object();
  if (as_object == nullptr) return nullptr;
  const auto* found = as_object->if_contains(key);
  return found == nullptr || found->is_null() ? nullptr : found;
}

const json::object* object_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  return found == nullptr ? nullptr : found->if_object();
}

const json::array* array_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  return found == nullptr ? nullptr : found->if_array();
}

std::optional<std::string_view> text_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  const auto* text = found == nullptr ? nullptr : found->if_string();
  return text == nullptr ? std::nullopt : std::optional<std::string_view>(*text);
}

std::optional<std::int64_t> as_integer(const json::value& value) {
  if (const auto* i = value.if_int64()) return *i;
  if (const auto* d = value.if_double(); d != nullptr && std::trunc(*d) == *d && std::abs(*d) < 0x1p53) {
    return static_cast<std::int64_t>(*d);
  }
  return std::nullopt;  // an unsigned one that is kept apart does not fit
}

std::optional<std::int64_t> integer_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  return found == nullptr ? std::nullopt : as_integer(*found);
}

std::optional<double> real_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  if (found == nullptr || !found->is_number()) return std::nullopt;
  if (const auto* d = found->if_double()) return *d;
  if (const auto* i = found->if_int64()) return static_cast<double>(*i);
  return static_cast<double>(found->get_uint64());
}

std::optional<bool> flag_at(const json::value& object, std::string_view key) {
  const auto* found = member(object, key);
  const auto* flag = found == nullptr ? nullptr : found->if_bool();
  return flag == nullptr ? std::nullopt : std::optional(*flag);
}

}  // namespace lm::importer
