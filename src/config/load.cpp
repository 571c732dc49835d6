#include "config/load.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <tuple>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/nearest.h"
#include "config/schema.h"
#include "config/yaml.h"

namespace lm::config {
namespace {

constexpr std::size_t kMostProblems = 50;
constexpr std::size_t kMostUnknownTold = 20;
constexpr std::size_t kLongestName = 128;

// Old files have keys of other programs; of those that look like a secret in plain text the owner should
// hear.
constexpr std::string_view kPlainKeyAdvice =
    "keys do not belong into this file; put it into .env or a file and name that with {}_env or {}_file";

class ConfigReader {
 public:
  ConfigReader(std::string file, std::string folder) : file_(std::move(file)), folder_(std::move(folder)) {}

  void read(const Node& root) {
    if (root.kind == Node::Kind::kNull) return;
    if (root.kind != Node::Kind::kMap) {
      refuse(root.at, "",
             fmt::format("expected a map of sections such as models:, found {}", describe(root.kind)));
      return;
    }
    read_map(root, "", "");
    tell_unknown();
  }

  Config take_config() { return std::move(config_); }
  std::vector<Problem>& problems() { return problems_; }
  std::vector<Warning>& warnings() { return warnings_; }
  const std::map<std::string, Position>& positions() const { return positions_; }

 private:
  void refuse(Position at, std::string key, std::string message) {
    problems_.push_back({.file = file_, .at = at, .key = std::move(key), .message = std::move(message)});
  }

  // `pattern` is the section's path in the schema, `name` what its * stands for.
  void read_map(const Node& map, const std::string& pattern, const std::string& name) {
    std::set<std::string> seen;
    for (std::size_t i = 0; i + 1 < map.children.size(); i += 2) {
      read_entry(map.children[i], map.children[i + 1], pattern, name, seen);
    }
  }

  void read_entry(const Node& word, const Node& value, const std::string& pattern, const std::string& name,
                  std::set<std::string>& seen) {
    const std::string path = pattern.empty() ? word.text : pattern + '.' + word.text;
    if (word.text.find_first_of(".*") == std::string::npos || find_section(pattern + ".*") != nullptr) {
      if (const Key* key = find_key(pattern, word.text)) {
        if (!seen.insert(key->path).second) {
          refuse(word.at, with_name(path, name),
                 fmt::format("says the same as {}; keep one", last_word(key->path)));
          return;
        }
        read_key(*key, word, value, name);
        return;
      }
      if (const Section* section = find_section(path); section != nullptr && word.text != "*") {
        read_section(*section, word, value, name);
        return;
      }
      if (const Section* named = pattern.empty() ? nullptr : find_section(pattern + ".*")) {
        read_named(*named, word, value);
        return;
      }
    }
    unknown(word, pattern, name);
  }

  static const Key* find_key(const std::string& pattern, const std::string& word) {
    for (const Key& key : schema()) {
      if (parent(key.path) != pattern) continue;
      if (last_word(key.path) == word || std::ranges::find(key.aliases, word) != key.aliases.end())
        return &key;
    }
    return nullptr;
  }

  void read_key(const Key& key, const Node& word, const Node& value, const std::string& name) {
    const std::string shown = with_name(key.path, name);
    positions_[shown] = word.at;
    if (value.kind == Node::Kind::kNull) return;
    if (const auto wrong = key.read(config_, name, value)) refuse(value.at, shown, *wrong);
  }

  void read_section(const Section& section, const Node& word, const Node& value, const std::string& name) {
    if (value.kind == Node::Kind::kNull) return;
    if (value.kind == Node::Kind::kMap) {
      read_map(value, section.path, name);
      return;
    }
    // In files of other programs such a section may be something else altogether.
    if (section.lenient && section.path != "models") {
      unknown_.push_back(fmt::format("{} (line {})", section.path, word.at.line));
      return;
    }
    refuse(value.at, section.path, fmt::format("expected a map, found {}", describe(value.kind)));
  }

