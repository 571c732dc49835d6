// The command line as plain values. Parsing is pure: nothing is printed, asked or opened.
#pragma once

#include <cstdint>
#include <expected>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/time.h"
#include "cli/exit_code.h"

namespace lm::cli {

struct ServeOptions {
  std::filesystem::path config;
  std::string listen;
  std::vector<std::filesystem::path> models;
  std::filesystem::path data;
  std::string log_level;
  std::filesystem::path record;
  int lifeline = -1;  // of a daemon that a program has started for itself
};
struct ListOptions {};
struct PsOptions {};
struct LoadOptions {
  std::string model;
  bool force = false;
};
struct SwitchOptions {
  std::string model;  // empty: say which family has the devices
};
struct UnloadOptions {
  std::string model;  // empty: all
  bool hold = false;
};
struct PinOptions {
  std::string model;
  bool pin = true;
};
struct ChatOptions {
  std::string model;  // empty: the chat role
  std::string system;
  std::optional<double> temperature;
  std::string prompt;                // empty: a conversation, or what is piped in
  bool model_is_first_word = false;  // and may be the question
  bool reads_input = false;          // "-" stood among the words: standard input follows the prompt
};
struct EmbedOptions {
  std::string model;               // empty: the embedding role
  std::vector<std::string> texts;  // "-": standard input, a text a line
};
struct InspectOptions {
  std::string what;  // a file or a model
};
struct PlanOptions {
  std::string model;
  std::optional<int> context, parallel, gpu_layers, batch;  // empty: as the configuration says
  std::string kv_type;
};
struct ExplainOptions {
  std::string model;  // empty: all
  int limit = 20;
};
struct EventsOptions {};
struct TopOptions {
  double interval_s = 1;
  int times = 0;  // frames; 0: until it is ended, or one where nothing can be drawn over
};
struct DoctorOptions {};
struct LogsOptions {
  bool follow = false;
  int lines = 20;
};
struct ConfigExampleOptions {};
struct ConfigCheckOptions {
  std::filesystem::path file;  // empty: the one that serve would take
};
struct CompletionOptions {
  std::string shell;
};
struct ModelNamesOptions {};  // hidden: what the completion scripts ask
struct ReplayOptions {        // hidden: for whoever reads a bug report
  std::filesystem::path recording;
};
struct SimulateOptions {
  std::filesystem::path trace;        // empty: a synthetic workload
  std::filesystem::path models;       // the machine's description; empty: the defaults
  std::vector<std::string> policies;  // each one is run; none: the product's default
  std::optional<Bytes> memory;        // of the machine's first device
  std::optional<int> max_loaded, slots;
  std::optional<Duration> swap;  // of every model: to load it, the unload being free
  std::optional<double> quantum_factor;
  std::optional<Duration> quantum_min, age_cap, drain;
  bool no_preemption = false;
  std::optional<int> queue;           // the most that wait for one model
  std::optional<double> scale, load;  // so many times the load; so much of what the machine can answer
  std::optional<Duration> horizon;
  struct Synthetic {
    double rate = 1, skew = 0;
    int models = 2;
    Duration service = std::chrono::seconds(2), span = std::chrono::hours(1);
    std::uint64_t seed = 1;
  } synthetic;
};
struct PullOptions {
  std::string source;
  bool detach = false;  // return at once
};
struct PullsOptions {
  std::string change;  // "pause", "resume", "cancel"; empty: list them
  std::uint64_t id = 0;
};
struct RemoveOptions {
  std::string model;
  bool force = false;
};
struct PullChildOptions {  // hidden: what the daemon starts for each pull; the source comes on standard input
  std::string key;
  std::filesystem::path folder;
  bool discard = false;
};
struct ConversationsOptions {         // list them
  std::string user, channel, search;  // empty: all
  int limit = 20;
};
struct ConversationShowOptions {
  std::string id;
};
struct ConversationExportOptions {
  std::string id;
  std::string format = "md";
};
struct ConversationRemoveOptions {
  std::vector<std::string> ids;
};
struct ConversationRenameOptions {
  std::string id;
  std::string title;
};
struct VersionOptions {};

using Command =
    std::variant<ServeOptions, ListOptions, PsOptions, LoadOptions, SwitchOptions, UnloadOptions, PinOptions,
                 ChatOptions, EmbedOptions, InspectOptions, PlanOptions, ExplainOptions, EventsOptions,
                 TopOptions, DoctorOptions, LogsOptions, ConfigExampleOptions, ConfigCheckOptions,
                 CompletionOptions, ModelNamesOptions, ReplayOptions, SimulateOptions, PullOptions,
                 PullsOptions, RemoveOptions, PullChildOptions, ConversationsOptions, ConversationShowOptions,
                 ConversationExportOptions, ConversationRemoveOptions, ConversationRenameOptions,
                 VersionOptions>;

struct Arguments {
  Command command;
  std::string url;  // empty: LLM_MANAGER_URL, else the default
  bool json = false;
};

// Where there is nothing to run: help to show (kOk, for standard output), or what is wrong (kUsage, for
// standard error).
struct Usage {
  ExitCode code = ExitCode::kUsage;
  std::string text;
  bool json = false;  // --json stood on the command line
};

// `arguments` without the program's name.
std::expected<Arguments, Usage> parse_arguments(const std::vector<std::string>& arguments);

// What a completion script must know about a command; made from the same declarations as the parser.
struct CommandShape {
  enum class Takes { kNothing, kModel, kFile, kModelOrFile, kWord };
  struct Option {
    std::vector<std::string> names;  // "-f", "--follow"
    std::string help;
    enum class Value { kNone, kText, kFile, kFolder, kModel } value = Value::kNone;
  };
  std::string name;  // "config check": with its parent's
  std::string help;  // one sentence
  Takes takes = Takes::kNothing;
  std::vector<std::string> words;  // of kWord
  std::vector<Option> options;
};
std::vector<CommandShape> command_shapes();

}  // namespace lm::cli
