// How a client comes to its daemon.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

namespace llm_manager {

struct Options {
  // A running daemon: "http://host:port", "host:port", "unix:/path". Empty: the environment's
  // LLM_MANAGER_URL; without that a private daemon is started, which ends with this client or with this
  // process, however that ends.
  std::string url;
  // Empty: the environment's LLM_MANAGER_API_KEY.
  std::string api_key;
  // The configuration in YAML or JSON, in the shape of `llm-manager config example`; relative paths start
  // from the working folder. A private daemon takes all of it; of a running daemon the models are its own,
  // and only the section `vtuber` counts. Unknown sections are fine. Empty: the file below; without one the
  // defaults.
  std::string configuration;
  std::filesystem::path configuration_file;
  // The program of a private daemon. Empty: the environment's LLM_MANAGER_PROGRAM, else llm-manager beside
  // this library, where this library was installed, or in PATH.
  std::filesystem::path program;
  // Where a private daemon keeps its state; empty: the user's data folder, shared by one daemon after the
  // other, so that what was imported and learned is found again.
  std::filesystem::path data;
  // The longest that a private daemon may take until it can be used.
  std::chrono::milliseconds start_limit = std::chrono::seconds(30);
  // Who asks, in the daemon's log and decisions. Empty: this program's name.
  std::string client_name;
};

}  // namespace llm_manager
