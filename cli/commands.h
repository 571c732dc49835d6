// Every command of the program: what it is given, and the exit code that it ends with. All of them block.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/arguments.h"
#include "cli/daemon.h"
#include "cli/failure.h"
#include "cli/program.h"

namespace lm::cli {

// Lent to a command for its time.
struct Context {
  Host& host;
  Interrupts* interrupts;  // null where Ctrl-C ends the process
  std::string url;
  std::string api_key;
  bool json = false;

  const Stream& out() const { return host.console.out; }
  const Stream& err() const { return host.console.err; }

  Outcome<Daemon> daemon() const;
  // Says the sentence on standard error; with --json the object on standard output too. Returns the code.
  ExitCode report(const Failure& failure) const;
  ExitCode report(const Error& error) const { return report(failure_of(error)); }
};

// models_command.cpp
ExitCode run(Context& context, const ListOptions& options);
ExitCode run(Context& context, const PsOptions& options);
ExitCode run(Context& context, const LoadOptions& options);
ExitCode run(Context& context, const SwitchOptions& options);
ExitCode run(Context& context, const UnloadOptions& options);
ExitCode run(Context& context, const PinOptions& options);
ExitCode run(Context& context, const InspectOptions& options);
ExitCode run(Context& context, const PlanOptions& options);
// chat_command.cpp
ExitCode run(Context& context, const ChatOptions& options);
// embed_command.cpp
ExitCode run(Context& context, const EmbedOptions& options);
// top_command.cpp
ExitCode run(Context& context, const TopOptions& options);
// watch_command.cpp
ExitCode run(Context& context, const ExplainOptions& options);
ExitCode run(Context& context, const EventsOptions& options);
// logs_command.cpp
ExitCode run(Context& context, const LogsOptions& options);
// doctor_command.cpp
ExitCode run(Context& context, const DoctorOptions& options);
// config_command.cpp
ExitCode run(Context& context, const ConfigExampleOptions& options);
ExitCode run(Context& context, const ConfigCheckOptions& options);
// pull_command.cpp
ExitCode run(Context& context, const PullOptions& options);
ExitCode run(Context& context, const PullsOptions& options);
ExitCode run(Context& context, const RemoveOptions& options);
ExitCode run(Context& context, const PullChildOptions& options);
// conversations_command.cpp
ExitCode run(Context& context, const ConversationsOptions& options);
ExitCode run(Context& context, const ConversationShowOptions& options);
ExitCode run(Context& context, const ConversationExportOptions& options);
ExitCode run(Context& context, const ConversationRemoveOptions& options);
ExitCode run(Context& context, const ConversationRenameOptions& options);
// replay_command.cpp
ExitCode run(Context& context, const ReplayOptions& options);
// simulate_command.cpp
ExitCode run(Context& context, const SimulateOptions& options);
// completion_command.cpp
ExitCode run(Context& context, const CompletionOptions& options);
ExitCode run(Context& context, const ModelNamesOptions& options);
ExitCode run(Context& context, const VersionOptions& options);

// Where a daemon is looked for where nothing else is said.
inline constexpr std::string_view kDefaultUrl = "http://127.0.0.1:11435";

}  // namespace lm::cli
