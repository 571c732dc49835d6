// What the program's end tells a script. Documented in `--help` and docs/cli.md; the numbers never change.
#pragma once

#include <string_view>

#include "base/error.h"

namespace lm::cli {

enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,         // the daemon refused, or the operation failed
  kUsage = 2,          // the command line is wrong
  kUnreachable = 3,    // no daemon answers
  kNotFound = 4,       // no such model, file or folder
  kOutOfMemory = 5,    // it does not fit, into memory or onto the disk
  kInterrupted = 130,  // Ctrl-C
};

constexpr int to_int(ExitCode code) {
  return static_cast<int>(code);
}

// Of an error that this program has found itself: of the network, of a file, of the configuration.
ExitCode exit_code_of(const Error& error);

// Of what the daemon has answered; `code` is the error object's, empty where there was none.
ExitCode exit_code_of_answer(int http_status, std::string_view code);

// The table of the codes, as `--help` shows it.
std::string_view exit_code_help();

}  // namespace lm::cli