  void read_named(const Section& section, const Node& word, const Node& value) {
    const std::string& name = word.text;
    const std::string shown = with_name(section.path, name);
    const auto bad = [](char c) {
      return static_cast<unsigned char>(c) <= ' ' || c == '/' || c == '*' || c == '"' || c == '\\';
    };
    if (name.empty() || name.size() > kLongestName || std::ranges::any_of(name, bad)) {
      refuse(word.at, shown, "a name has no spaces, slashes, quotes or stars, and at most 128 letters");
      return;
    }
    // "models: {model_path: …}": the line of the name was left out, and it would become a model called
    // model_path.
    if (value.kind != Node::Kind::kMap && find_key(section.path, name) != nullptr) {
      refuse(word.at, shown,
             fmt::format("belongs below a name, such as {}.{}", with_name(section.path, section.example_name),
                         name));
      return;
    }
    section.create(config_, name);
    positions_[shown] = word.at;
    if (section.path == "models.*") {
      ModelEntry& entry = config_.models.at(name);
      entry.folder = folder_;
      entry.origin = fmt::format("{}:{}", file_, word.at.line);
    }
    if (value.kind == Node::Kind::kMap) {
      read_map(value, section.path, name);
    } else if (value.kind == Node::Kind::kScalar && section.path == "models.*") {
      config_.models.at(name).model_path = value.text;  // llm: /path/to/model.gguf
    } else if (value.kind != Node::Kind::kNull) {
      refuse(value.at, shown, fmt::format("expected a map, found {}", describe(value.kind)));
    }
  }

  void unknown(const Node& word, const std::string& pattern, const std::string& name) {
    const Section* section = find_section(pattern);
    const std::string shown = pattern.empty() ? word.text : with_name(pattern, name) + '.' + word.text;
    const std::vector<std::string> known = words_below(pattern);
    if (pattern.empty() || (section != nullptr && section->lenient)) {
      const auto meant = nearest(word.text, known);
      unknown_.push_back(meant ? fmt::format("{} (line {}, did you mean {}?)", shown, word.at.line, *meant)
                               : fmt::format("{} (line {})", shown, word.at.line));
      return;
    }
    for (const std::string_view stem : {"api_key", "token", "user", "admin", "key"}) {
      if (word.text == stem && std::ranges::find(known, fmt::format("{}_env", stem)) != known.end()) {
        refuse(word.at, shown, fmt::format(fmt::runtime(kPlainKeyAdvice), stem, stem));
        return;
      }
    }
    refuse(word.at, shown, "unknown key" + suggestion(word.text, known));
  }

  static std::vector<std::string> words_below(const std::string& pattern) {
    std::vector<std::string> words;
    for (const Key& key : schema()) {
      if (parent(key.path) != pattern) continue;
      words.emplace_back(last_word(key.path));
      words.insert(words.end(), key.aliases.begin(), key.aliases.end());
    }
    for (const Section& section : sections()) {
      if (parent(section.path) == pattern && last_word(section.path) != "*")
        words.emplace_back(last_word(section.path));
    }
    return words;
  }

  void tell_unknown() {
    if (unknown_.empty()) return;
    const std::size_t told = std::min(unknown_.size(), kMostUnknownTold);
    std::string list = fmt::format(
        "{}", fmt::join(unknown_.begin(), unknown_.begin() + static_cast<std::ptrdiff_t>(told), ", "));
    if (told < unknown_.size()) list += fmt::format(" and {} more", unknown_.size() - told);
    warnings_.push_back(
        {.file = file_, .at = {}, .key = {}, .message = "keys that we do not know and do not use: " + list});
  }

  std::string file_;
  std::string folder_;
  Config config_;
  std::vector<Problem> problems_;
  std::vector<Warning> warnings_;
  std::vector<std::string> unknown_;
  std::map<std::string, Position> positions_;
};

// A key that is not there is missed where its entry stands.
Position position_in(const std::map<std::string, Position>& positions, const std::string& key) {
  auto it = positions.find(key);
  if (it == positions.end()) it = positions.find(std::string(parent(key)));
  return it == positions.end() ? Position() : it->second;
}

// What single values cannot know of each other.
class CrossCheck {
 public:
  CrossCheck(const Config& config, std::string file, const std::map<std::string, Position>& positions,
             std::vector<Problem>& problems, std::vector<Warning>& warnings)
      : config_(config),
        file_(std::move(file)),
        positions_(positions),
        problems_(problems),
        warnings_(warnings) {}

  void run() {
    aliases();
    roles();
    servers();
    devices();
    const auto& response = config_.vtuber_response;
    if (response.min_tokens && response.max_tokens && *response.min_tokens > *response.max_tokens) {
      refuse("vtuber.response.min_tokens",
             fmt::format("{} is more than max_tokens, {}", *response.min_tokens, *response.max_tokens));
    }
    const auto& limits = config_.settings.limits;
    if (limits.retry_first > limits.retry_most)
      refuse("limits.retry_first", "is longer than limits.retry_most");
    listen();
  }

