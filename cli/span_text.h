// Spans and moments as people read them. Pure but for the time zone.
#pragma once

#include <cstdint>
#include <string>

namespace lm::cli {

// "0.42 s", "12.5 s", "4 min 47 s", "3 h 2 min", "2 d 5 h".
std::string span_text(double seconds);
// "14:03:05" of milliseconds since 1970 where it is the day of `now_ms`, else "2026-11-19 14:03:05"; in the
// machine's zone.
std::string moment_text(std::int64_t at_ms, std::int64_t now_ms);

}  // namespace lm::cli
