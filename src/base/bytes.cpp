#include "base/bytes.h"

#include <array>
#include <cctype>
#include <charconv>
#include <cmath>

#include <fmt/format.h>

namespace lm {

std::string to_string(Bytes bytes) {
  constexpr std::array kUnits = {"B", "KB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes.count());
  std::size_t unit = 0;
  while (std::abs(value) >= 1000.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes.count());
  return fmt::format("{:.{}f} {}", value, unit >= 3 ? 2 : 1, kUnits[unit]);
}

std::optional<Bytes> parse_bytes(std::string_view text) {
  const auto trim = [&text] {
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
    while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  };
  trim();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  trim();

  int power = 0;
  if (!text.empty() && std::toupper(static_cast<unsigned char>(text.front())) != 'B') {
    constexpr std::string_view kLetters = "KMGT";
    const auto at = kLetters.find(static_cast<char>(std::toupper(static_cast<unsigned char>(text.front()))));
    if (at == std::string_view::npos) return std::nullopt;
    power = static_cast<int>(at) + 1;
    text.remove_prefix(1);
    if (!text.empty() && (text.front() == 'i' || text.front() == 'I')) {
      text.remove_prefix(1);
      if (text.empty()) return std::nullopt;
    }
  }
  if (!text.empty() && std::toupper(static_cast<unsigned char>(text.front())) == 'B') text.remove_prefix(1);
  if (!text.empty()) return std::nullopt;

  const double count = std::round(std::ldexp(value, 10 * power));
  if (count >= 9.2e18) return std::nullopt;
  return Bytes(static_cast<std::int64_t>(count));
}

}  // namespace lm
