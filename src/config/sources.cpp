#include "config/sources.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>
#include <unistd.h>

#include <fmt/format.h>

namespace lm::config {
namespace {

constexpr std::size_t kLargestFile = std::size_t{4}
                                     << 20;  // beyond what parse_yaml takes, so that it can say so
constexpr std::size_t kLargestKey = 64 << 10;

Result<std::string> read_text(const std::filesystem::path& path, std::size_t limit) {
  std::error_code status_error;
  if (std::filesystem::is_directory(path, status_error)) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} is a folder, not a file", path.string()),
                "io_error");
  }
  errno = 0;
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    const std::string why = errno != 0 ? std::generic_category().message(errno) : "cannot be opened";
    return fail(ErrorCode::kFailedPrecondition, fmt::format("reading {}: {}", path.string(), why),
                "io_error");
  }
  std::string text(limit + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream.bad())
    return fail(ErrorCode::kFailedPrecondition, fmt::format("reading {} failed", path.string()), "io_error");
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.size() > limit) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} is larger than {} bytes", path.string(), limit),
                "file_too_large");
  }
  return text;
}

// Symlinks and named pipes are fine; folders are not configurations.
bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  return !error && std::filesystem::exists(status) && !std::filesystem::is_directory(status);
}

}  // namespace

std::map<std::string, std::string> process_environment() {
  std::map<std::string, std::string> variables;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals == std::string_view::npos || equals == 0) continue;
    variables.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return variables;
}

std::vector<std::filesystem::path> search_path(const std::filesystem::path& working_folder,
                                               const std::map<std::string, std::string>& environment) {
  const auto variable = [&environment](const char* name) -> std::filesystem::path {
    const auto it = environment.find(name);
    return it == environment.end() ? std::filesystem::path() : std::filesystem::path(it->second);
  };
  std::vector<std::filesystem::path> paths = {working_folder / "llm-manager.yaml"};
  std::filesystem::path home = variable("XDG_CONFIG_HOME");
  if (!home.is_absolute())
    home = variable("HOME").empty() ? std::filesystem::path() : variable("HOME") / ".config";
  if (!home.empty()) paths.push_back(home / "llm-manager" / "config.yaml");
  paths.emplace_back("/etc/llm-manager/config.yaml");
  return paths;
}

Result<Sources> find_sources(const std::optional<std::filesystem::path>& chosen,
                             const std::filesystem::path& working_folder,
                             std::map<std::string, std::string> environment) {
  Sources sources{
      .config = {}, .dotenv = {}, .environment = std::move(environment), .working_folder = working_folder};
  std::optional<std::filesystem::path> file;
  if (chosen && *chosen == "-") {
    // Relative paths in it start from where we are.
    LM_TRY(std::string text, read_text("/dev/stdin", kLargestFile));
    sources.config = SourceText{.path = working_folder / "(standard input)", .text = std::move(text)};
  } else if (chosen) {
    file = (working_folder / *chosen).lexically_normal();
    std::error_code error;
    if (!std::filesystem::exists(*file, error)) {
      return fail(
          ErrorCode::kNotFound,
          fmt::format("no configuration at {}; llm-manager config example prints one", file->string()),
          "config_not_found");
    }
  } else {
    for (const auto& candidate : search_path(working_folder, sources.environment)) {
      if (file || !is_there(candidate)) continue;
      file = candidate;
    }
  }
  if (file) {
    LM_TRY(std::string text, read_text(*file, kLargestFile));
    sources.config = SourceText{.path = *file, .text = std::move(text)};
  }
  std::vector<std::filesystem::path> dotenv;
  if (file) dotenv.push_back(file->parent_path() / ".env");
  if (const auto here = working_folder / ".env"; dotenv.empty() || dotenv.front() != here)
    dotenv.push_back(here);
  for (const auto& path : dotenv) {
    if (!is_there(path)) continue;
    LM_TRY(std::string text, read_text(path, kLargestFile));
    sources.dotenv.push_back({.path = path, .text = std::move(text)});
  }
  return sources;
}

Result<std::vector<Warning>> read_key_files(Config& config) {
  std::vector<Warning> warnings;
  const auto fill = [&warnings](KeySource& key) -> Result<void> {
    if (key.file.empty() || !key.value.empty()) return {};
    LM_TRY(std::string text, read_text(key.file, kLargestKey));
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' '))
      text.pop_back();
    if (text.empty() || text.find('\n') != std::string::npos) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("{} should have one line, the key", key.file),
                  "invalid_key_file");
    }
    using std::filesystem::perms;
    std::error_code error;
    const perms others =
        std::filesystem::status(key.file, error).permissions() & (perms::group_all | perms::others_all);
    if (!error && others != perms::none) {
      warnings.push_back(
          {.file = key.file, .at = {}, .key = {}, .message = "others can read this key; chmod 600 it"});
    }
    key.value = Secret(std::move(text));
    return {};
  };
  LM_TRY_VOID(fill(config.server.user_key));
  LM_TRY_VOID(fill(config.server.admin_key));
  LM_TRY_VOID(fill(config.discord.token));
  for (auto& [name, client] : config.server.clients) LM_TRY_VOID(fill(client.key));
  for (auto& [name, provider] : config.providers) LM_TRY_VOID(fill(provider.api_key));
  return warnings;
}

}  // namespace lm::config
