#include "cli/arguments.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/assert.h"
#include "base/result.h"
#include "config/nearest.h"
#include "config/utf8.h"
#include "config/value.h"

namespace lm::cli {
namespace {

constexpr const char* kDescription =
    "LLM Manager decides which model holds the GPU: it loads, unloads, switches and measures.\n"
    "`llm-manager serve` is the daemon; every other command talks to it.\n";

constexpr const char* kFooter =
    "Try:\n"
    "  llm-manager serve                     start the daemon (in a terminal of its own)\n"
    "  llm-manager list                      what models are there\n"
    "  llm-manager chat                      talk to one of them\n"
    "\n"
    "Environment:\n"
    "  LLM_MANAGER_URL       where the daemon is: http://127.0.0.1:11435 where it is not set; also "
    "unix:///path\n"
    "  LLM_MANAGER_API_KEY   the key that is sent to it\n"
    "  NO_COLOR              no colours, whatever the terminal\n"
    "\n";

constexpr const char* kGroupTalk = "Talk to a model";
constexpr const char* kGroupModels = "Decide what is in memory";
constexpr const char* kGroupFiles = "Get and remove models";
constexpr const char* kGroupLook = "Look";
constexpr const char* kGroupSetUp = "Set up";

// Values of simulate's that have units of their own, as they were written.
struct SimulateTexts {
  std::string memory, swap, quantum_min, age_cap, drain, horizon, service, span;
  std::vector<std::string> policies;
};

// What the options are written into while CLI11 parses; the chosen command is taken out of it afterwards.
struct Draft {
  std::string url;
  bool json = false;
  ServeOptions serve;
  LoadOptions load;
  SwitchOptions change;
  UnloadOptions unload;
  bool unload_all = false;
  PinOptions pin, unpin;
  ChatOptions chat;
  std::vector<std::string> chat_words;
  EmbedOptions embed;
  std::vector<std::string> embed_words;
  InspectOptions inspect;
  PlanOptions plan;
  ExplainOptions explain;
  TopOptions top;
  LogsOptions logs;
  ConfigCheckOptions config_check;
  CompletionOptions completion;
  ReplayOptions replay;
  PullOptions pull;
  PullsOptions pulls;
  RemoveOptions remove;
  PullChildOptions pull_child;
  ConversationsOptions conversations;
  ConversationShowOptions conversation_show;
  ConversationExportOptions conversation_export;
  ConversationRemoveOptions conversation_remove;
  ConversationRenameOptions conversation_rename;
  std::vector<std::string> title_words;
  SimulateOptions simulate;
  SimulateTexts simulate_texts;
  bool synthetic = false;
  std::string made_up;                    // an option that only --synthetic has
  std::function<Result<Command>()> take;  // of the command that was named
};

// Models' names have no spaces, so a first word with one begins the text.
bool may_be_a_model(const std::string& word) {
  return !word.empty() && word.find_first_of(" \t\n") == std::string::npos;
}

Result<Command> take_unload(const Draft& draft) {
  if (draft.unload.model.empty() != draft.unload_all) {
    return fail(ErrorCode::kInvalidArgument,
                draft.unload_all ? "name a model or say --all, not both"
                                 : "name a model, or say --all to unload every one",
                "usage");
  }
  return draft.unload;
}

Result<Command> take_chat(const Draft& draft) {
  ChatOptions options = draft.chat;
  std::vector<std::string> words = draft.chat_words;
  if (options.model.empty() && !words.empty() && words.front() != "-" && may_be_a_model(words.front())) {
    options.model = words.front();
    options.model_is_first_word = true;
    words.erase(words.begin());
  }
  if (options.temperature && !std::isfinite(*options.temperature))
    return fail(ErrorCode::kInvalidArgument, "--temperature is a number from 0 to 2", "usage");
  options.reads_input = std::erase(words, "-") > 0;
  options.prompt = fmt::format("{}", fmt::join(words, " "));
  return options;
}

Result<Command> take_pulls(const Draft& draft) {
  if (draft.pulls.change.empty() != (draft.pulls.id == 0))
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("say which pull, as in llm-manager pulls {} 3: llm-manager pulls lists them",
                            draft.pulls.change),
                "usage");
  return draft.pulls;
}

Result<Command> take_embed(const Draft& draft) {
  EmbedOptions options = draft.embed;
  options.texts = draft.embed_words;
  if (options.model.empty() && options.texts.size() > 1 && may_be_a_model(options.texts.front())) {
    options.model = options.texts.front();
    options.texts.erase(options.texts.begin());
  }
  return options;
}

Result<std::optional<Duration>> duration_of(const char* option, const std::string& text,
                                            bool may_be_zero = true) {
  if (text.empty()) return std::optional<Duration>();
  const auto duration = config::parse_duration(text);
  if (!duration || (!may_be_zero && *duration == Duration())) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} takes a duration such as 500ms, 30s or 1h, not \"{}\"", option, text),
                "usage");
  }
  return duration;
}

