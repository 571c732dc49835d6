#include "config/value.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>

namespace lm::config {
namespace {

constexpr std::size_t kLongestQuote = 60;

// std::from_chars takes no leading plus, and its "inf" and "nan" are no values here.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) return std::nullopt;
  }
  return value;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return text;
}

bool is_scalar(const Node& node) {
  return node.kind == Node::Kind::kScalar;
}

struct Unit {
  std::string_view name;
  Duration length;
};
using std::chrono::hours, std::chrono::milliseconds, std::chrono::minutes;
constexpr std::array<Unit, 15> kUnits = {{{"ms", milliseconds(1)},
                                          {"s", std::chrono::seconds(1)},
                                          {"sec", std::chrono::seconds(1)},
                                          {"second", std::chrono::seconds(1)},
                                          {"seconds", std::chrono::seconds(1)},
                                          {"m", minutes(1)},
                                          {"min", minutes(1)},
                                          {"minute", minutes(1)},
                                          {"minutes", minutes(1)},
                                          {"h", hours(1)},
                                          {"hour", hours(1)},
                                          {"hours", hours(1)},
                                          {"d", hours(24)},
                                          {"day", hours(24)},
                                          {"days", hours(24)}}};
constexpr double kLongestSeconds = 100.0 * 365 * 24 * 3600;

// Words that YAML 1.1 or 1.2 reads as something else than text.
bool reads_as_text(const std::string& text) {
  if (text.empty()) return false;
  for (const std::string_view word : {"true", "false", "yes", "no", "on", "off", "null", "~", "y", "n"}) {
    if (lower(text) == word) return false;
  }
  return !parse_number<double>(text).has_value();
}

bool is_plain_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '/' || c == '-' ||
         c == ':' || c == '~';
}

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  text = trimmed(text);
  if (text.empty()) return std::nullopt;
  double total = 0;
  bool first = true;
  while (!text.empty()) {
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc() || !std::isfinite(value) || value < 0 || std::signbit(value))
      return std::nullopt;
    text = trimmed(text.substr(static_cast<std::size_t>(end - text.data())));
    std::size_t letters = 0;
    while (letters < text.size() && std::isalpha(static_cast<unsigned char>(text[letters]))) ++letters;
    const std::string name = lower(text.substr(0, letters));
    text = trimmed(text.substr(letters));
    if (name.empty()) {
      if (!first || !text.empty()) return std::nullopt;  // "1h 30" of what?
      total = value;
      break;
    }
    const Unit* unit = nullptr;
    for (const Unit& candidate : kUnits) {
      if (candidate.name == name) unit = &candidate;
    }
    if (unit == nullptr) return std::nullopt;
    total += value * seconds(unit->length);
    first = false;
  }
  if (total > kLongestSeconds) return std::nullopt;
  // To the microsecond, so that 0.1s is 100ms.
  return std::chrono::microseconds(std::llround(total * 1e6));
}

