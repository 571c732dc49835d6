#include "config/settings.h"

#include "config/schema.h"

namespace lm::config {

std::vector<Setting> settings(const Loaded& loaded) {
  std::vector<Setting> all;
  for (const Key& key : schema()) {
    std::vector<std::string> names = {""};
    const Section* named = nullptr;
    if (const std::size_t star = key.path.find('*'); star != std::string::npos) {
      named = find_section(std::string_view(key.path).substr(0, star + 1));
      names = named->names(loaded.config);
    }
    for (const std::string& name : names) {
      Config defaults;
      if (named != nullptr) named->create(defaults, name);
      Setting setting{.key = with_name(key.path, name),
                      .meaning = key.help,
                      .type = key.type,
                      .value = key.print(loaded.config, name),
                      .otherwise = key.print(defaults, name),
                      .restart = key.restart};
      if (const auto at = loaded.positions.find(setting.key); at != loaded.positions.end())
        setting.line = at->second.line;
      all.push_back(std::move(setting));
    }
  }
  return all;
}

}  // namespace lm::config
