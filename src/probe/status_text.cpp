#include "probe/status_text.h"

#include <charconv>
#include <cstdint>
#include <limits>

namespace lm::probe {

std::optional<std::string_view> field_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(name)) continue;
    line.remove_prefix(name.size());
    if (!line.starts_with(':')) continue;
    line.remove_prefix(1);
    const auto first = line.find_first_not_of(" \t");
    if (first == std::string_view::npos) return std::string_view();
    return line.substr(first, line.find_last_not_of(" \t") - first + 1);
  }
  return std::nullopt;
}

std::optional<Bytes> bytes_of(std::string_view text, std::string_view name) {
  const auto field = field_of(text, name);
  if (!field) return std::nullopt;
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(field->data(), field->data() + field->size(), count);
  if (error != std::errc() || count < 0 || count > std::numeric_limits<std::int64_t>::max() / 1024)
    return std::nullopt;
  const auto unit = std::string_view(end, static_cast<std::size_t>(field->data() + field->size() - end));
  if (unit != " kB") return std::nullopt;
  return kib(count);
}

}  // namespace lm::probe
