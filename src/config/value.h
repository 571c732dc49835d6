// The kinds of values that stand in a configuration: how each is read from YAML and printed back. Printing
// what was read, and reading that again, gives the same value.
#pragma once

#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "base/bytes.h"
#include "base/time.h"
#include "config/config.h"
#include "config/nearest.h"
#include "config/yaml.h"

namespace lm::config {

// "30s", "10min", "1h", "1h30min", "250ms", "2d"; a plain number is seconds. nullopt where it is none, is
// negative, or is longer than a hundred years.
std::optional<Duration> parse_duration(std::string_view text);
// In the largest unit that divides it: "90s", "1min", "300ms"; "forever" where it is negative.
std::string print_duration(Duration duration);
// Exactly, in the largest unit that divides it: "2GB", "1536MB", "1000".
std::string print_bytes(Bytes bytes);
// As YAML: plain where that is read back as the same text, else in double quotes.
std::string print_text(const std::string& text);

// What was read, or what was expected instead ("expected a duration such as 30s, found \"soon\"").
template <class T>
using Parsed = std::expected<T, std::string>;

template <class T>
struct Type {
  std::string name;  // "a duration such as 30s"
  std::function<Parsed<T>(const Node&)> read;
  std::function<std::string(const T&)> print;
};

// The sentence for a value that is not of the type.
std::string unexpected_value(std::string_view type, const Node& found);

Type<std::string> text_type(std::string name = "a text");
Type<std::string> url_type();
// "auto", "host" ("cpu"), "cuda", "cuda0" ("cuda:0"), …: names of devices; which of them exist is not known
// here.
Type<std::string> device_type();
// As llm-importer knows them, upper case and separators aside.
Type<std::string> quantization_type();
Type<bool> boolean_type();
Type<int> integer_type(int least, int most);
Type<double> number_type(double least, double most);
Type<Duration> duration_type(Duration least = Duration::zero());
// A duration, or "forever" or a negative number: Duration(-1).
Type<Duration> keep_alive_type();
Type<Bytes> bytes_type();
// A list of texts; a single text counts as a list of one.
Type<std::vector<std::string>> texts_type(std::string name = "a list of texts");
Type<std::map<std::string, std::string>> text_map_type();
// "2GB" for every device, or a map of device to amount.
Type<DeviceAmounts> device_amounts_type();

template <class E>
Type<E> choice_type(std::vector<std::pair<std::string, E>> choices) {
  std::vector<std::string> names;
  for (const auto& choice : choices) names.push_back(choice.first);
  std::string type_name = "one of";
  for (std::size_t i = 0; i < names.size(); ++i) type_name += (i == 0 ? " " : ", ") + names[i];
  return {.name = type_name,
          .read = [choices, names, type_name](const Node& node) -> Parsed<E> {
            for (const auto& [name, value] : choices) {
              if (node.kind == Node::Kind::kScalar && edit_distance(name, node.text) == 0) return value;
            }
            std::string sentence = unexpected_value(type_name, node);
            if (const auto meant = nearest(node.text, names))
              sentence += fmt::format("; did you mean {}?", *meant);
            return std::unexpected(std::move(sentence));
          },
          .print = [choices](const E& value) -> std::string {
            for (const auto& [name, candidate] : choices) {
              if (candidate == value) return name;
            }
            return {};
          }};
}

// Unset prints as nothing.
template <class T>
Type<std::optional<T>> maybe(Type<T> type) {
  return {.name = type.name,
          .read = [read = type.read](const Node& node) -> Parsed<std::optional<T>> {
            auto value = read(node);
            if (!value) return std::unexpected(std::move(value).error());
            return std::optional<T>(*std::move(value));
          },
          .print = [print = type.print](
                       const std::optional<T>& value) { return value ? print(*value) : std::string(); }};
}

}  // namespace lm::config
