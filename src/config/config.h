// What the owner has configured: plain values with the product's defaults, read by config/load.h. A value,
// copied freely. schema.h says what each is called in the file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "config/secret.h"
#include "domain/model.h"
#include "domain/settings.h"

namespace lm::config {

// Bytes by device; the name "all" stands for every device that is not named.
using DeviceAmounts = std::map<std::string, Bytes>;

struct ModelEntry {
  std::string model_path;  // as written: a path, or the name of a model in a model folder
  std::string projector;   // a whole path
  std::string folder;      // what a relative path starts from: the folder of the file that names it
  std::string origin;      // who named it, for people: "llm-manager.yaml:12", "MODEL_NAME"
  std::optional<ModelKind> kind;
  std::vector<std::string> aliases;
  LoadOptions load;
  SamplingDefaults sampling;
  ModelPolicy policy;
  std::string quantize;              // "q4_k_m", "4bit", …; empty: as the file is
  std::optional<int> batch_size;     // texts that an embedding model is given at a time
  std::vector<std::string> devices;  // the only ones it may use; empty: all
  std::optional<int> max_devices;    // the most that it is split over
  std::optional<Layout> layout;      // empty: by its name
  DeviceAmounts reserve;             // to be left free on these devices when it is placed
  bool operator==(const ModelEntry&) const = default;
};

// Model names or ids ("ollama_qwen:7b"); empty: the default, models.llm or models.embedding.
struct Roles {
  std::string chat, knowledge, translation, embedding;
  bool operator==(const Roles&) const = default;
};

// Whether an upstream shares our devices; kAuto: by its host.
enum class Location : std::uint8_t { kAuto, kLocal, kRemote };

// How long a request waits for a server that is not ours.
struct AnswerLimits {
  Duration connect = std::chrono::seconds(10);     // name, connection and TLS together
  Duration first_byte = std::chrono::minutes(10);  // it may have to load the model first
  Duration silence = std::chrono::minutes(5);      // each stretch without a byte
  bool operator==(const AnswerLimits&) const = default;
};

struct Ollama {
  std::string url = "http://127.0.0.1:11434";
  Location location = Location::kAuto;
  AnswerLimits limits;
  bool operator==(const Ollama&) const = default;
};

// A key by the name of a variable or of a file, never by itself.
struct KeySource {
  std::string env;
  std::string file;
  Secret value;  // of `env` after load(), else of `file` after read_key_files()
  bool operator==(const KeySource&) const = default;
};

struct Provider {
  std::string base_url;
  KeySource api_key;
  std::vector<std::string> models;  // empty: ask it
  Location location = Location::kAuto;
  AnswerLimits limits;
  bool operator==(const Provider&) const = default;
};

// A server that we start, and that speaks OpenAI's API. ${port} and ${socket} in its arguments and
// environment are filled in when it is started.
struct CommandEntry {
  std::vector<std::string> command;  // program and arguments; no shell
  std::string base_url;              // empty: by ${port} or ${socket}, one of which the command then has
  std::string working_folder;
  std::map<std::string, std::string> environment;
  std::vector<std::string> models;
  std::string health;    // a path; empty: /health, else /v1/models
  int stop_signal = 15;  // SIGTERM
  Duration start_timeout = std::chrono::minutes(10);
  AnswerLimits limits;
  bool operator==(const CommandEntry&) const = default;
};

struct DeviceEntry {
  std::optional<Bytes> limit;     // the most that our models may take together
  std::optional<Bytes> headroom;  // kept free for everybody else
  bool operator==(const DeviceEntry&) const = default;
};

// Where other tools keep models: "auto" (where they usually do), "off", or a folder.
struct ModelSources {
  std::string ollama = "auto", lm_studio = "auto", huggingface = "auto";
  bool operator==(const ModelSources&) const = default;
};

// How much is kept of conversations while their model is out of memory.
struct State {
  Bytes memory = gib(1);
  Bytes disk = gib(4);
  Duration checkpoint_idle =
      std::chrono::seconds(10);  // saved also after so long without a request; 0: never
  bool operator==(const State&) const = default;
};

// What waits for the next load: nothing, a process, or a process that has opened its devices already.
enum class Standby : std::uint8_t { kOff, kProcess, kDevice };

// Somebody with a key of his own. His class is the most that his requests get, whatever they ask for.
struct Client {
  KeySource key;
  PriorityClass priority = PriorityClass::kInteractive;
  double weight = 1;
  bool operator==(const Client&) const = default;
};

struct Server {
  std::string listen = "127.0.0.1:11435";
  KeySource user_key{.env = "LLM_MANAGER_KEY", .file = {}, .value = {}};
  KeySource admin_key{.env = "LLM_MANAGER_ADMIN_KEY", .file = {}, .value = {}};
  std::map<std::string, Client> clients;     // besides those who share the user's key
  std::vector<std::string> allowed_hosts;    // besides the names of loopback
  std::vector<std::string> allowed_origins;  // besides our own
  struct Limits {
    int connections = 2048;
    Bytes body = mib(64);
    Duration header_timeout = std::chrono::seconds(10);
    Duration idle_timeout = std::chrono::seconds(75);
    bool operator==(const Limits&) const = default;
  } limits;
  bool operator==(const Server&) const = default;
};

// kAuto: from LC_ALL, LC_MESSAGES, LANG.
enum class Locale : std::uint8_t { kAuto, kEnglish, kSimplifiedChinese, kTraditionalChinese };

struct VtuberResponse {
  std::optional<int> max_tokens, min_tokens;
  bool filter_repetition = false;
  bool enable_traditional_chinese = false;
  bool operator==(const VtuberResponse&) const = default;
};

struct Discord {
  KeySource token{.env = "DISCORD_TOKEN", .file = {}, .value = {}};
  std::string owner_id;  // BOT_OWNER_ID where the file does not say
  bool operator==(const Discord&) const = default;
};

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

struct Log {
  LogLevel level = LogLevel::kInfo;
  std::string file;  // empty: standard error only
  bool operator==(const Log&) const = default;
};

struct Config {
  std::map<std::string, ModelEntry> models;
  std::vector<std::string> model_folders;
  ModelSources sources;
  Roles roles;
  Ollama ollama;
  std::map<std::string, Provider> providers;
  std::map<std::string, CommandEntry> commands;
  Settings settings;  // residency, scheduling, limits: as core takes them
  std::map<std::string, DeviceEntry> devices;
  std::vector<std::string> rpc_servers;  // "host:port" each
  Standby standby = Standby::kProcess;
  State state;
  Server server;
  Locale locale = Locale::kAuto;
  VtuberResponse vtuber_response;
  Discord discord;
  Log log;
  bool operator==(const Config&) const = default;
};

}  // namespace lm::config