std::string print_duration(Duration duration) {
  if (duration < Duration::zero()) return "forever";
  if (duration == Duration::zero()) return "0s";
  const std::int64_t ns = duration.count();
  constexpr std::array<std::pair<std::int64_t, std::string_view>, 5> kSteps = {{{86'400'000'000'000, "d"},
                                                                                {3'600'000'000'000, "h"},
                                                                                {60'000'000'000, "min"},
                                                                                {1'000'000'000, "s"},
                                                                                {1'000'000, "ms"}}};
  for (const auto& [length, name] : kSteps) {
    if (ns % length == 0) return fmt::format("{}{}", ns / length, name);
  }
  return fmt::format("{}ms", static_cast<double>(ns) / 1e6);
}

std::string print_bytes(Bytes bytes) {
  std::int64_t count = bytes.count();
  constexpr std::array<std::string_view, 5> kNames = {"", "KB", "MB", "GB", "TB"};
  std::size_t unit = 0;
  while (count != 0 && count % 1024 == 0 && unit + 1 < kNames.size()) {
    count /= 1024;
    ++unit;
  }
  return fmt::format("{}{}", count, kNames[unit]);
}

std::string print_text(const std::string& text) {
  bool plain =
      reads_as_text(text) && text.front() != '-' && text.front() != ':' && text.back() != ':' && text != ".";
  for (const char c : text) plain = plain && is_plain_letter(c);
  if (plain) return text;
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      quoted += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

std::string unexpected_value(std::string_view type, const Node& found) {
  if (!is_scalar(found)) return fmt::format("expected {}, found {}", type, describe(found.kind));
  std::string quote = found.text.substr(0, kLongestQuote);
  if (quote.size() < found.text.size()) {
    // Not in the middle of a letter.
    while (!quote.empty() && (static_cast<unsigned char>(quote.back()) & 0xC0U) == 0x80U) quote.pop_back();
    if (!quote.empty() && static_cast<unsigned char>(quote.back()) >= 0xC0U) quote.pop_back();
    quote += "…";
  }
  return fmt::format("expected {}, found \"{}\"", type, quote);
}

Type<std::string> text_type(std::string name) {
  return {
      .name = name,
      .read = [name](const Node& node) -> Parsed<std::string> {
        if (!is_scalar(node)) return std::unexpected(unexpected_value(name, node));
        return node.text;
      },
      .print = [](const std::string& value) { return value.empty() ? std::string() : print_text(value); }};
}

Type<std::string> url_type() {
  const std::string name = "an address such as http://127.0.0.1:11434";
  Type<std::string> type = text_type(name);
  type.read = [name](const Node& node) -> Parsed<std::string> {
    if (!is_scalar(node)) return std::unexpected(unexpected_value(name, node));
    std::string text = node.text;
    const std::string scheme = lower(text.substr(0, text.find("://")));
    const std::size_t host = scheme.size() + 3;
    const bool known = scheme == "http" || scheme == "https";
    if (!known || text.size() <= host || text[host] == '/' ||
        text.find_first_of(" \t\r\n") != std::string::npos) {
      return std::unexpected(unexpected_value(name, node));
    }
    while (text.ends_with('/')) text.pop_back();
    return text;
  };
  return type;
}

Type<std::string> device_type() {
  const std::string name = "a device such as auto, host, cuda or cuda0";
  Type<std::string> type = text_type(name);
  type.read = [name](const Node& node) -> Parsed<std::string> {
    if (!is_scalar(node) || node.text.empty()) return std::unexpected(unexpected_value(name, node));
    std::string text = lower(node.text);
    if (text == "cpu") return "host";
    std::erase(text, ':');  // "cuda:0", as PyTorch writes it
    for (const char c : text) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != '-') {
        return std::unexpected(unexpected_value(name, node));
      }
    }
    if (text.empty()) return std::unexpected(unexpected_value(name, node));
    return text;
  };
  return type;
}

Type<std::string> quantization_type() {
  const std::string name = "one of none (f16, bf16), 8bit (int8, q8_0), 4bit (int4, q4_k_m)";
  Type<std::string> type = text_type(name);
  type.read = [name](const Node& node) -> Parsed<std::string> {
    constexpr std::array<std::string_view, 10> kNames = {"none", "f16", "fp16", "bf16", "8bit",
                                                         "int8", "q80", "4bit", "int4", "q4km"};
    std::string plain = is_scalar(node) ? lower(node.text) : std::string();
    std::erase_if(plain, [](char c) { return c == '-' || c == '_' || c == ' '; });
    if (std::ranges::find(kNames, plain) == kNames.end())
      return std::unexpected(unexpected_value(name, node));
    return node.text;
  };
  return type;
}

Type<bool> boolean_type() {
  return {.name = "true or false",
          .read = [](const Node& node) -> Parsed<bool> {
            const std::string word = is_scalar(node) ? lower(node.text) : std::string();
            if (word == "true" || word == "yes" || word == "on") return true;
            if (word == "false" || word == "no" || word == "off") return false;
            return std::unexpected(unexpected_value("true or false", node));
          },
          .print = [](const bool& value) { return std::string(value ? "true" : "false"); }};
}

Type<int> integer_type(int least, int most) {
  const std::string name = most == std::numeric_limits<int>::max()
                               ? fmt::format("a whole number of at least {}", least)
                               : fmt::format("a whole number from {} to {}", least, most);
  return {.name = name,
          .read = [=](const Node& node) -> Parsed<int> {
            std::string digits = is_scalar(node) ? node.text : std::string();
            std::erase(digits, '_');
            const auto value = parse_number<int>(digits);
            // Who writes more than any is told where that ends.
            const bool is_huge =
                !value && !digits.empty() && digits.find_first_not_of("0123456789") == std::string::npos;
            if (is_huge)
              return std::unexpected(
                  unexpected_value(fmt::format("a whole number from {} to {}", least, most), node));
            if (!value || *value < least || *value > most)
              return std::unexpected(unexpected_value(name, node));
            return *value;
          },
          .print = [](const int& value) { return std::to_string(value); }};
}

Type<double> number_type(double least, double most) {
  const std::string name = std::isinf(most) ? fmt::format("a number of at least {}", least)
                                            : fmt::format("a number from {} to {}", least, most);
  return {.name = name,
          .read = [=](const Node& node) -> Parsed<double> {
            const auto value = parse_number<double>(is_scalar(node) ? node.text : std::string());
            if (!value || *value < least || *value > most)
              return std::unexpected(unexpected_value(name, node));
            return *value;
          },
          .print = [](const double& value) { return fmt::format("{}", value); }};
}

Type<Duration> duration_type(Duration least) {
  std::string name = "a duration such as 30s, 10min or 1h";
  if (least > Duration::zero()) name += ", at least " + print_duration(least);
  return {.name = name,
          .read = [name, least](const Node& node) -> Parsed<Duration> {
            const auto value = is_scalar(node) ? parse_duration(node.text) : std::nullopt;
            if (!value || *value < least) return std::unexpected(unexpected_value(name, node));
            return *value;
          },
          .print = [](const Duration& value) { return print_duration(value); }};
}

Type<Duration> keep_alive_type() {
  const std::string name = "a duration such as 30s, 10min or 1h, or forever";
  return {.name = name,
          .read = [name](const Node& node) -> Parsed<Duration> {
            const std::string word = is_scalar(node) ? lower(node.text) : std::string();
            if (word == "forever") return Duration(-1);
            // As Ollama's documents write it. It takes any other negative duration for the same, which in a
            // file is rather a slip.
            if (word == "-1" || word == "-1s" || word == "-1m") return Duration(-1);
            const auto value = is_scalar(node) ? parse_duration(node.text) : std::nullopt;
            if (!value) return std::unexpected(unexpected_value(name, node));
            return *value;
          },
          .print = [](const Duration& value) { return print_duration(value); }};
}

Type<Bytes> bytes_type() {
  const std::string name = "an amount of memory such as 512MB or 2GB";
  return {.name = name,
          .read = [name](const Node& node) -> Parsed<Bytes> {
            const auto value = is_scalar(node) ? parse_bytes(node.text) : std::nullopt;
            if (!value) return std::unexpected(unexpected_value(name, node));
            return *value;
          },
          .print = [](const Bytes& value) { return print_bytes(value); }};
}

Type<std::vector<std::string>> texts_type(std::string name) {
  return {.name = name,
          .read = [name](const Node& node) -> Parsed<std::vector<std::string>> {
            if (is_scalar(node)) return std::vector<std::string>{node.text};
            if (node.kind != Node::Kind::kList) return std::unexpected(unexpected_value(name, node));
            std::vector<std::string> texts;
            for (const Node& child : node.children) {
              if (!is_scalar(child)) {
                return std::unexpected(
                    fmt::format("{} in it (line {})", unexpected_value(name, child), child.at.line));
              }
              texts.push_back(child.text);
            }
            return texts;
          },
          .print =
              [](const std::vector<std::string>& texts) {
                if (texts.empty()) return std::string();
                std::string list;
                for (const std::string& text : texts) list += (list.empty() ? "" : ", ") + print_text(text);
                return "[" + list + "]";
              }};
}

Type<std::map<std::string, std::string>> text_map_type() {
  const std::string name = "a map of names to texts";
  return {.name = name,
          .read = [name](const Node& node) -> Parsed<std::map<std::string, std::string>> {
            if (node.kind != Node::Kind::kMap) return std::unexpected(unexpected_value(name, node));
            std::map<std::string, std::string> texts;
            for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
              const Node& value = node.children[i + 1];
              if (!is_scalar(value) && value.kind != Node::Kind::kNull) {
                return std::unexpected(
                    fmt::format("{} in it (line {})", unexpected_value(name, value), value.at.line));
              }
              texts.emplace(node.children[i].text, value.text);
            }
            return texts;
          },
          .print =
              [](const std::map<std::string, std::string>& texts) {
                if (texts.empty()) return std::string();
                std::string list;
                for (const auto& [key, value] : texts) {
                  list += (list.empty() ? "" : ", ") + print_text(key) + ": " + print_text(value);
                }
                return "{" + list + "}";
              }};
}

