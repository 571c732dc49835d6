// The daemon's log: one line an event, to standard error and, when asked, to a file that `llm-manager logs -f` follows.
// Secrets never reach it: pass keys and tokens through redact().
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include <spdlog/spdlog.h>

#include "base/result.h"

namespace lm::log {

// Colours only where standard error is a terminal. Called once, before the first line. Level: "debug", "info", "warning", "error".
Result<void> open(std::string_view level, const std::filesystem::path& file = {});

// "sk-12…" of "sk-1234567890": enough to recognise, not enough to use.
std::string redact(std::string_view secret);

template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) { spdlog::debug(format, std::forward<Args>(args)...); }
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) { spdlog::info(format, std::forward<Args>(args)...); }
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) { spdlog::warn(format, std::forward<Args>(args)...); }
template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) { spdlog::error(format, std::forward<Args>(args)...); }

}  // namespace lm::log
