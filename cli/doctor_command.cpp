// doctor: what the client can see for itself, then what the daemon says.
#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "base/bytes.h"
#include "cli/commands.h"
#include "cli/configuration.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "cli/version.h"
#include "os/file.h"

namespace lm::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLittleDisk = 1;  // GiB

struct Check {
  std::string name;
  std::string status;  // "ok", "warning", "problem"
  std::string message;
  std::string fix;
};

// In the order of $PATH: the folder where `program` is found first.
std::optional<fs::path> found_on_path(const std::string& path, const char* program) {
  std::size_t begin = 0;
  while (begin <= path.size()) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    fs::path candidate = fs::path(path.substr(begin, end - begin)) / program;
    if (candidate.is_absolute() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    begin = end + 1;
  }
  return std::nullopt;
}

Check check_path(const Context& context) {
  const auto found = found_on_path(context.host.environment("PATH").value_or(""), "llm-manager");
  if (!found) {
    return {"command", "warning", "llm-manager is not on your PATH",
            "put ~/.local/bin on it: export PATH=\"$HOME/.local/bin:$PATH\""};
  }
  const auto own = os::own_executable();
  std::error_code error;
  if (own && !fs::equivalent(*found, *own, error)) {
    return {"command", "warning",
            fmt::format("the shell finds another llm-manager first: {}", found->string()),
            "remove it, or put the folder of this one first on PATH"};
  }
  return {"command", "ok", fmt::format("llm-manager {} at {}", version(), found->string()), {}};
}

// `daemons`: the file that the daemon which answers has read; empty where none answers.
Check check_config(const std::optional<fs::path>& daemons) {
  if (daemons && daemons->empty())
    return {"configuration", "ok", "the daemon has read none; the defaults count", {}};
  std::error_code error;
  // Of a daemon on another machine nothing can be seen here.
  const bool theirs = daemons && fs::exists(*daemons, error);
  const auto checked = check_configuration(theirs ? *daemons : fs::path());
  if (!checked)
    return {"configuration", "problem", checked.error().message,
            "llm-manager config check says the same after each change"};
  const std::string file = checked->file.empty() ? "none; the defaults count" : checked->file.string();
  if (checked->warnings.empty())
    return {"configuration", "ok", theirs ? file + ", which the daemon has read" : file, {}};
  // Most begin with the file and the line.
  const std::string& first = checked->warnings.front();
  return {"configuration", "warning", first.starts_with(file) ? first : fmt::format("{}: {}", file, first),
          "llm-manager config check tells all"};
}

// `daemons`: where the daemon that answers keeps its data; empty where none does.
Check check_folder(const Context& context, fs::path daemons) {
  fs::path data = std::move(daemons);
  std::error_code error;
  // Of a daemon on another machine nothing can be seen here.
  if (data.empty() || !fs::exists(data, error)) {
    const auto folders =
        os::Folders::standard([&](const char* name) { return context.host.environment(name); });
    if (!folders) return {"data folder", "problem", folders.error().message, "set HOME"};
    data = folders->data;
  }
  fs::path existing = data;
  while (!existing.empty() && !fs::exists(existing, error) && existing != existing.root_path())
    existing = existing.parent_path();
  if (::access(existing.c_str(), W_OK) != 0) {
    return {"data folder", "problem", fmt::format("{} cannot be written", existing.string()),
            "make it yours, or start with llm-manager serve --data FOLDER"};
  }
  const auto space = fs::space(existing, error);
  if (error) return {"data folder", "ok", data.string(), {}};
  const Bytes available(static_cast<std::int64_t>(space.available));
  if (available < gib(kLittleDisk)) {
    return {"data folder", "warning", fmt::format("{} are left for {}", to_string(available), data.string()),
            "make room on that disk"};
  }
  return {"data folder", "ok", fmt::format("{}, {} left", data.string(), to_string(available)), {}};
}

