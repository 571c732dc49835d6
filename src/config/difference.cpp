#include "config/difference.h"

#include <algorithm>

#include <fmt/format.h>

#include "config/schema.h"

namespace lm::config {
namespace {

constexpr std::string_view kAdded = "added", kRemoved = "removed", kChanged = "changed";

void compare_secret(std::vector<Change>& changes, const std::string& key, const Secret& before,
                    const Secret& after, bool restart) {
  if (before == after) return;
  if (!before.empty() && !after.empty()) {
    changes.push_back(
        {.key = key, .before = std::string(kChanged), .after = std::string(kChanged), .restart = restart});
  } else {
    changes.push_back({.key = key,
                       .before = std::string(to_string(before)),
                       .after = std::string(to_string(after)),
                       .restart = restart});
  }
}

}  // namespace

std::string to_string(const Change& change) {
  const std::string tail = change.restart ? " (needs a restart)" : "";
  for (const std::string_view word : {kAdded, kRemoved, kChanged}) {
    if (change.after == word && (word != kChanged || change.before == word))
      return fmt::format("{}: {}{}", change.key, word, tail);
  }
  const auto shown = [](const std::string& value) { return value.empty() ? std::string("not set") : value; };
  return fmt::format("{}: {} → {}{}", change.key, shown(change.before), shown(change.after), tail);
}

std::vector<Change> diff(const Config& before, const Config& after) {
  std::vector<Change> changes;
  for (const Section& section : sections()) {
    if (!section.names) continue;
    const auto old_names = section.names(before);
    const auto new_names = section.names(after);
    for (const std::string& name : new_names) {
      if (std::ranges::find(old_names, name) != old_names.end()) continue;
      changes.push_back({.key = with_name(section.path, name),
                         .before = {},
                         .after = std::string(kAdded),
                         .restart = section.at_restart});
    }
    for (const std::string& name : old_names) {
      if (std::ranges::find(new_names, name) != new_names.end()) continue;
      changes.push_back({.key = with_name(section.path, name),
                         .before = {},
                         .after = std::string(kRemoved),
                         .restart = section.at_restart});
    }
  }
  for (const Key& key : schema()) {
    std::vector<std::string> names = {""};
    if (const std::size_t star = key.path.find('*'); star != std::string::npos) {
      names = find_section(std::string_view(key.path).substr(0, star + 1))->names(before);
      const auto still = find_section(std::string_view(key.path).substr(0, star + 1))->names(after);
      std::erase_if(
          names, [&still](const std::string& name) { return std::ranges::find(still, name) == still.end(); });
    }
    for (const std::string& name : names) {
      std::string old_value = key.print(before, name);
      std::string new_value = key.print(after, name);
      if (old_value == new_value) continue;
      changes.push_back({.key = with_name(key.path, name),
                         .before = std::move(old_value),
                         .after = std::move(new_value),
                         .restart = key.restart});
    }
  }
  compare_secret(changes, "server.keys.user", before.server.user_key.value, after.server.user_key.value,
                 false);
  compare_secret(changes, "server.keys.admin", before.server.admin_key.value, after.server.admin_key.value,
                 false);
  compare_secret(changes, "discord.token", before.discord.token.value, after.discord.token.value, true);
  for (const auto& [name, provider] : after.providers) {
    if (const auto it = before.providers.find(name); it != before.providers.end()) {
      compare_secret(changes, fmt::format("providers.{}.api_key", name), it->second.api_key.value,
                     provider.api_key.value, false);
    }
  }
  for (const auto& [name, client] : after.server.clients) {
    if (const auto it = before.server.clients.find(name); it != before.server.clients.end()) {
      compare_secret(changes, fmt::format("server.clients.{}.key", name), it->second.key.value,
                     client.key.value, true);
    }
  }
  return changes;
}

}  // namespace lm::config