Result<Command> take_simulate(const Draft& draft) {
  SimulateOptions options = draft.simulate;
  const SimulateTexts& texts = draft.simulate_texts;
  if (options.trace.empty() != draft.synthetic) {
    return fail(ErrorCode::kInvalidArgument,
                draft.synthetic ? "give a --trace or say --synthetic, not both"
                                : "give a --trace FILE, or say --synthetic for a workload that is made up",
                "usage");
  }
  if (!draft.made_up.empty() && !draft.synthetic)
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is for --synthetic; a trace has its own", draft.made_up), "usage");
  for (const auto& [option, number] : {std::pair("--scale", options.scale), std::pair("--load", options.load),
                                       std::pair("--quantum-factor", options.quantum_factor),
                                       std::pair("--rate", std::optional(options.synthetic.rate)),
                                       std::pair("--skew", std::optional(options.synthetic.skew))}) {
    if (number && !std::isfinite(*number))
      return fail(ErrorCode::kInvalidArgument, fmt::format("{} is a number", option), "usage");
  }
  if (options.scale && options.load)
    return fail(ErrorCode::kInvalidArgument, "give --scale or --load, not both", "usage");
  if (!texts.memory.empty()) {
    options.memory = parse_bytes(texts.memory);
    if (!options.memory || *options.memory <= Bytes()) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("--memory takes an amount such as 24GB, not \"{}\"", texts.memory), "usage");
    }
  }
  LM_TRY(options.swap, duration_of("--swap", texts.swap));
  LM_TRY(options.quantum_min, duration_of("--quantum-min", texts.quantum_min));
  LM_TRY(options.age_cap, duration_of("--age-cap", texts.age_cap));
  LM_TRY(options.drain, duration_of("--drain", texts.drain));
  LM_TRY(options.horizon, duration_of("--horizon", texts.horizon, false));
  LM_TRY(const auto service, duration_of("--service", texts.service, false));
  LM_TRY(const auto span, duration_of("--duration", texts.span, false));
  if (service) options.synthetic.service = *service;
  if (span) options.synthetic.span = *span;
  for (const std::string& policy : texts.policies) {
    if (policy == "all")
      options.policies = {"gated", "exhaustive", "fifo"};
    else if (std::ranges::find(options.policies, policy) == options.policies.end())
      options.policies.push_back(policy);
  }
  return options;
}

// Behind "--" a word is a word, whatever it begins with. CLI11 does not keep to that once a list has begun,
// so such words are marked before it sees them, and the mark is taken off again by the positional that gets
// them.
constexpr char kLiteral = '\x01';

std::vector<std::string> with_marked_words(const std::vector<std::string>& arguments) {
  std::vector<std::string> out;
  bool literal = false;
  for (const std::string& word : arguments) {
    if (!literal && word == "--") {
      literal = true;
      continue;
    }
    out.push_back(literal ? kLiteral + word : word);
  }
  return out;
}

template <class Into>
CLI::Option* positional(CLI::App& app, const char* name, Into& into, const char* help) {
  return app.add_option(name, into, help)->transform([](std::string word) {
    return word.starts_with(kLiteral) ? word.substr(1) : std::move(word);
  });
}

class Declaration {
 public:
  Declaration(CLI::App& app, Draft& draft) : app_(app), draft_(draft) {
    app_.require_subcommand(1);
    app_.footer(std::string(kFooter) + std::string(exit_code_help()));
    app_.get_formatter()->column_width(34);
    common(app_);
    talk();
    models();
    files();
    look();
    set_up();
  }

 private:
  void common(CLI::App& app) {
    app.set_help_flag("-h,--help", "Show this help");
    app.add_flag("--json", draft_.json, "Print JSON and nothing else on standard output");
    app.add_option("--url", draft_.url, "Where the daemon is (instead of LLM_MANAGER_URL)")->type_name("URL");
  }

  CLI::App& command(CLI::App& parent, const char* name, const char* group, const char* help,
                    const std::string& example, std::function<Result<Command>()> take) {
    CLI::App* sub = parent.add_subcommand(name, help);
    sub->group(group);
    sub->footer("Example:\n  " + example + "\n");
    sub->get_formatter()->column_width(34);
    common(*sub);
    // A command of a command is complete before its parent, and is the one that was meant.
    sub->parse_complete_callback([this, take = std::move(take)] {
      if (!draft_.take) draft_.take = take;
    });
    return *sub;
  }