Check check_card() {
  std::error_code error;
  const bool has_nvidia = fs::exists("/dev/nvidiactl", error);
  const bool has_amd = fs::exists("/dev/kfd", error);
  if (!has_nvidia && !has_amd)
    return {"card", "ok", "no NVIDIA or AMD card is visible here; models run on the host", {}};
  const char* device = has_nvidia ? "/dev/nvidiactl" : "/dev/kfd";
  if (::access(device, R_OK | W_OK) == 0) return {"card", "ok", fmt::format("{} can be opened", device), {}};
  return {"card", "problem", fmt::format("there is a card, but {} may not be opened by you", device),
          "join the group that owns it: sudo usermod -aG render,video \"$USER\", then log in again"};
}

// What the daemon says of itself; the first check is whether there is one.
struct DaemonSays {
  std::string checks;              // the answer of /api/v1/diagnose
  fs::path data;                   // its data folder
  std::optional<fs::path> config;  // what it has read; an empty path: nothing
};

std::vector<Check> check_daemon(Context& context, DaemonSays& says) {
  auto daemon = context.daemon();
  if (!daemon) return {{"daemon", "problem", daemon.error().message, "correct LLM_MANAGER_URL or --url"}};
  const auto system = daemon->get("/api/v1/system", Patience::kQuick);
  if (!system) {
    if (system.error().code == ExitCode::kUnreachable) {
      return {{"daemon", "warning", fmt::format("no daemon answers at {}", daemon->address()),
               "start one: llm-manager serve"}};
    }
    return {{"daemon", "problem", system.error().message, "look at its log: llm-manager logs"}};
  }
  std::vector<Check> checks;
  const auto value = parse_json(*system);
  const std::string theirs(value ? text_of(*value, "version") : std::string_view());
  if (value) {
    says.data = std::string(text_of(*value, "data"));
    says.config = std::string(text_of(*value, "config_file"));
  }
  if (theirs == version()) {
    checks.push_back({"daemon", "ok", fmt::format("{} answers at {}", theirs, daemon->address()), {}});
  } else {
    checks.push_back({"daemon", "warning",
                      fmt::format("the daemon is version {}, this program {}", theirs, version()),
                      "end the daemon and start it again: llm-manager serve"});
  }
  const auto answer = daemon->get("/api/v1/diagnose");
  if (answer) {
    says.checks = *answer;
  } else {
    checks.push_back({"diagnosis", "problem", answer.error().message, "look at its log: llm-manager logs"});
  }
  return checks;
}

}  // namespace

ExitCode run(Context& context, const DoctorOptions&) {
  DaemonSays says;
  std::vector<Check> of_daemon = check_daemon(context, says);
  std::vector<Check> checks = {check_path(context), check_config(says.config),
                               check_folder(context, says.data), check_card()};
  for (Check& check : of_daemon) checks.push_back(std::move(check));

  boost::json::array all;
  for (const Check& check : checks) {
    all.push_back(
        {{"name", check.name}, {"status", check.status}, {"message", check.message}, {"fix", check.fix}});
  }
  if (const auto value = parse_json(says.checks)) {
    if (const auto* theirs = array_of(*value, "checks"); theirs != nullptr)
      all.insert(all.end(), theirs->begin(), theirs->end());
  }
  bool has_problem = false;
  std::string text;
  const Stream& out = context.out();
  for (const auto& check : all) {
    const std::string_view status = text_of(check, "status");
    has_problem = has_problem || status == "problem";
    const Colour colour = status == "ok"        ? Colour::kGreen
                          : status == "problem" ? Colour::kRed
                                                : Colour::kYellow;
    text += fmt::format("{}  {}: {}\n", coloured(out, colour, pad_right(printable(status), 7)),
                        printable(text_of(check, "name")), printable(text_of(check, "message")));
    if (const auto fix = text_of(check, "fix"); status != "ok" && !fix.empty())
      text += fmt::format("         {}\n", printable(fix));
  }
  if (context.json) {
    context.out().line(boost::json::serialize(boost::json::object{{"checks", std::move(all)}}));
  } else {
    out.write(text);
  }
  return has_problem ? ExitCode::kFailed : ExitCode::kOk;
}

}  // namespace lm::cli
