#include "cli/span_text.h"

#include <algorithm>
#include <ctime>

#include <fmt/format.h>

namespace lm::cli {
namespace {

std::tm local(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm out{};
  localtime_r(&seconds, &out);
  return out;
}

}  // namespace

std::string span_text(double seconds) {
  seconds = std::clamp(seconds, 0.0, 1e12);
  if (seconds < 9.995) return fmt::format("{:.2f} s", seconds);
  if (seconds < 59.95) return fmt::format("{:.1f} s", seconds);
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  if (whole < 86400) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

std::string moment_text(std::int64_t at_ms, std::int64_t now_ms) {
  const std::tm at = local(at_ms);
  const std::tm now = local(now_ms);
  const std::string time = fmt::format("{:02}:{:02}:{:02}", at.tm_hour, at.tm_min, at.tm_sec);
  if (at.tm_year == now.tm_year && at.tm_yday == now.tm_yday) return time;
  return fmt::format("{:04}-{:02}-{:02} {}", at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, time);
}

}  // namespace lm::cli