  void talk() {
    auto& chat = command(
        app_, "chat", kGroupTalk, "Talk to a model, or ask it one question",
        "llm-manager chat                                  a conversation with the default model\n"
        "  llm-manager chat tinyllama-1.1b-chat \"Name three rivers.\"   one answer\n"
        "  llm-manager chat tinyllama-1.1b-chat < question.txt         the question from a file\n"
        "  llm-manager chat tinyllama-1.1b-chat \"Sum this up:\" - < text.txt     - is standard input\n"
        "\n"
        "A first word without spaces is the model; with --model all words are the question.\n"
        "In a conversation: Ctrl-C stops the answer, Ctrl-D or /exit leaves, /help tells the rest.",
        [this] { return take_chat(draft_); });
    chat.add_option("-m,--model", draft_.chat.model, "The model; all words are the question then")
        ->type_name("MODEL");
    chat.add_option("--system", draft_.chat.system, "What the model is told before the conversation")
        ->type_name("TEXT");
    chat.add_option("--temperature", draft_.chat.temperature, "0: always the likeliest word; 2: wild")
        ->type_name("T")
        ->check(CLI::Range(0.0, 2.0).description(""));
    positional(chat, "words", draft_.chat_words, "The model, and what to ask it")
        ->type_name("[MODEL] [PROMPT]");

    auto& embed = command(
        app_, "embed", kGroupTalk, "Turn texts into vectors",
        "llm-manager embed all-minilm-l6-v2 \"This is an example sentence\"\n"
        "  llm-manager embed --json - < lines.txt            a text a line, from standard input\n"
        "\n"
        "With two words or more, a first one without spaces is the model; with --model all are texts.",
        [this] { return take_embed(draft_); });
    embed.add_option("-m,--model", draft_.embed.model, "The model; all words are texts then")
        ->type_name("MODEL");
    positional(embed, "words", draft_.embed_words,
               "The model, and the texts; - reads a text a line from standard input")
        ->type_name("[MODEL] TEXT|-")
        ->required();
    conversations();
  }

  void conversations() {
    auto& all =
        command(app_, "conversations", kGroupTalk, "Conversations that are kept: list, show, search them",
                "llm-manager conversations\n"
                "  llm-manager conversations list --search 模型 --user ada",
                [this]() -> Result<Command> { return draft_.conversations; });
    const auto one = [](CLI::App& app, std::string& into) {
      positional(app, "id", into, "A conversation, as llm-manager conversations shows it")
          ->type_name("ID")
          ->required();
    };
    auto& list = command(all, "list", "Commands", "Those that were changed last, or have the words",
                         "llm-manager conversations list --search \"river Paris\"",
                         [this]() -> Result<Command> { return draft_.conversations; });
    list.add_option("--user", draft_.conversations.user, "Only this user's")->type_name("NAME");
    list.add_option("--channel", draft_.conversations.channel, "Only this channel's")->type_name("NAME");
    list.add_option("--search", draft_.conversations.search, "Only those with all these words")
        ->type_name("WORDS");
    list.add_option("-n,--limit", draft_.conversations.limit, "How many (20)")
        ->type_name("N")
        ->check(CLI::Range(1, 200).description(""));
    auto& show = command(all, "show", "Commands", "What was said in one",
                         "llm-manager conversations show c0123456789abcdef01234567",
                         [this]() -> Result<Command> { return draft_.conversation_show; });
    one(show, draft_.conversation_show.id);
    auto& written = command(all, "export", "Commands", "One as Markdown or JSON, on standard output",
                            "llm-manager conversations export c0123456789abcdef01234567 > talk.md",
                            [this]() -> Result<Command> { return draft_.conversation_export; });
    one(written, draft_.conversation_export.id);
    written.add_option("--format", draft_.conversation_export.format, "md (the default) or json")
        ->type_name("FORMAT")
        ->check(CLI::IsMember({"md", "json"}).description(""));
    auto& remove = command(all, "rm", "Commands", "Remove conversations for good",
                           "llm-manager conversations rm c0123456789abcdef01234567",
                           [this]() -> Result<Command> { return draft_.conversation_remove; });
    positional(remove, "id", draft_.conversation_remove.ids, "Which")->type_name("ID")->required();
    auto& rename = command(all, "rename", "Commands", "Give one another title",
                           "llm-manager conversations rename c0123456789abcdef01234567 Trip to Kyoto",
                           [this]() -> Result<Command> {
                             ConversationRenameOptions options = draft_.conversation_rename;
                             options.title = fmt::format("{}", fmt::join(draft_.title_words, " "));
                             return options;
                           });
    one(rename, draft_.conversation_rename.id);
    positional(rename, "title", draft_.title_words, "Its new title")->type_name("TITLE")->required();
  }

