// completion and version.
#include <string>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/completion.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/version.h"

namespace lm::cli {

ExitCode run(Context& context, const CompletionOptions& options) {
  // The parser lets no other shell through.
  const std::string script = completion_script(options.shell, command_shapes()).value_or("");
  if (context.json) {
    context.out().line(
        boost::json::serialize(boost::json::object{{"shell", options.shell}, {"script", script}}));
  } else {
    context.out().write(script);
  }
  return ExitCode::kOk;
}

// A shell asks while somebody types: no daemon means no names, and no words about it.
ExitCode run(Context& context, const ModelNamesOptions&) {
  auto daemon = context.daemon();
  if (!daemon) return daemon.error().code;
  const auto answer = daemon->get("/api/v1/models", Patience::kQuick);
  if (!answer) return answer.error().code;
  const auto value = parse_json(*answer);
  const auto* models = value ? array_of(*value, "models") : nullptr;
  if (models == nullptr) return ExitCode::kFailed;
  const auto print = [&](std::string_view name) {
    // A shell would take such a name apart.
    if (!name.empty() && name.find_first_of(" \t\n'\"$`\\;&|<>()*?") == std::string_view::npos)
      context.out().line(printable(name));
  };
  for (const auto& model : *models) {
    print(text_of(model, "id"));
    for (const std::string_view key : {"aliases", "roles"}) {
      const auto* names = array_of(model, key);
      if (names == nullptr) continue;
      for (const auto& name : *names) {
        if (name.is_string()) print(std::string_view(name.get_string()));
      }
    }
  }
  return ExitCode::kOk;
}

ExitCode run(Context& context, const VersionOptions&) {
  boost::json::object answer{{"version", version()}, {"daemon", nullptr}};
  std::string theirs = "no daemon answers";
  if (auto daemon = context.daemon()) {
    if (const auto system = daemon->get("/api/v1/system", Patience::kQuick)) {
      if (const auto value = parse_json(*system)) {
        theirs =
            printable(fmt::format("the daemon at {} is {}", daemon->address(), text_of(*value, "version")));
        answer["daemon"] = *value;
      }
    } else if (system.error().code == ExitCode::kInterrupted) {
      return system.error().code;
    }
  }
  if (context.json) {
    context.out().line(boost::json::serialize(answer));
  } else {
    context.out().line(fmt::format("llm-manager {}; {}", version(), theirs));
  }
  return ExitCode::kOk;
}

}  // namespace lm::cli