 private:
  void refuse(const std::string& key, std::string message) {
    problems_.push_back({.file = file_, .at = at(key), .key = key, .message = std::move(message)});
  }
  void warn(const std::string& key, std::string message) {
    warnings_.push_back({.file = file_, .at = at(key), .key = key, .message = std::move(message)});
  }
  Position at(const std::string& key) const {
    const Position found = position_in(positions_, key);
    return found.line > 0 ? found : Position{.line = 1, .column = 1};
  }

  void aliases() {
    std::map<std::string, std::string> owners;
    for (const auto& [name, entry] : config_.models) owners.emplace(name, name);
    for (const auto& [name, entry] : config_.models) {
      for (const std::string& alias : entry.aliases) {
        const auto [it, fresh] = owners.emplace(alias, name);
        if (!fresh && it->second != name) {
          refuse(fmt::format("models.{}.aliases", name),
                 fmt::format("{} already names models.{}", alias, it->second));
        }
      }
    }
  }

  // A role may name what only an upstream knows; but a word one letter away from a model of ours is a slip.
  void roles() {
    std::vector<std::string> names;
    for (const auto& [name, entry] : config_.models) {
      names.push_back(name);
      names.insert(names.end(), entry.aliases.begin(), entry.aliases.end());
    }
    const auto check = [&](std::string_view role, const std::string& model) {
      if (model.empty() || model.find_first_of("/:") != std::string::npos || model.starts_with("ollama_") ||
          model.starts_with("openai_")) {
        return;
      }
      if (std::ranges::find(names, model) != names.end()) return;
      for (const std::string& name : names) {
        if (edit_distance(name, model) == 1 && name.size() > 3) {
          refuse(fmt::format("roles.{}", role),
                 fmt::format("no model named {}, did you mean {}?", model, name));
          return;
        }
      }
    };
    check("chat", config_.roles.chat);
    check("knowledge", config_.roles.knowledge);
    check("translation", config_.roles.translation);
    check("embedding", config_.roles.embedding);
  }

  void servers() {
    for (const auto& [name, provider] : config_.providers) {
      check_upstream_name(fmt::format("providers.{}", name), name);
      if (provider.base_url.empty())
        refuse(fmt::format("providers.{}.base_url", name), "is needed, such as https://api.openai.com/v1");
    }
    for (const auto& [name, command] : config_.commands) {
      check_upstream_name(fmt::format("commands.{}", name), name);
      if (config_.providers.contains(name))
        refuse(fmt::format("commands.{}", name), fmt::format("providers.{} has that name already", name));
      if (command.command.empty())
        refuse(fmt::format("commands.{}.command", name),
               "is needed: the program and its arguments, as a list");
      if (!command.command.empty() && command.base_url.empty() && !is_placed(command)) {
        refuse(fmt::format("commands.{}.base_url", name),
               "is needed, such as http://127.0.0.1:8000/v1, or ${port} or ${socket} in the command");
      }
      if (command.models.empty()) {
        refuse(fmt::format("commands.{}.models", name),
               "is needed: the models it serves, since it cannot be asked before it runs");
      }
      if (!command.health.empty() && !command.health.starts_with('/')) {
        refuse(fmt::format("commands.{}.health", name),
               fmt::format("expected a path such as /health, found \"{}\"", command.health));
      }
    }
  }

  // A server's models are asked for as NAME/MODEL, and these beginnings have a meaning already.
  void check_upstream_name(const std::string& key, const std::string& name) {
    for (const std::string_view taken : {"local", "ollama"}) {
      if (edit_distance(name, taken) == 0)
        refuse(key,
               fmt::format("may not be called {}: that is how other models are named; choose another name",
                           taken));
    }
  }

  // Whether the command says itself where it listens.
  static bool is_placed(const CommandEntry& command) {
    const auto has = [](const std::string& text) {
      return text.find("${port}") != std::string::npos || text.find("${socket}") != std::string::npos;
    };
    return std::ranges::any_of(command.command, has) ||
           std::ranges::any_of(command.environment, [&](const auto& one) { return has(one.second); });
  }

