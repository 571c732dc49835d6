// The program as a function: arguments in, exit code out. Everything it touches is in Host, so that tests can
// be one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/arguments.h"
#include "cli/console.h"
#include "cli/failure.h"
#include "cli/interrupts.h"

namespace lm::cli {

struct Host {
  Console console;
  Lookup environment;
  std::function<Outcome<void>(const ServeOptions&)> serve;  // returns when the daemon has ended
  // One event, or a command that follows from it; `at_s` counts from the first.
  struct ReplayedLine {
    double at_s = 0;
    bool is_command = false;
    std::string_view name, text;
  };
  using TellReplayed = std::function<void(const ReplayedLine&)>;
  std::function<Outcome<void>(const std::filesystem::path&, const TellReplayed&)> replay;
  // All of standard input; blocks until its end. nullopt: Ctrl-C, which nobody has taken yet. `interrupts`
  // may be null.
  std::function<std::optional<std::string>(const Interrupts*)> read_input;
  std::function<std::int64_t()> now_ms;  // milliseconds since 1970
  int input = -1;                        // standard input's descriptor; -1: none
  bool input_is_terminal = false;
  bool catches_interrupts = true;  // false: Ctrl-C ends the process, as tests want it
};

// Of this process.
Host process_host(std::function<Outcome<void>(const ServeOptions&)> serve);

// Blocks until the command has ended. `arguments` without the program's name.
int run_program(const std::vector<std::string>& arguments, Host host);

}  // namespace lm::cli
