// What the configuration comes to, key by key, with what each means: for people who look, not for programs
// that decide.
#pragma once

#include <string>
#include <vector>

#include "config/load.h"

namespace lm::config {

struct Setting {
  std::string key;        // "models.llm.max_length"
  std::string meaning;    // a line for people; empty where the key before it says it
  std::string type;       // what may stand there: "a duration such as 30s, 10min or 1h"
  std::string value;      // as YAML; empty: nothing is set, and nothing is meant
  std::string otherwise;  // what is meant where the key is not written
  int line = 0;           // of the file; 0: it is not written there
  bool restart = false;   // a change counts only after a restart
};

// In the order of the schema: every key of ours, and of what the owner names those of each name. Keys and
// tokens themselves are no settings: where they stand is.
std::vector<Setting> settings(const Loaded& loaded);

}  // namespace lm::config
