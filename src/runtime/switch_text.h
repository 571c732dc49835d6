// A switch as people read it in the log, in English, 简体中文 and 繁體中文. The Chinese lines are those of
// the requirements (model-resource-management.md). Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "config/config.h"
#include "domain/switch.h"

namespace lm::runtime {

struct LogLine {
  enum Level : std::uint8_t { kInfo, kWarning, kError } level = kInfo;
  std::string text;
  bool operator==(const LogLine&) const = default;
};

struct SwitchWords {
  config::Locale locale = config::Locale::kEnglish;  // not kAuto
  bool host_only = false;                            // no card: memory is 内存, not 显存
  // Roles that a model has ("chat", "knowledge"): one line each, also where they share an instance.
  std::function<std::vector<std::string>(const ModelId&)> roles_of;
  // Of a model, or of an upstream by its name; empty: all are local.
  std::function<Family(const ModelId&)> family_of;
};

// What there is to say when `change` has reached its stage; may be nothing.
std::vector<LogLine> switch_lines(const Switch& change, const SwitchWords& words);

// The release of one model that somebody asked to unload, from its beginning to its report.
std::vector<LogLine> unload_lines(const ModelId& model, const ReleaseReport& report,
                                  const SwitchWords& words);

// Somebody chose a local model that is loaded.
LogLine loaded_already(const SwitchWords& words);

// kAuto by the environment as gettext reads it: LC_ALL, LC_MESSAGES, LANG, the first that is set.
config::Locale resolve_locale(config::Locale chosen,
                              const std::function<std::string(const char*)>& environment);

}  // namespace lm::runtime