  void models() {
    auto& load =
        command(app_, "load", kGroupModels, "Load a model and wait until it is ready",
                "llm-manager load tinyllama-1.1b-chat", [this]() -> Result<Command> { return draft_.load; });
    model_argument(load, draft_.load.model, true);
    load.add_flag("--force", draft_.load.force, "Try it even where it is not expected to fit");

    auto& change =
        command(app_, "switch", kGroupModels, "Choose a model: its family gets the devices, and it is loaded",
                "llm-manager switch ollama_qwen:7b         local models make room, with a report\n"
                "  llm-manager switch                        which family has the devices",
                [this]() -> Result<Command> { return draft_.change; });
    model_argument(change, draft_.change.model, false);

    auto& unload =
        command(app_, "unload", kGroupModels, "Unload a model and report what was freed",
                "llm-manager unload tinyllama-1.1b-chat\n"
                "  llm-manager unload --all --hold        nothing is loaded again until somebody says load",
                [this] { return take_unload(draft_); });
    model_argument(unload, draft_.unload.model, false);
    unload.add_flag("--all", draft_.unload_all, "Every model that is loaded");
    unload.add_flag("--hold", draft_.unload.hold,
                    "Keep it unloaded until an explicit load: requests are refused");

    auto& pin =
        command(app_, "pin", kGroupModels, "Keep a model in memory: it does not expire and is not evicted",
                "llm-manager pin tinyllama-1.1b-chat", [this]() -> Result<Command> { return draft_.pin; });
    model_argument(pin, draft_.pin.model, true);
    auto& unpin = command(app_, "unpin", kGroupModels, "Let a pinned model expire and be evicted again",
                          "llm-manager unpin tinyllama-1.1b-chat", [this]() -> Result<Command> {
                            draft_.unpin.pin = false;
                            return draft_.unpin;
                          });
    model_argument(unpin, draft_.unpin.model, true);
  }

  void files() {
    auto& pull = command(
        app_, "pull", kGroupFiles, "Fetch a model from where it is published",
        "llm-manager pull hf:Qwen/Qwen3-8B-GGUF:Q4_K_M       a quantisation (or a file) of a repository\n"
        "  llm-manager pull ollama:llama3.2:1b                 from Ollama's registry\n"
        "  llm-manager pull https://example.org/tiny.gguf\n"
        "  llm-manager pull npm:some-model@1.0.0\n"
        "\n"
        "The daemon fetches. Ctrl-C pauses, and the same command goes on where it was; --detach returns at\n"
        "once. llm-manager pulls shows all of them, and pauses, resumes and cancels.",
        [this]() -> Result<Command> { return draft_.pull; });
    positional(pull, "source", draft_.pull.source, "What to fetch, as in the examples")
        ->type_name("SOURCE")
        ->required();
    pull.add_flag("-d,--detach", draft_.pull.detach, "Do not wait for its end");

    auto& pulls = command(app_, "pulls", kGroupFiles, "The pulls: list, pause, resume, cancel them",
                          "llm-manager pulls\n"
                          "  llm-manager pulls pause 3\n"
                          "  llm-manager pulls cancel 3             what has come of it is removed",
                          [this] { return take_pulls(draft_); });
    positional(pulls, "change", draft_.pulls.change, "pause, resume or cancel; without: list them")
        ->type_name("CHANGE")
        ->check(CLI::IsMember({"pause", "resume", "cancel"}).description(""));
    pulls.add_option("pull", draft_.pulls.id, "The number of the pull")->type_name("PULL");

    auto& remove =
        command(app_, "rm", kGroupFiles, "Remove a model's files from the disk",
                "llm-manager rm qwen3-8b-q4_k_m", [this]() -> Result<Command> { return draft_.remove; });
    model_argument(remove, draft_.remove.model, true);
    remove.add_flag("--force", draft_.remove.force,
                    "Also files that no pull has fetched, and what the configuration names");

    for (const bool discard : {false, true}) {
      auto& child = command(app_, discard ? "__discard-pull" : "__pull", "", "", "",
                            [this, discard]() -> Result<Command> {
                              draft_.pull_child.discard = discard;
                              return draft_.pull_child;
                            });
      child.add_option("folder", draft_.pull_child.folder)->required();
      child.add_option("key", draft_.pull_child.key)->required();
    }
  }