  void listen() {
    const std::string& text = config_.server.listen;
    const std::size_t colon = text.rfind(':');
    const std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
    const bool digits = !port.empty() && port.size() <= 5 &&
                        std::ranges::all_of(port, [](char c) { return c >= '0' && c <= '9'; });
    const std::string host = colon == std::string::npos ? "" : text.substr(0, colon);
    const bool bracketed = host.starts_with('[') && host.ends_with(']');
    const bool clear_host = !host.empty() && (bracketed || host.find(':') == std::string::npos);
    if (!digits || std::stoi(port) > 65535 || !clear_host) {
      refuse("server.listen",
             fmt::format("expected HOST:PORT such as 127.0.0.1:11435 or [::1]:11435, found \"{}\"", text));
    }
  }

  // Which devices there are only the machine knows; what they may be called is known here.
  void devices() {
    const auto look = [this](const std::string& key, const std::string& name, bool a_kind_will_do) {
      const std::string kind = name.substr(0, name.find_last_not_of("0123456789") + 1);
      const bool numbered = kind.size() < name.size();
      const bool card = std::ranges::find(kCards, kind) != kCards.end();
      if (name.empty() || name == "host" || (card && (numbered || a_kind_will_do))) return;
      if (a_kind_will_do && name == "auto") return;
      std::vector<std::string> known = {"host"};
      for (const std::string_view each : kCards) {
        known.push_back(fmt::format("{}0", each));
        if (a_kind_will_do) known.emplace_back(each);
      }
      if (a_kind_will_do) known.emplace_back("auto");
      const auto meant = nearest(name, known);
      warn(key,
           fmt::format("no device is called {}{}; devices are {}host, cuda0, rocm0, vulkan0, rpc0 and so on",
                       name, meant ? fmt::format(" (did you mean {}?)", *meant) : "",
                       a_kind_will_do ? "auto, " : ""));
    };
    for (const auto& [name, entry] : config_.devices) look(fmt::format("devices.{}", name), name, false);
    for (const auto& [name, entry] : config_.models) {
      look(fmt::format("models.{}.device", name), entry.load.device, true);
      for (const std::string& device : entry.devices)
        look(fmt::format("models.{}.devices", name), device, true);
      for (const auto& [device, bytes] : entry.reserve) {
        if (device != "all") look(fmt::format("models.{}.reserve", name), device, true);
      }
    }
  }

  // As the engine calls them, without their number.
  static constexpr std::array<std::string_view, 6> kCards = {"cuda", "rocm",  "vulkan",
                                                             "rpc",  "metal", "sycl"};

