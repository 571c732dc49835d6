// `llm-manager serve`: the daemon, from its options to its exit code.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"

namespace lm::app {

struct ServeOptions {
  std::filesystem::path config;               // empty: the search path; "-": standard input
  std::string listen;                         // "HOST:PORT"; empty: the configuration's
  std::vector<std::filesystem::path> models;  // model folders beside the configuration's
  std::filesystem::path data;                 // empty: the user's data folder
  std::string log_level;                      // empty: the configuration's
  std::filesystem::path record;               // the event log; empty: LLM_MANAGER_EVENT_LOG, else none
  // The lifeline of a daemon that a program has started for itself: a descriptor whose other end that program
  // holds. It then keeps its state in the first folder of DATA/private that nobody uses, listens on a Unix
  // socket of its own ("listening on unix:PATH"), is silent on standard error from then on, and ends when the
  // other end is closed; answers are cut then, since nobody is left to read them. -1: it is everybody's.
  int lifeline = -1;
};

// Why it could not start, and the exit code that says so to scripts.
struct NotStarted {
  enum Code : std::uint8_t { kCannotStart = 1, kWrongSettings = 2 } code = kCannotStart;
  Error error;
};

// Runs until SIGTERM or SIGINT. Prints "listening on http://HOST:PORT" on standard output once it can be
// used, then what to do next (app/next_steps.h). It says nothing else there: whoever called tells why it did not start.
std::expected<void, NotStarted> serve(const ServeOptions& options);

}  // namespace lm::app