  void look() {
    command(app_, "list", kGroupLook, "All models: what they are, how large, in which state",
            "llm-manager list", []() -> Result<Command> { return ListOptions{}; });
    command(app_, "ps", kGroupLook, "What is in memory, what waits, what is held", "llm-manager ps",
            []() -> Result<Command> { return PsOptions{}; });
    auto& top = command(app_, "top", kGroupLook, "Devices, models and who waits, as they are now; q ends it",
                        "llm-manager top\n  llm-manager top -n 1 | less", [this]() -> Result<Command> {
                          if (std::isfinite(draft_.top.interval_s)) return draft_.top;
                          return fail(ErrorCode::kInvalidArgument, "--delay is a number of seconds", "usage");
                        });
    top.add_option("-d,--delay", draft_.top.interval_s, "Seconds between two looks (1)")
        ->type_name("SECONDS")
        ->check(CLI::Range(0.1, 3600.0).description(""));
    top.add_option("-n,--times", draft_.top.times, "Look so many times, then end")
        ->type_name("N")
        ->check(CLI::Range(1, 1'000'000'000).description(""));
    auto& inspect = command(app_, "inspect", kGroupLook,
                            "What a model file says of itself and would take; it is not loaded",
                            "llm-manager inspect ~/.cache/llm-manager/models/all-minilm-l6-v2.gguf",
                            [this]() -> Result<Command> { return draft_.inspect; });
    positional(inspect, "what", draft_.inspect.what, "A model file, or a model's name")
        ->type_name("FILE|MODEL")
        ->required();

    auto& plan = command(app_, "plan", kGroupLook,
                         "What a load would take, where, and who would go for it; nothing is loaded",
                         "llm-manager plan tinyllama-1.1b-chat --context 16384 --kv-type q8_0",
                         [this]() -> Result<Command> { return draft_.plan; });
    model_argument(plan, draft_.plan.model, true);
    const auto number = [&plan](const char* name, std::optional<int>& value, const char* help, int least) {
      plan.add_option(name, value, help)->type_name("N")->check(CLI::Range(least, 1 << 30).description(""));
    };
    number("--context", draft_.plan.context, "Tokens, all slots together", 1);
    number("--parallel", draft_.plan.parallel, "Requests answered at the same time", 1);
    number("--gpu-layers", draft_.plan.gpu_layers, "Layers that leave the host", 0);
    number("--batch", draft_.plan.batch, "Tokens that are read in one step", 1);
    plan.add_option("--kv-type", draft_.plan.kv_type, "Type of the KV cache: f16, q8_0, …")
        ->type_name("TYPE");

    auto& explain = command(app_, "explain", kGroupLook, "Why: the daemon's last decisions, newest first",
                            "llm-manager explain tinyllama-1.1b-chat",
                            [this]() -> Result<Command> { return draft_.explain; });
    model_argument(explain, draft_.explain.model, false);
    explain.add_option("-n,--limit", draft_.explain.limit, "How many (20)")
        ->type_name("N")
        ->check(CLI::Range(1, 10000).description(""));

    command(app_, "events", kGroupLook, "What happens, as it happens; Ctrl-C ends it",
            "llm-manager events --json | jq .data", []() -> Result<Command> { return EventsOptions{}; });

    auto& logs = command(app_, "logs", kGroupLook, "The daemon's log", "llm-manager logs -f",
                         [this]() -> Result<Command> { return draft_.logs; });
    logs.add_flag("-f,--follow", draft_.logs.follow, "Go on with new lines as they come; Ctrl-C ends it");
    logs.add_option("-n,--lines", draft_.logs.lines, "How many of the last lines (20)")
        ->type_name("N")
        ->check(CLI::Range(0, 10000000).description(""));
  }

  void set_up() {
    auto& serve = command(app_, "serve", kGroupSetUp, "Start the daemon; Ctrl-C ends it",
                          "llm-manager serve --models ~/models\n"
                          "  llm-manager serve --config llm-manager.yaml --listen 127.0.0.1:0",
                          [this]() -> Result<Command> { return draft_.serve; });
    serve
        .add_option("--config", draft_.serve.config,
                    "The configuration (llm-manager config example prints one)")
        ->type_name("FILE");
    serve.add_option("--listen", draft_.serve.listen, "Where to listen (127.0.0.1:11435); port 0 picks one")
        ->type_name("HOST:PORT");
    serve.add_option("--models", draft_.serve.models, "A folder with model files; may be given again")
        ->type_name("FOLDER")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    serve.add_option("--data", draft_.serve.data, "Keep all state below this folder")->type_name("FOLDER");
    serve.add_option("--log-level", draft_.serve.log_level, "debug, info, warning or error")
        ->type_name("LEVEL")
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
    serve
        .add_option("--record", draft_.serve.record,
                    "Record every event there, for a bug report (instead of LLM_MANAGER_EVENT_LOG)")
        ->type_name("FILE");
    // What the libraries say; no business of people.
    serve.add_option("--lifeline", draft_.serve.lifeline)->group("")->check(CLI::Range(0, 1 << 20));

    command(app_, "doctor", kGroupSetUp, "Find what is wrong, and say what mends it; works without a daemon",
            "llm-manager doctor", []() -> Result<Command> { return DoctorOptions{}; });

    CLI::App* config = app_.add_subcommand("config", "Print an example configuration, or check one");
    config->group(kGroupSetUp);
    config->require_subcommand(1);
    config->set_help_flag("-h,--help", "Show this help");
    command(*config, "example", "Commands",
            "Print a configuration with every setting, its meaning and its default",
            "llm-manager config example > llm-manager.yaml",
            []() -> Result<Command> { return ConfigExampleOptions{}; });
    auto& check = command(*config, "check", "Commands",
                          "Say what is wrong or odd in a configuration, with file and line",
                          "llm-manager config check llm-manager.yaml",
                          [this]() -> Result<Command> { return draft_.config_check; });
    positional(check, "file", draft_.config_check.file,
               "The configuration; the one that serve would take, if not given")
        ->type_name("FILE");

    auto& completion = command(
        app_, "completion", kGroupSetUp, "Print the script that makes your shell complete these commands",
        "llm-manager completion bash > ~/.local/share/bash-completion/completions/llm-manager\n"
        "  llm-manager completion zsh > ~/.zfunc/_llm-manager            (~/.zfunc in $fpath)\n"
        "  llm-manager completion fish > ~/.config/fish/completions/llm-manager.fish",
        [this]() -> Result<Command> { return draft_.completion; });
    positional(completion, "shell", draft_.completion.shell, "bash, zsh or fish")
        ->type_name("SHELL")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));

    simulate();
    command(app_, "__models", "", "", "", []() -> Result<Command> { return ModelNamesOptions{}; });
    auto& replay =
        command(app_, "replay", "", "Decide a recorded day once more", "llm-manager replay day.jsonl",
                [this]() -> Result<Command> { return draft_.replay; });
    positional(replay, "file", draft_.replay.recording, "What serve --record has written")
        ->type_name("FILE")
        ->required();
    command(app_, "version", kGroupSetUp, "The version of this program and of the daemon",
            "llm-manager version", []() -> Result<Command> { return VersionOptions{}; });
  }

