#include "config/load.h"

#include <sstream>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::config {
namespace {

using namespace std::chrono_literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

Sources text(std::string yaml) {
  return {.config = SourceText{.path = "/etc/lm/llm-manager.yaml", .text = std::move(yaml)},
          .dotenv = {},
          .environment = {{"HOME", "/home/lucy"}},
          .working_folder = "/srv/here"};
}

Loaded good(const Sources& sources) {
  auto loaded = load(sources);
  EXPECT_TRUE(loaded) << loaded.error().message;
  return loaded ? *std::move(loaded) : Loaded{};
}
Loaded good(std::string yaml) {
  return good(text(std::move(yaml)));
}

std::vector<std::string> problems(std::string yaml) {
  auto loaded = load(text(std::move(yaml)));
  EXPECT_FALSE(loaded);
  std::vector<std::string> lines;
  if (loaded) return lines;
  EXPECT_EQ(loaded.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(loaded.error().reason, "invalid_config");
  for (const auto& [name, value] : loaded.error().fields) {
    EXPECT_EQ(name, "problem");
    lines.push_back(std::get<std::string>(value));
  }
  return lines;
}

// The file of requirements/llm-manager-guide.md as it stands.
constexpr const char* kGuide = R"(models:
  llm:
    model_path: "/path/to/Qwen-8B"
    device: "cuda"
    max_length: 4096
    temperature: 0.7
    top_p: 0.9
    top_k: 50
  
  embedding:
    model_path: "/path/to/Qwen3-Embedding-0.6B" 
    max_length: 512
    batch_size: 32

vtuber:
  response:
    max_tokens: 150
    min_tokens: 10
    filter_repetition: true
    enable_traditional_chinese: true
)";

TEST(Load, TheGuidesFileIsAcceptedAsItStands) {
  const Loaded loaded = good(kGuide);
  EXPECT_THAT(loaded.warnings, IsEmpty());
  const ModelEntry& llm = loaded.config.models.at("llm");
  EXPECT_EQ(llm.model_path, "/path/to/Qwen-8B");
  EXPECT_EQ(llm.load.device, "cuda");
  EXPECT_EQ(llm.load.context, 4096);
  EXPECT_EQ(llm.sampling.temperature, 0.7);
  EXPECT_EQ(llm.sampling.top_p, 0.9);
  EXPECT_EQ(llm.sampling.top_k, 50);
  EXPECT_EQ(llm.origin, "/etc/lm/llm-manager.yaml:2");
  const ModelEntry& embedding = loaded.config.models.at("embedding");
  EXPECT_EQ(embedding.load.context, 512);
  EXPECT_EQ(embedding.batch_size, 32);
  EXPECT_EQ(embedding.load.batch, std::nullopt) << "32 texts are no 32 tokens";
  EXPECT_EQ(loaded.config.vtuber_response.max_tokens, 150);
  EXPECT_TRUE(loaded.config.vtuber_response.filter_repetition);
  EXPECT_TRUE(loaded.config.vtuber_response.enable_traditional_chinese);
}

TEST(Load, NothingIsTheDefaults) {
  EXPECT_EQ(good(Sources{}).config, Config{});
  EXPECT_EQ(good("").config, Config{});
  EXPECT_EQ(good("models:\nresidency:\n  linger:\n").config, Config{});
}

TEST(Load, EverySectionReachesItsPlace) {
  const Config config = good(R"(
models:
  llm: models/tiny.gguf
  coder:
    model_path: /m/coder.gguf
    projector: p/mmproj.gguf
    kind: generation
    aliases: [gpt-4o-mini, code]
    devices: [cuda0, cuda1]
    reserve: {cuda0: 2GB, host: 512MB}
    quantization: q4_k_m
    batch_tokens: 256
    parallel: 2
    gpu_layers: 20
    threads: 4
    kv_type: q8_0
    mmap: false
    pinned: yes
    keep_alive: forever
    weight: 2.5
    min_p: 0.05
    repeat_penalty: 1.1
    max_tokens: 99
model_folders: [~/models, /srv/models, more]
roles: {knowledge: coder, translation: ollama_qwen:7b}
ollama: {url: "http://10.0.0.5:11434/", location: remote}
providers:
  openai: {base_url: "https://api.openai.com/v1", api_key_env: OPENAI_API_KEY, models: gpt-4o-mini, location: remote, first_byte_timeout: 90s}
  lab: {base_url: "http://lab:8000/v1", api_key_file: keys/lab}
commands:
  vllm:
    command: [vllm, serve, X]
    base_url: http://127.0.0.1:8000/v1
    environment: {A: "1", B: }
    working_folder: ~/vllm
    models: X
    health: /ping
    stop_signal: sigint
    start_timeout: 20min
  router: {command: [llama-server, --port, "${port}"], models: [a, b]}
residency: {mode: fit, linger: 1min, max_loaded: 2, keep_alive: 10min}
scheduling: {policy: exhaustive, quantum_min: 1s, quantum_factor: 4, age_cap_interactive: 20s, age_cap_batch: 5min, drain: 500ms,
  wait_interactive: 2min, wait_batch: 30min, queue_per_model: 10, queue_total: 20}
limits: {drain_unload: 5s, stop_grace: 1s}
devices: {host: {limit: 16GB, headroom: 2GB}, cuda0: {reserve: 1GB}}
standby: device
state: {memory: 256MB, disk: 0}
server:
  listen: 0.0.0.0:8080
  keys: {user_env: U, admin_file: /run/admin}
  allowed_hosts: llm.example.org
  limits: {connections: 10, body: 1MB, header_timeout: 3s, idle_timeout: 1min}
locale: zh-tw
discord: {token_env: T, owner_id: 42}
log: {level: debug, file: lm.log}
)")
                            .config;
  EXPECT_EQ(config.models.at("llm").model_path, "models/tiny.gguf");
  EXPECT_EQ(config.models.at("llm").folder, "/etc/lm");
  const ModelEntry& coder = config.models.at("coder");
  EXPECT_EQ(coder.projector, "/etc/lm/p/mmproj.gguf");
  EXPECT_EQ(coder.kind, ModelKind::kGeneration);
  EXPECT_THAT(coder.aliases, ElementsAre("gpt-4o-mini", "code"));
  EXPECT_THAT(coder.devices, ElementsAre("cuda0", "cuda1"));
  EXPECT_EQ(coder.reserve, (DeviceAmounts{{"cuda0", gib(2)}, {"host", mib(512)}}));
  EXPECT_EQ(coder.quantize, "q4_k_m");
  EXPECT_EQ(coder.load.batch, 256);
  EXPECT_EQ(coder.load.parallel, 2);
  EXPECT_EQ(coder.load.gpu_layers, 20);
  EXPECT_EQ(coder.load.threads, 4);
  EXPECT_EQ(coder.load.kv_type, "q8_0");
  EXPECT_FALSE(coder.load.mmap);
  EXPECT_TRUE(coder.policy.pinned);
  EXPECT_EQ(coder.policy.keep_alive, Duration(-1));
  EXPECT_EQ(coder.policy.weight, 2.5);
  EXPECT_EQ(coder.sampling.max_tokens, 99);
  EXPECT_THAT(config.model_folders, ElementsAre("/home/lucy/models", "/srv/models", "/etc/lm/more"));
  EXPECT_EQ(config.roles.knowledge, "coder");
  EXPECT_EQ(config.roles.translation, "ollama_qwen:7b");
  EXPECT_EQ(config.ollama.url, "http://10.0.0.5:11434");
  EXPECT_EQ(config.ollama.location, Location::kRemote);
  EXPECT_THAT(config.providers.at("openai").models, ElementsAre("gpt-4o-mini"));
  EXPECT_EQ(config.providers.at("openai").limits.first_byte, std::chrono::seconds(90));
  EXPECT_EQ(config.providers.at("openai").limits.silence, std::chrono::minutes(5));
  EXPECT_EQ(config.providers.at("lab").api_key.file, "/etc/lm/keys/lab");
  EXPECT_THAT(config.commands.at("vllm").command, ElementsAre("vllm", "serve", "X"));
  EXPECT_EQ(config.commands.at("vllm").environment.at("A"), "1");
  EXPECT_EQ(config.commands.at("vllm").working_folder, "/home/lucy/vllm");
  EXPECT_THAT(config.commands.at("vllm").models, ElementsAre("X"));
  EXPECT_EQ(config.commands.at("vllm").health, "/ping");
  EXPECT_EQ(config.commands.at("vllm").stop_signal, 2);
  EXPECT_EQ(config.commands.at("vllm").start_timeout, 20min);
  EXPECT_EQ(config.commands.at("router").stop_signal, 15);
  EXPECT_EQ(config.settings.residency.mode, ResidencyMode::kFit);
  EXPECT_EQ(config.settings.residency.linger, 1min);
  EXPECT_EQ(config.settings.residency.max_loaded, 2);
  EXPECT_EQ(config.settings.residency.keep_alive, 10min);
  EXPECT_EQ(config.settings.scheduling.policy, SchedulingPolicy::kExhaustive);
  EXPECT_EQ(config.settings.scheduling.quantum_min, 1s);
  EXPECT_EQ(config.settings.scheduling.age_cap_batch, 5min);
  EXPECT_EQ(config.settings.scheduling.queue_total, 20);
  EXPECT_EQ(config.settings.scheduling.drain, 500ms);
  EXPECT_EQ(config.settings.limits.drain_unload, 5s);
  EXPECT_EQ(config.settings.limits.stop_grace, 1s);
  EXPECT_EQ(config.devices.at("host").limit, gib(16));
  EXPECT_EQ(config.devices.at("host").headroom, gib(2));
  EXPECT_EQ(config.devices.at("cuda0").headroom, gib(1));
  EXPECT_EQ(config.standby, Standby::kDevice);
  EXPECT_EQ(config.state.disk, Bytes(0));
  EXPECT_EQ(config.server.listen, "0.0.0.0:8080");
  EXPECT_EQ(config.server.user_key.env, "U");
  EXPECT_EQ(config.server.admin_key.file, "/run/admin");
  EXPECT_EQ(config.server.limits.body, mib(1));
  EXPECT_EQ(config.locale, Locale::kTraditionalChinese);
  EXPECT_EQ(config.discord.owner_id, "42");
  EXPECT_EQ(config.log.level, LogLevel::kDebug);
  EXPECT_EQ(config.log.file, "/etc/lm/lm.log");
}

TEST(Load, AllThatIsWrongIsToldAtOnce) {
  const auto lines = problems(R"(residency:
  lingr: 30s
  mode: exclusiv
models:
  llm:
    temperature: hot
server:
  listen: nowhere
  keys: {user: "sk-123"}
devices:
  host: 12GB
)");
  ASSERT_THAT(lines, SizeIs(6));
  EXPECT_EQ(lines[0], "/etc/lm/llm-manager.yaml:2:3: residency.lingr: unknown key, did you mean linger?");
  EXPECT_EQ(lines[1],
            "/etc/lm/llm-manager.yaml:3:9: residency.mode: expected one of exclusive, fit, found "
            "\"exclusiv\"; did you mean exclusive?");
  EXPECT_EQ(
      lines[2],
      "/etc/lm/llm-manager.yaml:6:18: models.llm.temperature: expected a number from 0 to 5, found \"hot\"");
  EXPECT_THAT(lines[3], HasSubstr(":8:3: server.listen: expected HOST:PORT"));
  EXPECT_THAT(lines[4], HasSubstr(":9:10: server.keys.user: keys do not belong into this file"));
  EXPECT_THAT(lines[4], Not(HasSubstr("sk-123")));
  EXPECT_THAT(lines[5], HasSubstr(":11:9: devices.host: expected a map, found a single value"));
}

TEST(Load, UnknownKeysOfOtherProgramsAreOneWarning) {
  const Loaded loaded = good(R"(models:
  llm:
    model_path: x
    trust_remote_code: true
    temprature: 0.5
rag: {top: 3}
vtuber:
  character: {name: 露西婭}
  response: {mood: happy}
residncy: {mode: fit}
)");
  ASSERT_THAT(loaded.warnings, SizeIs(1));
  const std::string& told = loaded.warnings[0].message;
  EXPECT_THAT(told, HasSubstr("models.llm.trust_remote_code (line 4)"));
  EXPECT_THAT(told, HasSubstr("models.llm.temprature (line 5, did you mean temperature?)"));
  EXPECT_THAT(told, HasSubstr("rag (line 6)"));
  EXPECT_THAT(told, HasSubstr("vtuber.character (line 8)"));
  EXPECT_THAT(told, HasSubstr("vtuber.response.mood (line 9)"));
  EXPECT_THAT(told, HasSubstr("residncy (line 10, did you mean residency?)"));
}

TEST(Load, UnknownKeysInOurSectionsAreErrors) {
  EXPECT_THAT(problems("ollama: {urll: x}"),
              ElementsAre(HasSubstr("ollama.urll: unknown key, did you mean url?")));
  EXPECT_THAT(problems("ollama: {zebra: x}"), ElementsAre(HasSubstr("it may be one of url, location")));
  EXPECT_THAT(problems("devices: {cuda0: {limits: 1GB}}"),
              ElementsAre(HasSubstr("devices.cuda0.limits: unknown key, did you mean limit?")));
  EXPECT_THAT(problems("server: {limits: {boddy: 1GB}}"),
              ElementsAre(HasSubstr("server.limits.boddy: unknown key, did you mean body?")));
  EXPECT_THAT(problems("providers: {p: {base_url: 'http://h', api_key: sk}}"),
              ElementsAre(HasSubstr("api_key_env or api_key_file")));
  EXPECT_THAT(problems("roles: {caht: llm}"), ElementsAre(HasSubstr("did you mean chat?")));
  EXPECT_THAT(problems("discord: {token: abc}"), ElementsAre(HasSubstr("token_env or token_file")));
}

TEST(Load, WrongShapesAreErrors) {
  EXPECT_THAT(problems("just text"), ElementsAre(HasSubstr(":1:1: expected a map of sections")));
  EXPECT_THAT(problems("[1]"), ElementsAre(HasSubstr("found a list")));
  EXPECT_THAT(problems("models: 5"), ElementsAre(HasSubstr("models: expected a map")));
  EXPECT_THAT(problems("models: {llm: [x]}"),
              ElementsAre(HasSubstr("models.llm: expected a map, found a list")));
  EXPECT_THAT(
      problems("models: {model_path: x.gguf}"),
      ElementsAre(HasSubstr("models.model_path: belongs below a name, such as models.llm.model_path")));
  EXPECT_THAT(problems("devices: {limit: 1GB}"), ElementsAre(HasSubstr("such as devices.host.limit")));
  EXPECT_THAT(problems("models: {'a b': x}"), ElementsAre(HasSubstr("a name has no spaces")));
  EXPECT_THAT(problems("models: {a/b: x}"), ElementsAre(HasSubstr("slashes")));
  EXPECT_THAT(problems("residency: {linger: {x: 1}}"), ElementsAre(HasSubstr("found a map")));
  EXPECT_THAT(problems("locale: [en]"), ElementsAre(HasSubstr("locale: expected one of")));
  EXPECT_THAT(problems("residency: {linger: 1s}\nresidency: {linger: 2s}"),
              ElementsAre(HasSubstr(":2:1: the key residency stands here twice")));
  EXPECT_THAT(good("vtuber: lucia\n").warnings, SizeIs(1)) << "other programs' vtuber may be anything";
}

TEST(Load, AQuantisationThatNobodyMakesIsRefused) {
  EXPECT_THAT(problems("models:\n  llm:\n    quantize: 5bit\n"),
              ElementsAre(AllOf(HasSubstr("llm-manager.yaml:3:15: models.llm.quantize"), HasSubstr("8bit"),
                                HasSubstr("found \"5bit\""))));
  for (const char* name : {"4bit", "Q4_K_M", "int8", "none", "bf16"})
    EXPECT_EQ(good(fmt::format("models: {{llm: {{quantize: {}}}}}", name)).config.models.at("llm").quantize,
              name);
}

TEST(Load, NamesThatNoDeviceHasAreWarnings) {
  EXPECT_THAT(good("devices:\n  hots: {limit: 2GB}\n").warnings,
              ElementsAre(AllOf(Field(&Problem::at, Position{.line = 2, .column = 3}),
                                Field(&Problem::message, HasSubstr("did you mean host?")))));
  EXPECT_THAT(good("models:\n  llm: {model_path: x, device: gpuu}\n").warnings,
              ElementsAre(AllOf(Field(&Problem::key, "models.llm.device"),
                                Field(&Problem::message, HasSubstr("gpuu")))));
  for (const char* device : {"auto", "host", "cpu", "cuda", "cuda7", "cuda:7", "rpc0", "vulkan0"})
    EXPECT_THAT(good(fmt::format("models: {{llm: {{model_path: x, device: \"{}\"}}}}", device)).warnings,
                IsEmpty())
        << device;
  EXPECT_THAT(good("devices: {host: {limit: 2GB}, cuda0: {limit: 2GB}}").warnings, IsEmpty());
}

TEST(Load, ServersHaveNamesOfTheirOwn) {
  EXPECT_THAT(problems("providers:\n  Local: {base_url: \"http://a/v1\"}\n"),
              ElementsAre(AllOf(HasSubstr(":2:3: providers.Local"), HasSubstr("another name"))));
  EXPECT_THAT(problems("providers: {ollama: {base_url: \"http://a/v1\"}}"), SizeIs(1));
  good("providers: {openai: {base_url: \"http://a/v1\"}}");
  EXPECT_THAT(problems("providers: {x: {base_url: \"http://a/v1\"}}\n"
                       "commands: {x: {command: [a], base_url: \"http://b/v1\", models: [m]}}"),
              ElementsAre(HasSubstr("has that name already")));
}

TEST(Load, ValuesAreCheckedAgainstEachOther) {
  EXPECT_THAT(problems("models: {llm: {quantize: 4bit, quantization: 8bit}}"),
              ElementsAre(HasSubstr("says the same as quantize")));
  EXPECT_THAT(problems("devices: {host: {reserve: 1GB, headroom: 2GB}}"), SizeIs(1));
  EXPECT_THAT(problems("models:\n  a: {model_path: x, aliases: [b]}\n  b: {model_path: y}\n"),
              ElementsAre(HasSubstr(":2:22: models.a.aliases: b already names models.b")));
  EXPECT_THAT(problems("vtuber: {response: {min_tokens: 5, max_tokens: 4}}"),
              ElementsAre(HasSubstr("5 is more than max_tokens, 4")));
  EXPECT_THAT(problems("providers:\n  p:\n"),
              ElementsAre(HasSubstr(":2:3: providers.p.base_url: is needed")));
  EXPECT_THAT(problems("commands: {p: }"),
              ElementsAre(HasSubstr("p.command: is needed"), HasSubstr("p.models: is needed")));
  EXPECT_THAT(problems("commands: {p: {command: [x, --port, 1], models: m}}"),
              ElementsAre(HasSubstr("p.base_url: is needed")));
  EXPECT_THAT(good("commands: {p: {command: x, environment: {S: \"${socket}\"}, models: m}}").warnings,
              IsEmpty());
  EXPECT_THAT(problems("commands: {p: {command: [x, \"${port}\"], models: m, health: ping}}"),
              ElementsAre(HasSubstr("p.health: expected a path")));
  EXPECT_THAT(problems("commands: {p: {command: [x, \"${port}\"], models: m, stop_signal: SIGTREM}}"),
              ElementsAre(HasSubstr("did you mean SIGTERM?")));
  EXPECT_THAT(problems("models: {coder: x}\nroles: {chat: codr}"),
              ElementsAre(HasSubstr("roles.chat: no model named codr, did you mean coder?")));
  EXPECT_THAT(problems("limits: {retry_first: 1h}"), SizeIs(1));
  for (const char* listen : {"1234", ":1", "h:", "h:70000", "h:x", "::1:80", " "}) {
    EXPECT_THAT(problems(std::string("server: {listen: '") + listen + "'}"),
                ElementsAre(HasSubstr("expected HOST:PORT")))
        << listen;
  }
  EXPECT_EQ(good("server: {listen: '[::1]:0'}").config.server.listen, "[::1]:0");
}

TEST(Load, ThousandsOfProblemsAreCut) {
  std::string yaml = "ollama:\n";
  for (int i = 0; i < 5000; ++i) yaml += "  k" + std::to_string(i) + ": 1\n";
  const auto lines = problems(yaml);
  ASSERT_THAT(lines, SizeIs(51));
  EXPECT_THAT(lines.back(), HasSubstr("and 4950 more"));
}

TEST(Environment, ModelNameStandsInWhereTheFileDoesNotSay) {
  Sources sources = text("models: {llm: {temperature: 0.5}}");
  sources.dotenv = {{.path = "/etc/lm/.env",
                     .text = "MODEL_NAME=from/dotenv.gguf\nEMBEDDING_MODEL_NAME=minilm\nBOT_OWNER_ID=42\n"}};
  Config config = good(sources).config;
  EXPECT_EQ(config.models.at("llm").model_path, "from/dotenv.gguf");
  EXPECT_EQ(config.models.at("llm").folder, "/etc/lm");
  EXPECT_EQ(config.models.at("llm").sampling.temperature, 0.5);
  EXPECT_EQ(config.models.at("llm").origin, "MODEL_NAME in /etc/lm/.env");
  EXPECT_EQ(config.models.at("embedding").model_path, "minilm");
  EXPECT_EQ(config.discord.owner_id, "42");

  sources.environment["MODEL_NAME"] = "from-process.gguf";
  config = good(sources).config;
  EXPECT_EQ(config.models.at("llm").model_path, "from-process.gguf");
  EXPECT_EQ(config.models.at("llm").folder, "/srv/here");

  sources.config->text = "models: {llm: /in/the/file.gguf}\ndiscord: {owner_id: 7}";
  config = good(sources).config;
  EXPECT_EQ(config.models.at("llm").model_path, "/in/the/file.gguf");
  EXPECT_EQ(config.discord.owner_id, "7");

  sources.config.reset();
  EXPECT_EQ(good(sources).config.models.at("llm").model_path, "from-process.gguf");
  sources.environment["MODEL_NAME"] = "";
  sources.dotenv.clear();
  EXPECT_THAT(good(sources).config.models, IsEmpty());
}

TEST(Environment, KeysComeByNameAndNeverShow) {
  Sources sources = text(
      "providers: {openai: {base_url: 'https://h/v1', api_key_env: OPENAI_API_KEY}}\nserver: {keys: "
      "{admin_env: ADMIN}}");
  sources.dotenv = {{.path = "/etc/lm/.env", .text = "OPENAI_API_KEY=sk-dotenv\nDISCORD_TOKEN=tok"},
                    {.path = "/srv/here/.env", .text = "OPENAI_API_KEY=sk-later\nADMIN=boss"}};
  sources.environment["LLM_MANAGER_KEY"] = "user-key";
  const Loaded loaded = good(sources);
  EXPECT_EQ(loaded.config.providers.at("openai").api_key.value.reveal(), "sk-dotenv");
  EXPECT_EQ(loaded.config.discord.token.value.reveal(), "tok");
  EXPECT_EQ(loaded.config.server.admin_key.value.reveal(), "boss");
  EXPECT_EQ(loaded.config.server.user_key.value.reveal(), "user-key");
  std::ostringstream printed;
  printed << loaded.config.server.user_key.value << Secret();
  EXPECT_EQ(printed.str(), "(set)(not set)");
}

TEST(Environment, AKeyThatIsNamedAndNotThereIsTold) {
  const Loaded loaded = good(
      "providers:\n"
      "  a: {base_url: 'https://h', api_key_env: NOT_SET}\n"
      "  b: {base_url: 'https://h', api_key_env: NOT_SET, api_key_file: k}\n"
      "  c: {base_url: 'https://h'}\n");
  ASSERT_THAT(loaded.warnings, SizeIs(1));
  EXPECT_EQ(loaded.warnings[0].key, "providers.a.api_key_env");
  EXPECT_THAT(loaded.warnings[0].message, HasSubstr("NOT_SET is not set"));
}

TEST(Clients, HaveAKeyAClassAndAWeight) {
  Sources sources = text(
      "models: {slow: {model_path: a.gguf, priority: batch}}\n"
      "server:\n"
      "  clients:\n"
      "    ci: {key_env: CI_KEY, priority: batch, weight: 0.5}\n"
      "    desk: {key_file: keys/desk}\n"
      "    lost: {key_env: LOST_KEY}\n");
  sources.environment["CI_KEY"] = "sk-ci";
  const Loaded loaded = good(sources);
  const auto& clients = loaded.config.server.clients;
  ASSERT_THAT(clients, SizeIs(3));
  EXPECT_EQ(clients.at("ci").key.value.reveal(), "sk-ci");
  EXPECT_EQ(clients.at("ci").priority, PriorityClass::kBatch);
  EXPECT_EQ(clients.at("ci").weight, 0.5);
  EXPECT_EQ(clients.at("desk").priority, PriorityClass::kInteractive);
  EXPECT_EQ(clients.at("desk").key.file, "/etc/lm/keys/desk");
  EXPECT_EQ(loaded.config.models.at("slow").policy.priority, PriorityClass::kBatch);
  ASSERT_THAT(loaded.warnings, SizeIs(1));
  EXPECT_EQ(loaded.warnings[0].key, "server.clients.lost.key_env");
}

TEST(Clients, AreRefusedWhereTheyAreWrong) {
  EXPECT_THAT(problems("server: {clients: {ci: {key: sk-plain}}}"),
              ElementsAre(HasSubstr("key_env or key_file")));
  EXPECT_THAT(problems("server: {clients: {ci: {priority: urgent}}}"), ElementsAre(HasSubstr("interactive")));
  EXPECT_THAT(problems("server: {clients: {ci: {weight: 0}}}"), SizeIs(1));
}

TEST(Dotenv, ReadsWhatShellsAndPythonWrite) {
  std::vector<Warning> warnings;
  const auto lines = parse_dotenv(
      "# comment\n"
      "\n"
      "PLAIN=value with spaces  # and a comment\r\n"
      "export EXPORTED=1\n"
      "  SPACED = x \n"
      "SINGLE='a # b \\n'\n"
      "DOUBLE=\"a\\nb \\\"c\\\" \\$d \\x\" # tail\n"
      "MULTI=\"line one\nline two\"\n"
      "HASH=a#b\n"
      "EMPTY=\n"
      "COMMENTED= # nothing\n"
      "exporter=2\n"
      "LAST=end",
      ".env", warnings);
  EXPECT_THAT(warnings, IsEmpty());
  const auto value = [&lines](const std::string& name) -> std::string {
    for (const auto& line : lines) {
      if (line.name == name) return line.value;
    }
    return "(missing)";
  };
  EXPECT_EQ(value("PLAIN"), "value with spaces");
  EXPECT_EQ(value("EXPORTED"), "1");
  EXPECT_EQ(value("SPACED"), "x");
  EXPECT_EQ(value("SINGLE"), "a # b \\n");
  EXPECT_EQ(value("DOUBLE"), "a\nb \"c\" $d \\x");
  EXPECT_EQ(value("MULTI"), "line one\nline two");
  EXPECT_EQ(value("HASH"), "a#b");
  EXPECT_EQ(value("EMPTY"), "");
  EXPECT_EQ(value("COMMENTED"), "");
  EXPECT_EQ(value("exporter"), "2");
  EXPECT_EQ(value("LAST"), "end");
  EXPECT_EQ(lines.back().line, 14);
}

TEST(Dotenv, TellsWhatItSkips) {
  std::vector<Warning> warnings;
  const auto lines = parse_dotenv("nonsense\nA=1\nB=\"never ends\nC=2\n=x\n", "x/.env", warnings);
  ASSERT_THAT(lines, SizeIs(2));
  EXPECT_EQ(lines[0], (DotenvLine{"A", "1", 2}));
  EXPECT_EQ(lines[1], (DotenvLine{"C", "2", 4}));
  ASSERT_THAT(warnings, SizeIs(3));
  EXPECT_EQ(warnings[0].at.line, 1);
  EXPECT_EQ(warnings[1].at.line, 3);
  EXPECT_EQ(warnings[2].at.line, 5);
  EXPECT_THAT(warnings[1].message, Not(HasSubstr("never ends\n")));
}

TEST(Dotenv, TheLastLineOfANameCounts) {
  Sources sources;
  sources.dotenv = {{.path = "/d/.env", .text = "MODEL_NAME=a\nMODEL_NAME=b\n"}};
  EXPECT_EQ(good(sources).config.models.at("llm").model_path, "b");
}

TEST(Paths, AreResolvedFromTheirFile) {
  EXPECT_EQ(resolve_path("", "/d", "/h"), "");
  EXPECT_EQ(resolve_path("a/../b", "/d", "/h"), "/d/b");
  EXPECT_EQ(resolve_path("/abs", "/d", "/h"), "/abs");
  EXPECT_EQ(resolve_path("~/x", "/d", "/h"), "/h/x");
  EXPECT_EQ(resolve_path("~", "/d", "/h"), "/h/");
  EXPECT_EQ(resolve_path("~other/x", "/d", "/h"), "/d/~other/x");
  EXPECT_EQ(resolve_path("~/x", "/d", ""), "/d/~/x");
}

}  // namespace
}  // namespace lm::config
