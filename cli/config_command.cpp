// config example, config check: no daemon needed.
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/configuration.h"
#include "cli/display_width.h"
#include "config/disk_check.h"
#include "config/example.h"
#include "config/sources.h"
#include "http/server.h"
#include "hub/source.h"
#include "os/file.h"

namespace lm::cli {

namespace {

// What only the daemon would find when it opens its doors.
Result<void> check_listening(const config::Loaded& loaded) {
  const config::Server& server = loaded.config.server;
  std::string host = server.listen.substr(0, server.listen.rfind(':'));
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  // A variable that the file names may be set where the daemon runs.
  const bool has_keys = !server.user_key.value.empty() || !server.admin_key.value.empty() ||
                        loaded.positions.contains("server.keys.user_env") ||
                        loaded.positions.contains("server.keys.admin_env") || !server.clients.empty();
  auto checked = http::check_listen(host, has_keys);
  if (checked) return {};
  Error error = std::move(checked).error();
  error.message = config::to_string(config::Problem{.file = loaded.file.string(),
                                                    .at = loaded.position("server.listen"),
                                                    .key = "server.listen",
                                                    .message = error.message});
  return fail(std::move(error));
}

}  // namespace

Result<CheckedConfiguration> check_configuration(const std::filesystem::path& chosen) {
  std::error_code error;
  const auto here = std::filesystem::current_path(error);
  if (error)
    return fail(ErrorCode::kFailedPrecondition, "the working folder is gone; change to another one",
                "io_error");
  std::optional<std::filesystem::path> file;
  if (!chosen.empty()) file = chosen;
  LM_TRY(const config::Sources sources, config::find_sources(file, here, config::process_environment()));
  LM_TRY(config::Loaded loaded, config::load(sources));
  CheckedConfiguration checked{.file = loaded.file, .warnings = {}, .models = loaded.config.models.size()};
  for (const auto& warning : loaded.warnings) checked.warnings.push_back(config::to_string(warning));
  LM_TRY(const auto key_warnings, config::read_key_files(loaded.config));
  for (const auto& warning : key_warnings) checked.warnings.push_back(config::to_string(warning));
  LM_TRY_VOID(check_listening(loaded));
  // Where `serve` looks too, when the file names no folder.
  std::vector<std::filesystem::path> fetched;
  if (const auto folders = os::Folders::standard();
      folders && loaded.config.model_folders.empty() &&
      std::filesystem::is_directory(folders->cache / "models", error))
    fetched.push_back(folders->cache / "models");
  const auto is_source = [](const std::string& path) { return hub::named_source(path).has_value(); };
  for (const auto& warning : config::check_disk(loaded, fetched, is_source))
    checked.warnings.push_back(config::to_string(warning));
  return checked;
}

ExitCode run(Context& context, const ConfigExampleOptions&) {
  const std::string example = config::config_example();
  if (context.json) {
    context.out().line(boost::json::serialize(boost::json::object{{"example", example}}));
  } else {
    context.out().write(example);
  }
  return ExitCode::kOk;
}

ExitCode run(Context& context, const ConfigCheckOptions& options) {
  const auto checked = check_configuration(options.file);
  if (!checked) return context.report(checked.error());
  if (context.json) {
    context.out().line(boost::json::serialize(boost::json::object{
        {"file", checked->file.string()},
        {"models", checked->models},
        {"warnings", boost::json::array(checked->warnings.begin(), checked->warnings.end())}}));
    return ExitCode::kOk;
  }
  for (const std::string& warning : checked->warnings) {
    context.out().line(coloured(context.out(), Colour::kYellow, "warning") + ": " + printable(warning));
  }
  if (checked->file.empty()) {
    context.out().line(
        "there is no configuration, so the defaults count; llm-manager config example prints one");
  } else {
    context.out().line(
        printable(fmt::format("{} is good: {} model{}, {} warning{}", checked->file.string(), checked->models,
                              checked->models == 1 ? "" : "s", checked->warnings.size(),
                              checked->warnings.size() == 1 ? "" : "s")));
  }
  return ExitCode::kOk;
}

}  // namespace lm::cli
