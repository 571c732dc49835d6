// Every key of the configuration, once: parsing, the nearest known key, the example, the reload's differences
// and the reference all come from this table.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/yaml.h"

namespace lm::config {

struct Key {
  std::string path;     // "residency.linger", "models.*.device": * stands for a name of the owner's
  std::string type;     // "a duration such as 30s, 10min or 1h"
  std::string help;     // one line for people
  std::string example;  // a value to show where the default is nothing
  std::vector<std::string> aliases;  // other last words of the path
  bool restart = false;              // a change counts only after a restart
  // Puts the value in its place; the entry `name` exists. What is wrong, or nothing. A null leaves the
  // default.
  std::function<std::optional<std::string>(Config&, const std::string& name, const Node&)> read;
  // As YAML; empty where it is not set.
  std::function<std::string(const Config&, const std::string& name)> print;
};

// A part of the file whose entries the owner names ("models.*"), or a part with keys of ours ("residency").
struct Section {
  std::string path;
  std::string help;
  bool lenient = false;      // unknown keys are told, not refused: files of other programs keep working
  bool at_restart = false;   // entries that come and go count from the next start on
  std::string example_name;  // stands for * in the example
  std::function<void(Config&, const std::string& name)> create;
  std::function<std::vector<std::string>(const Config&)> names;
};

// In the order of the example.
const std::vector<Key>& schema();
const std::vector<Section>& sections();

// The section of exactly that path; nullptr where there is none.
const Section* find_section(std::string_view path);

// The last part of "a.b.c".
std::string_view last_word(std::string_view path);
std::string_view parent(std::string_view path);

// "providers.openai.models" of "providers.*.models" and "openai".
std::string with_name(std::string_view path, std::string_view name);

}  // namespace lm::config
