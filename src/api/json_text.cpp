#include "api/json_text.h"

#include <cmath>
#include <iterator>
#include <string_view>
#include <utility>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "wire/utf8.h"

namespace lm::api {
namespace {

namespace json = boost::json;

void add_text(std::string_view text, std::string& out) {
  out += json::serialize(json::string_view(text.data(), text.size()));
}

// Depth is that of what we say ourselves.
void add(const json::value& value, std::string& out) {
  if (const auto* object = value.if_object()) {
    out += '{';
    bool first = true;
    for (const auto& [key, member] : *object) {
      if (!std::exchange(first, false)) out += ',';
      add_text({key.data(), key.size()}, out);
      out += ':';
      add(member, out);
    }
    out += '}';
  } else if (const auto* array = value.if_array()) {
    out += '[';
    for (const auto& element : *array) {
      if (&element != array->data()) out += ',';
      add(element, out);
    }
    out += ']';
  } else if (const auto* text = value.if_string()) {
    add_text({text->data(), text->size()}, out);
  } else if (const auto* number = value.if_double()) {
    if (std::isfinite(*number)) {
      fmt::format_to(std::back_inserter(out), "{}", *number);
    } else {
      out += "null";
    }
  } else {
    out += json::serialize(value);
  }
}

}  // namespace

std::string json_text(const json::value& value) {
  std::string out;
  add(value, out);
  return wire::utf8(out);
}

}  // namespace lm::api