Type<DeviceAmounts> device_amounts_type() {
  const std::string name = "an amount such as 2GB, or a map of devices to amounts";
  const Type<Bytes> amount = bytes_type();
  const Type<std::string> device = device_type();
  return {.name = name,
          .read = [=](const Node& node) -> Parsed<DeviceAmounts> {
            DeviceAmounts amounts;
            if (is_scalar(node)) {
              auto bytes = amount.read(node);
              if (!bytes) return std::unexpected(unexpected_value(name, node));
              amounts.emplace("all", *bytes);
              return amounts;
            }
            if (node.kind != Node::Kind::kMap) return std::unexpected(unexpected_value(name, node));
            for (std::size_t i = 0; i + 1 < node.children.size(); i += 2) {
              auto key = device.read(node.children[i]);
              if (!key) return std::unexpected(std::move(key).error());
              auto bytes = amount.read(node.children[i + 1]);
              if (!bytes) return std::unexpected(fmt::format("{}: {}", *key, bytes.error()));
              amounts.insert_or_assign(*key, *bytes);
            }
            return amounts;
          },
          .print =
              [](const DeviceAmounts& amounts) {
                if (amounts.empty()) return std::string();
                if (amounts.size() == 1 && amounts.begin()->first == "all")
                  return print_bytes(amounts.begin()->second);
                std::string list;
                for (const auto& [key, bytes] : amounts) {
                  list += (list.empty() ? "" : ", ") + print_text(key) + ": " + print_bytes(bytes);
                }
                return "{" + list + "}";
              }};
}

}  // namespace lm::config
