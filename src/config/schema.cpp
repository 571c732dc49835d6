#include "config/schema.h"

#include <csignal>
#include <limits>

#include "config/value.h"

namespace lm::config {
namespace {

// The place of a value in a Config, const or not; `name` is what * stands for.
#define LM_AT(expression) \
  [](auto& c, [[maybe_unused]] const std::string& name) -> auto& { return expression; }

template <class T, class Access>
Key key(std::string path, Type<T> type, Access access, std::string help, std::string example = {}) {
  return {.path = std::move(path),
          .type = type.name,
          .help = std::move(help),
          .example = std::move(example),
          .aliases = {},
          .restart = false,
          .read = [type, access](Config& config, const std::string& name,
                                 const Node& node) -> std::optional<std::string> {
            auto value = type.read(node);
            if (!value) return std::move(value).error();
            access(config, name) = *std::move(value);
            return std::nullopt;
          },
          .print = [type, access](const Config& config,
                                  const std::string& name) { return type.print(access(config, name)); }};
}

Key also_called(Key key, std::string alias) {
  key.aliases.push_back(std::move(alias));
  return key;
}

Key at_restart(Key key) {
  key.restart = true;
  return key;
}

constexpr int kNoLimit = std::numeric_limits<int>::max();

Type<Location> location_type() {
  return choice_type<Location>(
      {{"auto", Location::kAuto}, {"local", Location::kLocal}, {"remote", Location::kRemote}});
}

Type<PriorityClass> priority_type() {
  return choice_type<PriorityClass>(
      {{"interactive", PriorityClass::kInteractive}, {"batch", PriorityClass::kBatch}});
}

void add_models(std::vector<Key>& keys) {
  const auto add = [&keys](Key key) { keys.push_back(std::move(key)); };
  add(key("models.*.model_path", text_type("a path, or the name of a model in a model folder"),
          LM_AT(c.models.at(name).model_path),
          "The GGUF file (the first of a split one), a Hugging Face folder, or a model's name. Relative to "
          "this file. "
          "MODEL_NAME and EMBEDDING_MODEL_NAME stand in for llm and embedding where it is not given.",
          "models/Qwen3-8B-Q4_K_M.gguf"));
  add(key("models.*.projector", text_type("a path"), LM_AT(c.models.at(name).projector),
          "The multimodal projector; one that lies beside the model is found by itself.",
          "models/mmproj-Qwen3-VL-8B.gguf"));
  add(key("models.*.kind",
          maybe(choice_type<ModelKind>({{"generation", ModelKind::kGeneration},
                                        {"embedding", ModelKind::kEmbedding},
                                        {"rerank", ModelKind::kRerank}})),
          LM_AT(c.models.at(name).kind),
          "What it does: generation, embedding or rerank; by its name and its file where it is not given.",
          "generation"));
  add(key("models.*.aliases", texts_type("a list of names"), LM_AT(c.models.at(name).aliases),
          "Other names that requests may use.", "[gpt-4o-mini]"));
  add(key("models.*.device", device_type(), LM_AT(c.models.at(name).load.device),
          "Where it runs: auto, host (cpu), cuda, cuda0, … Without such a device it runs on the host, with a "
          "warning."));
  add(key("models.*.devices", texts_type("a list of devices"), LM_AT(c.models.at(name).devices),
          "The only devices it may use; all where it is not given.", "[cuda0, cuda1]"));
  add(key("models.*.max_devices", maybe(integer_type(1, 1024)), LM_AT(c.models.at(name).max_devices),
          "The most devices that it is split over; as few as will do are used anyway.", "2"));
  add(key("models.*.layout",
          maybe(choice_type<Layout>({{"compact", Layout::kCompact}, {"guide", Layout::kGuide}})),
          LM_AT(c.models.at(name).layout),
          "compact: the fewest cards that it fits on; guide: text over the first four, embeddings on the "
          "fifth. guide for llm and embedding where there are five cards or more, else compact.",
          "guide"));
  add(key("models.*.split", choice_type<Split>({{"layer", Split::kLayer}, {"row", Split::kRow}}),
          LM_AT(c.models.at(name).load.split),
          "How it is cut where it lies on several devices: layer after layer, or each matrix by rows."));
  add(key("models.*.reserve", device_amounts_type(), LM_AT(c.models.at(name).reserve),
          "Memory to leave free when it is placed, on every device or device by device.", "1GB"));
  add(key("models.*.max_length", maybe(integer_type(1, kNoLimit)), LM_AT(c.models.at(name).load.context),
          "Context in tokens, for all of its answers at a time together. What is written here is never made "
          "smaller when memory is short.",
          "4096"));
  add(key("models.*.temperature", maybe(number_type(0, 5)), LM_AT(c.models.at(name).sampling.temperature),
          "Sampling values for requests that leave them out.", "0.7"));
  add(key("models.*.top_p", maybe(number_type(0, 1)), LM_AT(c.models.at(name).sampling.top_p), "", "0.9"));
  add(key("models.*.top_k", maybe(integer_type(0, kNoLimit)), LM_AT(c.models.at(name).sampling.top_k), "",
          "50"));
  add(key("models.*.min_p", maybe(number_type(0, 1)), LM_AT(c.models.at(name).sampling.min_p), "", "0.05"));
  add(key("models.*.repeat_penalty", maybe(number_type(0, 10)),
          LM_AT(c.models.at(name).sampling.repeat_penalty), "", "1.1"));
  add(key("models.*.max_tokens", maybe(integer_type(1, kNoLimit)),
          LM_AT(c.models.at(name).sampling.max_tokens), "", "1024"));
  add(also_called(
      key("models.*.quantize", quantization_type(), LM_AT(c.models.at(name).quantize),
          "What the weights of a Hugging Face checkpoint are brought down to: none, 8bit or 4bit (q4_k_m); "
          "by its kind where it is not given. A GGUF file stays as it is.",
          "q4_k_m"),
      "quantization"));
  add(key("models.*.batch_size", maybe(integer_type(1, kNoLimit)), LM_AT(c.models.at(name).batch_size),
          "Texts that an embedding model is given at a time.", "32"));
  add(key("models.*.batch_tokens", maybe(integer_type(1, kNoLimit)), LM_AT(c.models.at(name).load.batch),
          "Tokens that are read in one step.", "512"));
  add(key("models.*.parallel", maybe(integer_type(1, 1024)), LM_AT(c.models.at(name).load.parallel),
          "Requests answered at the same time.", "2"));
  add(key("models.*.gpu_layers", maybe(integer_type(0, kNoLimit)), LM_AT(c.models.at(name).load.gpu_layers),
          "Layers on the card; as many as fit where it is not given.", "99"));
  add(key("models.*.threads", maybe(integer_type(1, 4096)), LM_AT(c.models.at(name).load.threads),
          "Threads on the host.", "4"));
  add(key("models.*.kv_type", text_type("a type such as f16 or q8_0"), LM_AT(c.models.at(name).load.kv_type),
          "Type of the KV cache: f16, q8_0, q4_0, …", "q8_0"));
  add(key("models.*.pooling", text_type("mean, cls or last"), LM_AT(c.models.at(name).load.pooling),
          "How an embedding model joins its tokens; what the model says where it is not given.", "mean"));
  add(key("models.*.mmap", boolean_type(), LM_AT(c.models.at(name).load.mmap),
          "Read the weights through a mapping of the file."));
  add(key("models.*.pinned", boolean_type(), LM_AT(c.models.at(name).policy.pinned),
          "Loaded at start, never evicted, never expires."));
  add(key("models.*.keep_alive", maybe(keep_alive_type()), LM_AT(c.models.at(name).policy.keep_alive),
          "Idle time until it is unloaded, or forever; residency.keep_alive where it is not given.",
          "10min"));
  add(key("models.*.weight", number_type(0.01, 100), LM_AT(c.models.at(name).policy.weight),
          "Its share of the device when models compete."));
  add(key("models.*.priority", priority_type(), LM_AT(c.models.at(name).policy.priority),
          "Class of its requests that have no X-Priority: interactive, or batch, which waits longer."));
}

// The limits of the server at `path`, "ollama" or "providers.*".
template <class Access>
void add_answer_limits(std::vector<Key>& keys, const std::string& path, Access limits) {
  const auto add = [&](const char* word, auto member, const char* help, const char* example) {
    keys.push_back(key(
        path + word, duration_type(std::chrono::milliseconds(1)),
        [limits, member](auto& c, const std::string& name) -> auto& { return limits(c, name).*member; }, help,
        example));
  };
  add(".connect_timeout", &AnswerLimits::connect, "How long a connection to it may take, TLS included.",
      "10s");
  add(".first_byte_timeout", &AnswerLimits::first_byte,
      "How long it may take to begin its answer, loading its model included.", "10min");
  add(".silence_timeout", &AnswerLimits::silence, "How long it may say nothing in the middle of an answer.",
      "5min");
}

void add_upstreams(std::vector<Key>& keys) {
  const auto add = [&keys](Key key) { keys.push_back(std::move(key)); };
  add(key("ollama.url", url_type(), LM_AT(c.ollama.url), "Where Ollama listens."));
  add(key("ollama.location", location_type(), LM_AT(c.ollama.location),
          "Whether it shares this machine's devices: auto (by its address), local or remote."));
  add_answer_limits(keys, "ollama", LM_AT(c.ollama.limits));

  add(key("providers.*.base_url", url_type(), LM_AT(c.providers.at(name).base_url),
          "Address of an OpenAI-compatible API.", "https://api.openai.com/v1"));
  add(key("providers.*.api_key_env", text_type("the name of a variable"),
          LM_AT(c.providers.at(name).api_key.env), "The variable (environment or .env) that has the key.",
          "OPENAI_API_KEY"));
  add(key("providers.*.api_key_file", text_type("a path"), LM_AT(c.providers.at(name).api_key.file),
          "Or the file that has it.", "openai.key"));
  add(key("providers.*.models", texts_type("a list of models"), LM_AT(c.providers.at(name).models),
          "The models to offer; what it lists itself where it is not given.", "[gpt-4o-mini]"));
  add(key("providers.*.location", location_type(), LM_AT(c.providers.at(name).location),
          "Whether it shares this machine's devices: auto (by its address), local or remote."));
  add_answer_limits(keys, "providers.*", LM_AT(c.providers.at(name).limits));

  add(key(
      "commands.*.command", texts_type("a program and its arguments, as a list"),
      LM_AT(c.commands.at(name).command),
      "Program and arguments, without a shell. ${port} is base_url's port or a free one, ${socket} a path.",
      "[vllm, serve, \"Qwen/Qwen3-8B\", \"--port\", \"${port}\"]"));
  add(key("commands.*.base_url", url_type(), LM_AT(c.commands.at(name).base_url),
          "Where it then listens; on ${port} or ${socket} where it is not given.",
          "http://127.0.0.1:8000/v1"));
  add(key("commands.*.models", texts_type("a list of models"), LM_AT(c.commands.at(name).models),
          "The models it serves: it cannot be asked before it runs.", "[\"Qwen/Qwen3-8B\"]"));
  add(key("commands.*.working_folder", text_type("a path"), LM_AT(c.commands.at(name).working_folder),
          "Where it is started.", "vllm"));
  add(key("commands.*.environment", text_map_type(), LM_AT(c.commands.at(name).environment),
          "Variables to set for it; ${port} and ${socket} here too.", "{HF_HUB_OFFLINE: \"1\"}"));
  add(key("commands.*.health", text_type("a path such as /health"), LM_AT(c.commands.at(name).health),
          "What answers 200 once it is ready; /health, else /v1/models where it is not given.", "/health"));
  add(key("commands.*.start_timeout", duration_type(std::chrono::milliseconds(1)),
          LM_AT(c.commands.at(name).start_timeout), "How long it may take to be ready.", "10min"));
  add(key("commands.*.stop_signal",
          choice_type<int>({{"SIGTERM", SIGTERM},
                            {"SIGINT", SIGINT},
                            {"SIGQUIT", SIGQUIT},
                            {"SIGHUP", SIGHUP},
                            {"SIGKILL", SIGKILL}}),
          LM_AT(c.commands.at(name).stop_signal), "What ends it; SIGKILL follows after ten seconds.",
          "SIGTERM"));
  add_answer_limits(keys, "commands.*", LM_AT(c.commands.at(name).limits));
}

void add_policy(std::vector<Key>& keys) {
  const auto add = [&keys](Key key) { keys.push_back(std::move(key)); };
  const Duration instant = Duration::zero();
  add(key(
      "residency.mode",
      choice_type<ResidencyMode>({{"exclusive", ResidencyMode::kExclusive}, {"fit", ResidencyMode::kFit}}),
      LM_AT(c.settings.residency.mode),
      "exclusive: local models, Ollama and providers on this machine take turns; fit: whatever fits stays."));
  add(key("residency.linger", duration_type(), LM_AT(c.settings.residency.linger),
          "How long local models stay after the last request has gone to a remote provider."));
  add(key("residency.max_loaded", maybe(integer_type(1, 1024)), LM_AT(c.settings.residency.max_loaded),
          "The most generation models in memory at a time; as many as fit where it is not given.", "2"));
  add(key("residency.keep_alive", keep_alive_type(), LM_AT(c.settings.residency.keep_alive),
          "Idle time until a model is unloaded, or forever."));
  add(key(
      "residency.keep_alive_limit", keep_alive_type(), LM_AT(c.settings.residency.keep_alive_limit),
      "The longest idle time that a client may ask for (Ollama's keep_alive), where the model has none of "
      "its own."));

  add(key("scheduling.policy",
          choice_type<SchedulingPolicy>({{"gated", SchedulingPolicy::kGated},
                                         {"exhaustive", SchedulingPolicy::kExhaustive},
                                         {"fifo", SchedulingPolicy::kFifo}}),
          LM_AT(c.settings.scheduling.policy),
          "gated: models take turns and nobody starves; exhaustive: a turn lasts until nobody of its own "
          "waits; fifo: strict arrival order, however many changes that takes."));
  add(key("scheduling.quantum_min", duration_type(), LM_AT(c.settings.scheduling.quantum_min),
          "A model keeps its turn for at least this long while others wait,"));
  add(key("scheduling.quantum_factor", number_type(0, 1000), LM_AT(c.settings.scheduling.quantum_factor),
          "or for this many times what a change of models costs."));
  add(key("scheduling.age_cap_interactive", duration_type(instant),
          LM_AT(c.settings.scheduling.age_cap_interactive), "A request that has waited longer goes first."));
  add(key("scheduling.age_cap_batch", duration_type(instant), LM_AT(c.settings.scheduling.age_cap_batch),
          "The same for requests of class batch."));
  add(also_called(
      key("scheduling.drain", duration_type(instant), LM_AT(c.settings.scheduling.drain),
          "Answers that run on after a turn's end are set aside after this time and continued later."),
      "drain_limit"));
  add(key("scheduling.wait_interactive", duration_type(std::chrono::milliseconds(1)),
          LM_AT(c.settings.scheduling.wait_interactive),
          "The longest that a request waits which has no deadline of its own."));
  add(key("scheduling.wait_batch", duration_type(std::chrono::milliseconds(1)),
          LM_AT(c.settings.scheduling.wait_batch), "The same for requests of class batch."));
  add(key("scheduling.queue_per_model", integer_type(1, 1'000'000),
          LM_AT(c.settings.scheduling.queue_per_model), "The most requests that wait for one model;"));
  add(key("scheduling.queue_total", integer_type(1, 1'000'000), LM_AT(c.settings.scheduling.queue_total),
          "and for all of them."));

  add(key("limits.drain_unload", duration_type(), LM_AT(c.settings.limits.drain_unload),
          "How long answers may run on after an explicit unload;"));
  add(key("limits.drain_evict", duration_type(), LM_AT(c.settings.limits.drain_evict),
          "and after an eviction."));
  add(key("limits.stop_grace", duration_type(), LM_AT(c.settings.limits.stop_grace),
          "Between asking a worker to end and ending it."));
  add(key("limits.yield", duration_type(std::chrono::milliseconds(1)), LM_AT(c.settings.limits.yield),
          "How long an upstream may take to give up what it holds on our devices."));
  add(key("limits.release_cap", duration_type(), LM_AT(c.settings.limits.release_cap),
          "How long freed memory may take to show before the rest is reported with its holders."));
  add(key("limits.load_silence", duration_type(std::chrono::seconds(1)),
          LM_AT(c.settings.limits.load_silence), "A load without progress for so long has failed."));
  add(key("limits.retry_first", duration_type(), LM_AT(c.settings.limits.retry_first),
          "Wait after a failed load; doubles each time,"));
  add(key("limits.retry_most", duration_type(), LM_AT(c.settings.limits.retry_most), "up to this."));

  add(key("devices.rpc", texts_type("a list of HOST:PORT"), LM_AT(c.rpc_servers),
          "llama.cpp's RPC servers whose devices are used as well: rpc0, rpc1, … in this order. They know no "
          "keys: only in a network that you trust.",
          "[\"10.0.0.7:50052\"]"));
  add(key("devices.*.limit", maybe(bytes_type()), LM_AT(c.devices.at(name).limit),
          "The most that our models may take of it together.", "16GB"));
  add(also_called(key("devices.*.headroom", maybe(bytes_type()), LM_AT(c.devices.at(name).headroom),
                      "What is kept free of it for everybody else.", "2GB"),
                  "reserve"));

  add(at_restart(
      key("standby",
          choice_type<Standby>(
              {{"off", Standby::kOff}, {"process", Standby::kProcess}, {"device", Standby::kDevice}}),
          LM_AT(c.standby),
          "What waits for the next load: off, process, or device (a process that has opened the cards and "
          "holds a little "
          "of their memory).")));

  add(key("state.memory", bytes_type(), LM_AT(c.state.memory),
          "Kept in memory of conversations whose model is unloaded;"));
  add(key("state.disk", bytes_type(), LM_AT(c.state.disk), "and on disk."));
  add(key("state.checkpoint_idle", duration_type(), LM_AT(c.state.checkpoint_idle),
          "They are also saved, against a crash, when their model had nothing to do for so long; 0: never."));
}

void add_surroundings(std::vector<Key>& keys) {
  const auto add = [&keys](Key key) { keys.push_back(std::move(key)); };
  add(at_restart(key("server.listen", text_type("HOST:PORT"), LM_AT(c.server.listen),
                     "Address and port; port 0 picks one. Anything wider than this machine demands keys.")));
  add(key("server.keys.user_env", text_type("the name of a variable"), LM_AT(c.server.user_key.env),
          "The variable (environment or .env) with the key for requests,"));
  add(key("server.keys.user_file", text_type("a path"), LM_AT(c.server.user_key.file),
          "or the file that has it.", "user.key"));
  add(key("server.keys.admin_env", text_type("the name of a variable"), LM_AT(c.server.admin_key.env),
          "The same for loading, unloading and everything else that changes something."));
  add(key("server.keys.admin_file", text_type("a path"), LM_AT(c.server.admin_key.file), "", "admin.key"));
  add(key("server.clients.*.key_env", text_type("the name of a variable"),
          LM_AT(c.server.clients.at(name).key.env),
          "The variable (environment or .env) with its key, which is good for requests,", "CI_KEY"));
  add(key("server.clients.*.key_file", text_type("a path"), LM_AT(c.server.clients.at(name).key.file),
          "or the file that has it.", "ci.key"));
  add(key("server.clients.*.priority", priority_type(), LM_AT(c.server.clients.at(name).priority),
          "The most that its requests get: interactive, or batch whatever they ask for."));
  add(key("server.clients.*.weight", number_type(0.01, 100), LM_AT(c.server.clients.at(name).weight),
          "How much its waiting counts when models compete."));
  add(key("server.allowed_hosts", texts_type("a list of host names"), LM_AT(c.server.allowed_hosts),
          "Names in Host headers that are ours, besides localhost.", "[llm.example.org]"));
  add(key("server.allowed_origins", texts_type("a list of origins"), LM_AT(c.server.allowed_origins),
          "Web pages that may call us, besides our own.", "[\"https://chat.example.org\"]"));
  add(at_restart(key("server.limits.connections", integer_type(1, 1'000'000),
                     LM_AT(c.server.limits.connections), "Connections at a time.")));
  add(at_restart(key("server.limits.body", bytes_type(), LM_AT(c.server.limits.body), "Size of a request.")));
  add(at_restart(key("server.limits.header_timeout", duration_type(std::chrono::milliseconds(1)),
                     LM_AT(c.server.limits.header_timeout), "Time for a request's head to arrive.")));
  add(at_restart(key("server.limits.idle_timeout", duration_type(std::chrono::milliseconds(1)),
                     LM_AT(c.server.limits.idle_timeout), "Time for an idle connection to live.")));

  add(key("locale",
          choice_type<Locale>({{"auto", Locale::kAuto},
                               {"en", Locale::kEnglish},
                               {"zh-CN", Locale::kSimplifiedChinese},
                               {"zh-TW", Locale::kTraditionalChinese}}),
          LM_AT(c.locale), "Language of what people read: auto (from LANG), en, zh-CN or zh-TW."));

  add(key("vtuber.response.max_tokens", maybe(integer_type(1, kNoLimit)), LM_AT(c.vtuber_response.max_tokens),
          "Length of an answer.", "150"));
  add(key("vtuber.response.min_tokens", maybe(integer_type(0, kNoLimit)), LM_AT(c.vtuber_response.min_tokens),
          "", "10"));
  add(key("vtuber.response.filter_repetition", boolean_type(), LM_AT(c.vtuber_response.filter_repetition),
          "Take out sentences that repeat."));
  add(key("vtuber.response.enable_traditional_chinese", boolean_type(),
          LM_AT(c.vtuber_response.enable_traditional_chinese), "Answer in Traditional Chinese."));

  add(at_restart(key("discord.token_env", text_type("the name of a variable"), LM_AT(c.discord.token.env),
                     "The variable (environment or .env) with the bot's token,")));
  add(at_restart(key("discord.token_file", text_type("a path"), LM_AT(c.discord.token.file),
                     "or the file that has it.", "discord.token")));
  add(key("discord.owner_id", text_type("a Discord user id"), LM_AT(c.discord.owner_id),
          "Who may load and unload models; BOT_OWNER_ID where it is not given.", "\"123456789012345678\""));

  add(key("log.level",
          choice_type<LogLevel>({{"debug", LogLevel::kDebug},
                                 {"info", LogLevel::kInfo},
                                 {"warning", LogLevel::kWarning},
                                 {"error", LogLevel::kError}}),
          LM_AT(c.log.level), "debug, info, warning or error."));
  add(at_restart(key("log.file", text_type("a path"), LM_AT(c.log.file),
                     "Besides standard error; llm-manager logs reads it.", "llm-manager.log")));
}

#undef LM_AT

template <class Map>
std::vector<std::string> names_of(const Map& map) {
  std::vector<std::string> names;
  for (const auto& entry : map) names.push_back(entry.first);
  return names;
}

}  // namespace

const std::vector<Key>& schema() {
  static const std::vector<Key> kKeys = [] {
    std::vector<Key> keys;
    add_models(keys);
    keys.push_back(key(
        "model_folders", texts_type("a list of folders"),
        [](auto& c, const std::string&) -> auto& { return c.model_folders; },
        "Folders whose GGUF files are offered by their names, folders below included.", "[models]"));
    const auto source = [&keys](std::string_view name, std::string ModelSources::* member, std::string help) {
      keys.push_back(key(
          fmt::format("sources.{}", name), text_type("auto, off or a folder"),
          [member](auto& c, const std::string&) -> auto& { return c.sources.*member; }, std::move(help)));
    };
    source("ollama", &ModelSources::ollama,
           "Ollama's models, by its manifests: auto (OLLAMA_MODELS, else where it keeps them), off or a "
           "folder.");
    source("lm_studio", &ModelSources::lm_studio, "LM Studio's.");
    source("huggingface", &ModelSources::huggingface,
           "Those in Hugging Face's cache: auto is HF_HUB_CACHE, else the folder hub of HF_HOME.");
    const auto role = [&keys](std::string_view name, std::string Roles::* member, std::string help) {
      keys.push_back(key(
          fmt::format("roles.{}", name), text_type("the name of a model"),
          [member](auto& c, const std::string&) -> auto& { return c.roles.*member; }, std::move(help),
          name == "embedding" ? "embedding" : "llm"));
    };
    role("chat", &Roles::chat,
         "Names that requests may use for whichever model has the role; models.llm where it is not given.");
    role("knowledge", &Roles::knowledge, "");
    role("translation", &Roles::translation, "");
    role("embedding", &Roles::embedding, "models.embedding where it is not given.");
    add_upstreams(keys);
    add_policy(keys);
    add_surroundings(keys);
    return keys;
  }();
  return kKeys;
}

const std::vector<Section>& sections() {
  const auto plain = [](std::string path, std::string help, bool lenient = false) {
    return Section{.path = std::move(path),
                   .help = std::move(help),
                   .lenient = lenient,
                   .example_name = {},
                   .create = {},
                   .names = {}};
  };
  static const std::vector<Section> kSections = {
      plain("models",
            "Models by name. llm is the default one for text, embedding the one for embeddings; any other "
            "names may follow.",
            true),
      {.path = "models.*",
       .help = "",
       .lenient = true,
       .example_name = "llm",
       .create = [](Config& c, const std::string& name) { c.models.try_emplace(name); },
       .names = [](const Config& c) { return names_of(c.models); }},
      plain("sources", "Models that other tools keep on this machine: offered too, and never changed."),
      plain("roles", "Which model has which role."),
      plain("ollama", "An Ollama beside us."),
      plain("providers", "OpenAI-compatible servers by name."),
      {.path = "providers.*",
       .help = "",
       .lenient = false,
       .example_name = "openai",
       .create = [](Config& c, const std::string& name) { c.providers.try_emplace(name); },
       .names = [](const Config& c) { return names_of(c.providers); }},
      plain("commands", "Servers that we start, by name."),
      {.path = "commands.*",
       .help = "",
       .lenient = false,
       .example_name = "vllm",
       .create = [](Config& c, const std::string& name) { c.commands.try_emplace(name); },
       .names = [](const Config& c) { return names_of(c.commands); }},
      plain("residency", "Who may stay in memory."),
      plain("scheduling", "Who is next when models compete for a device."),
      plain("limits", "How long things may take."),
      plain("devices", "Limits by device: host, cuda0, …"),
      {.path = "devices.*",
       .help = "",
       .lenient = false,
       .example_name = "host",
       .create = [](Config& c, const std::string& name) { c.devices.try_emplace(name); },
       .names = [](const Config& c) { return names_of(c.devices); }},
      plain("state", "Conversations outlive a change of models: what may be kept of them."),
      plain("server", "The HTTP server."),
      plain("server.keys", "Keys, by the variable or the file that has them; never here."),
      plain("server.clients", "Clients with a key, a class and a weight of their own, by name."),
      {.path = "server.clients.*",
       .help = "",
       .lenient = false,
       .at_restart = true,
       .example_name = "ci",
       .create = [](Config& c, const std::string& name) { c.server.clients.try_emplace(name); },
       .names = [](const Config& c) { return names_of(c.server.clients); }},
      plain("server.limits", "What a client may ask for."),
      plain("vtuber", "The character.", true),
      plain("vtuber.response", "", true),
      plain("discord", "The Discord bot."),
      plain("log", "The log."),
  };
  return kSections;
}

const Section* find_section(std::string_view path) {
  for (const Section& section : sections()) {
    if (section.path == path) return &section;
  }
  return nullptr;
}

std::string_view last_word(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

std::string_view parent(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? std::string_view() : path.substr(0, dot);
}

std::string with_name(std::string_view path, std::string_view name) {
  std::string result(path);
  if (const std::size_t star = result.find('*'); star != std::string::npos) result.replace(star, 1, name);
  return result;
}

}  // namespace lm::config
