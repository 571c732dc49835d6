#include "cli/exit_code.h"

#include <algorithm>
#include <array>

namespace lm::cli {

ExitCode exit_code_of(const Error& error) {
  constexpr std::array<std::string_view, 7> kNoDaemon = {
      "connect_failed", "connect_timeout", "tls_failed",        "connection_lost",
      "bad_upstream",   "silence_timeout", "first_byte_timeout"};
  if (std::ranges::find(kNoDaemon, error.reason) != kNoDaemon.end()) return ExitCode::kUnreachable;
  if (error.reason == "interrupted") return ExitCode::kInterrupted;
  if (error.reason == "bad_url" || error.reason == "usage") return ExitCode::kUsage;
  if (error.reason == "insufficient_memory") return ExitCode::kOutOfMemory;
  if (error.code == ErrorCode::kNotFound) return ExitCode::kNotFound;
  return ExitCode::kFailed;
}

ExitCode exit_code_of_answer(int http_status, std::string_view code) {
  if (http_status == 507 || code == "insufficient_memory") return ExitCode::kOutOfMemory;
  // A route that is not there is an older daemon's, not a missing model.
  if (code == "no_such_route") return ExitCode::kFailed;
  if (http_status == 404 || code == "model_not_found" || code == "not_found") return ExitCode::kNotFound;
  return ExitCode::kFailed;
}

std::string_view exit_code_help() {
  return "Exit codes:\n"
         "  0    it worked (also: there was nothing to do)\n"
         "  1    the daemon refused, or the operation failed\n"
         "  2    the command line is wrong\n"
         "  3    no daemon answers; start one with: llm-manager serve\n"
         "  4    no such model or file\n"
         "  5    not enough memory, or no room on the disk\n"
         "  130  interrupted with Ctrl-C\n";
}

}  // namespace lm::cli
