// The program: its arguments and its streams, and the daemon that `serve` starts.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "app/replay.h"
#include "app/serve.h"
#include "cli/failure.h"
#include "cli/program.h"

namespace {

lm::cli::Outcome<void> serve(const lm::cli::ServeOptions& options) {
  const auto served = lm::app::serve({.config = options.config,
                                      .listen = options.listen,
                                      .models = options.models,
                                      .data = options.data,
                                      .log_level = options.log_level,
                                      .record = options.record,
                                      .lifeline = options.lifeline});
  if (served) return {};
  lm::cli::Failure failure = lm::cli::failure_of(served.error().error);
  failure.code = served.error().code == lm::app::NotStarted::kWrongSettings ? lm::cli::ExitCode::kUsage
                                                                            : lm::cli::ExitCode::kFailed;
  return std::unexpected(std::move(failure));
}

lm::cli::Outcome<void> replay(const std::filesystem::path& recording,
                              const lm::cli::Host::TellReplayed& tell) {
  const auto replayed = lm::app::replay(recording, [&](const lm::app::ReplayedLine& line) {
    tell({.at_s = lm::seconds(line.at), .is_command = line.is_command, .name = line.name, .text = line.text});
  });
  if (!replayed) return std::unexpected(lm::cli::failure_of(replayed.error()));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  lm::cli::Host host = lm::cli::process_host(serve);
  host.replay = replay;
  return lm::cli::run_program(std::vector<std::string>(argv + 1, argv + argc), std::move(host));
}