  void simulate() {
    SimulateOptions& o = draft_.simulate;
    SimulateTexts& texts = draft_.simulate_texts;
    auto& app =
        command(app_, "simulate", kGroupSetUp,
                "Try a machine or a policy on a trace, in virtual time; nothing is loaded",
                "llm-manager simulate --trace day.csv                           what clients would meet\n"
                "  llm-manager simulate --trace day.csv --models machine.yaml --policy all\n"
                "  llm-manager simulate --trace day.csv --memory 48GB --load 0.8\n"
                "  llm-manager simulate --synthetic --rate 1.6 --swap 500ms --policy gated --policy fifo\n"
                "\n"
                "A trace is a CSV with the columns t_s, model, context_tokens and generated_tokens; client, where some ask one after the other.\n"
                "What --models FILE may say is in docs/cli.md; what it does not say is assumed, and shown.",
                [this] { return take_simulate(draft_); });
    const auto positive = CLI::PositiveNumber.description("");
    app.add_option("--trace", o.trace, "What is asked for, and when")->type_name("FILE");
    app.add_option("--models", o.models, "The machine: its devices, and its models' sizes and speeds")
        ->type_name("FILE");
    app.add_option("--policy", texts.policies,
                   "gated (the default), exhaustive, fifo or all; may be given again")
        ->type_name("POLICY")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->check(CLI::IsMember({"gated", "exhaustive", "fifo", "all"}).description(""));
    app.add_option("--memory", texts.memory, "Of the first device (12GB)")->type_name("AMOUNT");
    app.add_option("--max-loaded", o.max_loaded, "The most models in memory at a time")
        ->type_name("N")
        ->check(CLI::Range(1, 1024).description(""));
    app.add_option("--slots", o.slots, "Answers at the same time, of every model")
        ->type_name("N")
        ->check(CLI::Range(1, 4096).description(""));
    app.add_option("--swap", texts.swap, "What a change of models costs, for every model")->type_name("TIME");
    app.add_option("--quantum-factor", o.quantum_factor, "As scheduling.quantum_factor (8)")
        ->type_name("K")
        ->check(CLI::Range(0.0, 1000.0).description(""));
    app.add_option("--quantum-min", texts.quantum_min, "As scheduling.quantum_min (2s)")->type_name("TIME");
    app.add_option("--age-cap", texts.age_cap, "As scheduling.age_cap_interactive (30s)")->type_name("TIME");
    app.add_option("--drain", texts.drain, "As scheduling.drain (1s): then running answers are set aside")
        ->type_name("TIME");
    app.add_flag("--no-preemption", o.no_preemption, "Running answers are waited for at the end of a turn");
    app.add_option("--queue", o.queue, "The most requests that wait for one model (256)")
        ->type_name("N")
        ->check(CLI::Range(1, 1'000'000).description(""));
    app.add_option("--scale", o.scale, "So many times the trace's load: its arrivals move closer or apart")
        ->type_name("FACTOR")
        ->check(positive);
    app.add_option("--load", o.load, "Scale to so much of what one model at a time can answer: 0.8 is 80 %")
        ->type_name("SHARE")
        ->check(positive);
    app.add_option("--horizon", texts.horizon, "Stop there; what is not answered by then is left")
        ->type_name("TIME");
    static constexpr const char* kMade =
        "A workload that is made up (Poisson arrivals, exponentially long answers)";
    // CLI11's own "needs" would stand in the help of each.
    const auto only_made = [this](CLI::Option* option) {
      option->group(kMade)->each([this, option](const std::string&) { draft_.made_up = option->get_name(); });
    };
    app.add_flag("--synthetic", draft_.synthetic, "Make one up instead of --trace")->group(kMade);
    only_made(
        app.add_option("--rate", o.synthetic.rate, "Requests a second (1)")->type_name("N")->check(positive));
    only_made(app.add_option("--service", texts.service, "Mean length of an answer (2s)")->type_name("TIME"));
    only_made(app.add_option("--model-count", o.synthetic.models, "How many models are asked for (2)")
                  ->type_name("N")
                  ->check(CLI::Range(1, 1000).description("")));
    only_made(app.add_option("--skew", o.synthetic.skew,
                             "The n-th is asked for n^-SKEW as often as the first (0: equal)")
                  ->type_name("SKEW")
                  ->check(CLI::Range(0.0, 10.0).description("")));
    only_made(app.add_option("--duration", texts.span, "How long requests come (1h)")->type_name("TIME"));
    only_made(app.add_option("--seed", o.synthetic.seed, "Another seed, other requests (1)")->type_name("N"));
  }

