// Why a command did not work: a sentence for people, an object for programs, a code for scripts. A plain
// value.
#pragma once

#include <expected>
#include <string>
#include <string_view>

#include "base/error.h"
#include "cli/exit_code.h"

namespace lm::cli {

struct Failure {
  ExitCode code = ExitCode::kFailed;
  std::string message;  // one sentence with what to do, without "error:"
  std::string json;     // {"error": {...}}, exactly the daemon's where it came from there
};

template <class T>
using Outcome = std::expected<T, Failure>;

// Ctrl-C.
Failure interrupted();

// An error of this program's own, in the daemon's shape.
Failure failure_of(const Error& error);

// The daemon's answer with a status of 400 and above, or an error event of a stream (`http_status` 0).
// `daemon` is its address, for the message where the answer is not one of ours.
Failure failure_of_answer(int http_status, std::string_view body, std::string_view daemon);

// No daemon, or one that went away in the middle: what http's client says, turned into what to do.
Failure failure_of_network(const Error& error, std::string_view daemon);

}  // namespace lm::cli
