#include "cli/program.h"

#include <cerrno>
#include <cstdlib>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "base/clock.h"
#include "cli/commands.h"
#include "cli/display_width.h"

namespace lm::cli {
namespace {

std::optional<std::string> read_standard_input(const Interrupts* interrupts) {
  std::string text;
  char buffer[65536];
  for (;;) {
    if (interrupts != nullptr && !interrupts->wait_readable(STDIN_FILENO)) return std::nullopt;
    const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

// Commands that wait for the daemon or for people take Ctrl-C into their own hands; the others just end.
bool waits(const Command& command) {
  return !std::holds_alternative<ConfigExampleOptions>(command) &&
         !std::holds_alternative<ConfigCheckOptions>(command) &&
         !std::holds_alternative<CompletionOptions>(command) &&
         !std::holds_alternative<ReplayOptions>(command) &&
         !std::holds_alternative<SimulateOptions>(command) &&
         !std::holds_alternative<PullChildOptions>(command) &&
         !std::holds_alternative<ModelNamesOptions>(command);
}

// An answer that did not arrive is no success. Nobody is left to be told that nobody reads, as behind `head`.
int told(ExitCode code, const Console& console) {
  const int lost = console.out.lost ? *console.out.lost : 0;
  if (lost == 0 || lost == EPIPE) return to_int(code);
  console.err.line(coloured(console.err, Colour::kRed, "error") +
                   ": the output could not be written: " + std::generic_category().message(lost));
  return to_int(code == ExitCode::kOk ? ExitCode::kFailed : code);
}

}  // namespace

Outcome<Daemon> Context::daemon() const {
  auto daemon = Daemon::at(url, api_key, interrupts);
  if (!daemon) return std::unexpected(failure_of(daemon.error()));
  const auto user = host.environment("USER");
  daemon->set_client_name(user && !user->empty() ? *user + " (llm-manager)" : "the command line");
  return *std::move(daemon);
}

ExitCode Context::report(const Failure& failure) const {
  if (json) {
    std::string_view object = failure.json;
    while (object.ends_with('\n')) object.remove_suffix(1);
    out().line(object);
  }
  err().line(coloured(err(), Colour::kRed, "error") + ": " + printable(failure.message));
  return failure.code;
}

Host process_host(std::function<Outcome<void>(const ServeOptions&)> serve) {
  Host host;
  host.environment = [](std::string_view name) -> std::optional<std::string> {
    const char* value = std::getenv(std::string(name).c_str());
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
  host.console = process_console(host.environment);
  host.serve = std::move(serve);
  host.read_input = read_standard_input;
  host.now_ms = unix_time_ms;
  host.input = STDIN_FILENO;
  host.input_is_terminal = ::isatty(STDIN_FILENO) == 1;
  return host;
}

int run_program(const std::vector<std::string>& arguments, Host host) {
  const auto parsed = parse_arguments(arguments);
  if (!parsed) {
    const Usage& usage = parsed.error();
    if (usage.json) {
      host.console.out.line(boost::json::serialize(
          boost::json::object{{"error",
                               {{"message", usage.text.substr(0, usage.text.find('\n'))},
                                {"type", "client_error"},
                                {"code", "usage"},
                                {"param", nullptr}}}}));
    }
    (usage.code == ExitCode::kOk ? host.console.out : host.console.err).write(usage.text);
    return told(usage.code, host.console);
  }
  if (const auto* serve = std::get_if<ServeOptions>(&parsed->command)) {
    const auto served = host.serve(*serve);
    const Context context{
        .host = host, .interrupts = nullptr, .url = {}, .api_key = {}, .json = parsed->json};
    return to_int(served ? ExitCode::kOk : context.report(served.error()));
  }

  std::optional<Interrupts> interrupts;
  if (host.catches_interrupts && waits(parsed->command)) interrupts.emplace();
  std::string url = parsed->url;
  if (url.empty()) url = host.environment("LLM_MANAGER_URL").value_or("");
  if (url.empty()) url = kDefaultUrl;
  Context context{.host = host,
                  .interrupts = interrupts ? &*interrupts : nullptr,
                  .url = std::move(url),
                  .api_key = host.environment("LLM_MANAGER_API_KEY").value_or(""),
                  .json = parsed->json};
  const ExitCode code = std::visit(
      [&](const auto& options) -> ExitCode {
        if constexpr (std::is_same_v<std::decay_t<decltype(options)>, ServeOptions>) {
          std::unreachable();
        } else {
          return run(context, options);
        }
      },
      parsed->command);
  return told(code, host.console);
}

}  // namespace lm::cli