  static void model_argument(CLI::App& app, std::string& into, bool required) {
    positional(app, "model", into, "A model's name, alias or role, as llm-manager list shows it")
        ->type_name("MODEL")
        ->required(required)
        ->check([](const std::string& name) {
          return name.empty() ? "it is empty; llm-manager list shows the names" : std::string();
        });
  }

  CLI::App& app_;
  Draft& draft_;
};

const CLI::App& named_command(const CLI::App& app) {
  const auto subcommands = app.get_subcommands();
  return subcommands.empty() ? app : named_command(*subcommands.front());
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

std::vector<std::string> visible_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!sub->get_group().empty()) names.push_back(sub->get_name());
  }
  return names;
}

// The first word that is no option where a command was expected.
std::string unknown_command(const CLI::App& app, const CLI::App& named,
                            const std::vector<std::string>& arguments) {
  std::size_t skip = static_cast<std::size_t>(std::ranges::count(full_name(named), ' '));
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--url") ++i;
    if (word.starts_with('-')) continue;
    if (skip == 0) return word;
    --skip;
  }
  static_cast<void>(app);
  return {};
}

std::string usage_text(const CLI::App& app, const CLI::ParseError& error,
                       const std::vector<std::string>& arguments) {
  const CLI::App& named = named_command(app);
  const std::string name = full_name(named);
  const std::vector<std::string> known = visible_names(named);
  std::string message = error.what();
  if (!known.empty()) {
    if (const std::string word = unknown_command(app, named, arguments); !word.empty()) {
      message = fmt::format("{} is no command", word);
      if (const auto meant = config::nearest(word, known))
        message += fmt::format("; did you mean {}?", *meant);
    } else if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr) {
      message = fmt::format("which command? one of {}", fmt::join(known, ", "));
    }
  }
  if (!message.empty() && message.back() == '.') message.pop_back();
  return fmt::format("{}: {}\nhelp: {} --help\n", name, message, name);
}

// What the daemon is told is JSON, which has no form for other bytes. A path that stays here is just bytes.
bool is_for_the_daemon(const Command& command) {
  return !std::holds_alternative<ServeOptions>(command) &&
         !std::holds_alternative<ConfigCheckOptions>(command) &&
         !std::holds_alternative<ReplayOptions>(command) &&
         !std::holds_alternative<SimulateOptions>(command) &&
         !std::holds_alternative<PullChildOptions>(command);
}

// CLI11 takes "--url=" for an option whose value has been forgotten, or the next word for its value.
bool gives_empty_url(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--url=") return true;
    if (words[i] == "--url" && i + 1 < words.size() && words[i + 1].empty()) return true;
  }
  return false;
}