  const Config& config_;
  std::string file_;
  const std::map<std::string, Position>& positions_;
  std::vector<Problem>& problems_;
  std::vector<Warning>& warnings_;
};

Environment read_environment(const Sources& sources, std::vector<Warning>& warnings) {
  Environment environment;
  for (const auto& [name, value] : sources.environment) {
    environment.add(name, {.value = value, .origin = {}, .folder = sources.working_folder});
  }
  for (const SourceText& file : sources.dotenv) {
    // Within a file the last line of a name counts, as in a shell.
    std::map<std::string, std::string> last;
    for (DotenvLine& line : parse_dotenv(file.text, file.path.string(), warnings))
      last[line.name] = std::move(line.value);
    for (auto& [name, value] : last) {
      environment.add(
          name, {.value = std::move(value), .origin = file.path.string(), .folder = file.path.parent_path()});
    }
  }
  return environment;
}

// MODEL_NAME names models.llm where the file does not.
void apply_model_name(Config& config, const Environment& environment, const std::string& entry,
                      const std::string& variable) {
  const auto value = environment.find(variable);
  if (!value) return;
  if (const auto it = config.models.find(entry); it != config.models.end() && !it->second.model_path.empty())
    return;
  ModelEntry& model = config.models[entry];
  model.model_path = value->value;
  model.folder = value->folder.string();
  model.origin = value->origin.empty() ? variable : fmt::format("{} in {}", variable, value->origin);
}

void apply_environment(Config& config, const Environment& environment) {
  apply_model_name(config, environment, "llm", "MODEL_NAME");
  apply_model_name(config, environment, "embedding", "EMBEDDING_MODEL_NAME");
  if (config.discord.owner_id.empty()) {
    if (const auto owner = environment.find("BOT_OWNER_ID")) config.discord.owner_id = owner->value;
  }
  const auto fill = [&environment](KeySource& key) {
    if (const auto value = key.env.empty() ? std::nullopt : environment.find(key.env))
      key.value = Secret(value->value);
  };
  fill(config.server.user_key);
  fill(config.server.admin_key);
  fill(config.discord.token);
  for (auto& [name, provider] : config.providers) fill(provider.api_key);
  for (auto& [name, client] : config.server.clients) fill(client.key);
}

// A provider may need no key; one whose key was named and is not there will answer with 401s that nobody
// expects; a client, too, is somebody nobody lets in.
void tell_missing_keys(const Config& config, const std::string& file, std::vector<Warning>& warnings) {
  const auto look = [&](const KeySource& key, std::string where) {
    if (key.env.empty() || !key.file.empty() || !key.value.empty()) return;
    warnings.push_back(
        {.file = file,
         .at = {},
         .key = std::move(where),
         .message = fmt::format("{} is not set, neither in the environment nor in .env", key.env)});
  };
  for (const auto& [name, provider] : config.providers)
    look(provider.api_key, fmt::format("providers.{}.api_key_env", name));
  for (const auto& [name, client] : config.server.clients)
    look(client.key, fmt::format("server.clients.{}.key_env", name));
}

// Paths of ours are made whole here; a model's stays as written, since it may be a name (models.h).
void resolve_paths(Config& config, const std::string& folder, const std::string& home) {
  const auto resolve = [&](std::string& path) { path = resolve_path(path, folder, home).string(); };
  for (std::string& models : config.model_folders) resolve(models);
  for (std::string* source :
       {&config.sources.ollama, &config.sources.lm_studio, &config.sources.huggingface}) {
    if (*source != "auto" && *source != "off") resolve(*source);
  }
  for (auto& [name, command] : config.commands) resolve(command.working_folder);
  for (auto& [name, provider] : config.providers) resolve(provider.api_key.file);
  for (auto& [name, client] : config.server.clients) resolve(client.key.file);
  resolve(config.server.user_key.file);
  resolve(config.server.admin_key.file);
  resolve(config.discord.token.file);
  resolve(config.log.file);
  for (auto& [name, model] : config.models) {
    resolve(model.projector);
    if (model.model_path.starts_with("~/"))
      model.model_path = resolve_path(model.model_path, {}, home).string();
  }
}

}  // namespace

Position Loaded::position(const std::string& key) const {
  return position_in(positions, key);
}

std::filesystem::path resolve_path(const std::string& path, const std::filesystem::path& folder,
                                   const std::string& home) {
  if (path.empty()) return {};
  if (!home.empty() && (path == "~" || path.starts_with("~/"))) {
    return (std::filesystem::path(home) / path.substr(std::min<std::size_t>(2, path.size())))
        .lexically_normal();
  }
  return (folder / path).lexically_normal();
}

Result<Loaded> load(const Sources& sources) {
  Loaded loaded;
  loaded.environment = read_environment(sources, loaded.warnings);

  std::vector<Problem> problems;
  std::string folder;
  if (sources.config) {
    loaded.file = sources.config->path;
    folder = sources.config->path.parent_path().string();
    const std::string file = sources.config->path.string();
    auto tree = parse_yaml(sources.config->text, file);
    if (!tree) return fail(to_error({std::move(tree).error()}));
    ConfigReader reader(file, folder);
    reader.read(*tree);
    problems = std::move(reader.problems());
    loaded.warnings.insert(loaded.warnings.end(), reader.warnings().begin(), reader.warnings().end());
    loaded.config = reader.take_config();
    loaded.positions = reader.positions();
    CrossCheck(loaded.config, file, loaded.positions, problems, loaded.warnings).run();
  }
  if (!problems.empty()) {
    std::ranges::sort(problems, {}, [](const Problem& problem) {
      return std::tuple(problem.at.line, problem.at.column, std::string_view(problem.key));
    });
    if (problems.size() > kMostProblems) {
      const std::size_t rest = problems.size() - kMostProblems;
      const Position at = problems[kMostProblems].at;
      problems.resize(kMostProblems);
      problems.push_back({.file = loaded.file.string(),
                          .at = at,
                          .key = {},
                          .message = fmt::format("and {} more from here on", rest)});
    }
    return fail(to_error(problems));
  }

  apply_environment(loaded.config, loaded.environment);
  tell_missing_keys(loaded.config, loaded.file.string(), loaded.warnings);
  const auto home = loaded.environment.find("HOME");
  resolve_paths(loaded.config, folder, home ? home->value : std::string());
  return loaded;
}

}  // namespace lm::config
