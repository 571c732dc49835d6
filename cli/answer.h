// Showing one JSON answer: as it is with --json, else what the command makes of it.
#pragma once

#include <string>

#include <boost/json/value.hpp>

#include "cli/commands.h"
#include "cli/json_view.h"

namespace lm::cli {

// The answer is JSON as it came, without the line end that closes it.
inline void print_json(const Context& context, std::string_view answer) {
  while (answer.ends_with('\n')) answer.remove_suffix(1);
  context.out().line(answer);
}

// An answer of ours that is none.
Failure not_understood(const Daemon& daemon);
// A stream of ours that ended before its last event.
Failure connection_lost(const Daemon& daemon);

// `show` makes whole lines of the parsed value.
template <class Show>
ExitCode print_answer(Context& context, const Daemon& daemon, const Outcome<std::string>& answer, Show show) {
  if (!answer) return context.report(answer.error());
  if (context.json) {
    print_json(context, *answer);
    return ExitCode::kOk;
  }
  const auto value = parse_json(*answer);
  if (!value) return context.report(not_understood(daemon));
  context.out().write(show(*value));
  return ExitCode::kOk;
}

}  // namespace lm::cli
