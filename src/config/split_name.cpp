#include "config/split_name.h"

#include <fmt/format.h>

namespace lm::config {
namespace {

constexpr std::string_view kForm = "-00000-of-00000";
constexpr int kMostParts = 10'000;

// -1 where a letter is none.
int number(std::string_view digits) {
  int value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value;
}

}  // namespace

std::string SplitName::stem(int part) const {
  return fmt::format("{}-{:05}-of-{:05}", base, part, count);
}

std::optional<SplitName> split_name(std::string_view stem) {
  if (stem.size() <= kForm.size()) return std::nullopt;
  const std::string_view tail = stem.substr(stem.size() - kForm.size());
  SplitName name{.base = std::string(stem.substr(0, stem.size() - kForm.size())),
                 .index = number(tail.substr(1, 5)),
                 .count = number(tail.substr(10, 5))};
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || name.base.ends_with('/')) return std::nullopt;
  if (name.count < 1 || name.count > kMostParts || name.index < 1 || name.index > name.count)
    return std::nullopt;
  return name;
}

}  // namespace lm::config
