// `llm-manager serve`: the daemon, from its options to its exit code.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lm::app {

struct ServeOptions {
  std::filesystem::path config;               // empty: the search path
  std::string listen;                         // "HOST:PORT"; empty: the configuration's
  std::vector<std::filesystem::path> models;  // model folders beside the configuration's
  std::filesystem::path data;                 // empty: the user's data folder
  std::string log_level;                      // empty: the configuration's
};

// Runs until SIGTERM or SIGINT. Prints "listening on http://HOST:PORT" on standard output once it can be
// used. 0: it stopped as it was told; 1: it could not start, and said why on standard error; 2: the
// configuration is wrong.
int serve(const ServeOptions& options);

}  // namespace lm::app