CommandShape::Option::Value value_of(std::string_view type) {
  using Value = CommandShape::Option::Value;
  if (type == "FILE") return Value::kFile;
  if (type == "FOLDER") return Value::kFolder;
  if (type == "MODEL") return Value::kModel;
  return Value::kText;
}

void add_shapes(const CLI::App& app, const std::string& prefix, std::vector<CommandShape>& out) {
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (sub->get_group().empty()) continue;
    CommandShape shape{.name = prefix + sub->get_name(),
                       .help = sub->get_description(),
                       .takes = {},
                       .words = {},
                       .options = {}};
    for (const CLI::Option* option : sub->get_options()) {
      if (option->get_group().empty()) continue;
      if (option->get_positional()) {
        const std::string type = option->get_type_name();
        using Takes = CommandShape::Takes;
        shape.takes = type.starts_with("FILE|")                      ? Takes::kModelOrFile
                      : type == "FILE"                               ? Takes::kFile
                      : type == "MODEL" || type.find("[MODEL]") == 0 ? Takes::kModel
                                                                     : Takes::kWord;
        if (type.starts_with("SHELL")) shape.words = {"bash", "zsh", "fish"};
        if (type.starts_with("CHANGE")) shape.words = {"pause", "resume", "cancel"};
        continue;
      }
      CommandShape::Option described{.names = {}, .help = option->get_description(), .value = {}};
      for (const std::string& name : option->get_snames()) described.names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) described.names.push_back("--" + name);
      if (option->get_items_expected_max() > 0) described.value = value_of(option->get_type_name());
      shape.options.push_back(std::move(described));
    }
    for (const std::string& word : visible_names(*sub)) shape.words.push_back(word);
    if (!shape.words.empty()) shape.takes = CommandShape::Takes::kWord;
    const std::string name = shape.name;
    out.push_back(std::move(shape));
    add_shapes(*sub, name + " ", out);
  }
}

}  // namespace

std::expected<Arguments, Usage> parse_arguments(const std::vector<std::string>& arguments) {
  Draft draft;
  CLI::App app(kDescription, "llm-manager");
  const Declaration declaration(app, draft);
  std::vector<std::string> words = with_marked_words(arguments);
  const bool wants_json = std::ranges::find(words, "--json") != words.end();
  bool version_flag = false;
  app.add_flag("--version", version_flag, "The same as the command version");
  // "llm-manager --version" alone is a command.
  if (arguments.size() == 1 && arguments.front() == "--version")
    return Arguments{.command = VersionOptions{}, .url = {}, .json = false};
  if (gives_empty_url(words)) {
    return std::unexpected(Usage{.code = ExitCode::kUsage,
                                 .text =
                                     "llm-manager: --url is empty: write the daemon's address, as in --url "
                                     "http://127.0.0.1:11435, or leave it out\n",
                                 .json = wants_json});
  }
  try {
    // CLI11 takes them from the back.
    std::ranges::reverse(words);
    app.parse(std::move(words));
  } catch (const CLI::CallForHelp&) {
    return std::unexpected(Usage{.code = ExitCode::kOk, .text = app.help(), .json = false});
  } catch (const CLI::ParseError& error) {
    if (arguments.empty())
      return std::unexpected(Usage{.code = ExitCode::kUsage, .text = app.help(), .json = false});
    return std::unexpected(
        Usage{.code = ExitCode::kUsage, .text = usage_text(app, error, arguments), .json = wants_json});
  }
  LM_ASSERT(draft.take, "a parsed command line names a command");
  Result<Command> command = draft.take();
  const auto other = std::ranges::find_if_not(arguments, config::is_utf8);
  if (command && other != arguments.end() && is_for_the_daemon(*command)) {
    command = fail(ErrorCode::kInvalidArgument,
                   fmt::format("{} is not UTF-8, which is all that the daemon is told",
                               config::printable_name(other->substr(0, 200))),
                   "usage");
  }
  if (!command) {
    const std::string name = full_name(named_command(app));
    return std::unexpected(
        Usage{.code = ExitCode::kUsage,
              .text = fmt::format("{}: {}\nhelp: {} --help\n", name, command.error().message, name),
              .json = wants_json});
  }
  return Arguments{.command = *std::move(command), .url = draft.url, .json = draft.json};
}

std::vector<CommandShape> command_shapes() {
  Draft draft;
  CLI::App app(kDescription, "llm-manager");
  const Declaration declaration(app, draft);
  std::vector<CommandShape> shapes;
  add_shapes(app, "", shapes);
  return shapes;
}

}  // namespace lm::cli
