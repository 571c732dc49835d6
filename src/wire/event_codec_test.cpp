// Every event there is, with something in each of its fields, through a line and back.
#include "wire/event_codec.h"

#include <set>

#include <gtest/gtest.h>

namespace lm::wire {
namespace {

using std::chrono::milliseconds;

Error error() {
  return {.code = ErrorCode::kResourceExhausted,
          .message = "does not fit: \"x\"\n显存",
          .reason = "insufficient_memory",
          .fields = {{"device", "cuda0"}, {"needed", std::int64_t{1} << 50}},
          .retry_after = milliseconds(1500)};
}

Model model() {
  Model m;
  m.id = ModelId("ollama_qwen:7b");
  m.aliases = {"qwen", "千问"};
  m.kind = ModelKind::kRerank;
  m.family = Family::kOllama;
  m.artifact = {
      .path = "/m/a.gguf", .projector = "/m/p.gguf", .size = gib(3), .fingerprint = "f00", .modified_s = 7};
  m.remote = Remote{UpstreamId("ollama"), "qwen:7b"};
  m.load = {.context = 4096,
            .parallel = 2,
            .gpu_layers = 0,
            .batch = 512,
            .threads = 7,
            .kv_type = "q8_0",
            .device = "cuda0",
            .pooling = "mean",
            .mmap = false,
            .split = Split::kRow,
            .shares = {{DeviceId("cuda0"), 12}, {DeviceId("rpc1"), 3}}};
  m.placement = {.layout = Layout::kGuideFromFive,
                 .devices = {DeviceId("cuda0"), DeviceId("rpc1")},
                 .reserve = {{DeviceId("all"), mib(5)}},
                 .max_devices = 3};
  m.sampling = {.temperature = 0.7,
                .top_p = 0.1 + 0.2,
                .min_p = 1e-300,
                .repeat_penalty = 1.1,
                .top_k = 50,
                .max_tokens = 150};
  m.policy = {.pinned = true, .keep_alive = milliseconds(-1), .weight = 1.0 / 3};
  m.origin = "models.llm";
  m.problem = error();
  return m;
}

Settings settings() {
  Settings s;
  s.residency = {.mode = ResidencyMode::kFit,
                 .linger = milliseconds(1),
                 .max_loaded = 3,
                 .keep_alive = milliseconds(2),
                 .keep_alive_limit = milliseconds(9)};
  s.scheduling = {.policy = SchedulingPolicy::kFifo,
                  .quantum_min = milliseconds(3),
                  .quantum_factor = 7.7,
                  .age_cap_interactive = milliseconds(4),
                  .age_cap_batch = milliseconds(5),
                  .wait_interactive = milliseconds(6),
                  .wait_batch = milliseconds(7),
                  .queue_per_model = 8,
                  .queue_total = 9};
  s.limits = {.drain_unload = milliseconds(10),
              .drain_evict = milliseconds(11),
              .stop_grace = milliseconds(12),
              .release_cap = milliseconds(13),
              .yield = milliseconds(14),
              .load_silence = milliseconds(15),
              .retry_first = milliseconds(16),
              .retry_most = milliseconds(17)};
  return s;
}

DeviceBytes some_bytes() {
  return {{DeviceId("cuda0"), gib(2)}, {DeviceId("host"), Bytes(17)}};
}

DeviceReading reading() {
  return {.device = DeviceId("cuda0"),
          .capacity = gib(24),
          .free = gib(20),
          .holders = {{4711, "ollama runner", gib(1)}},
          .per_process = true};
}

// One of each, and those again that may lack something.
std::vector<Event> events() {
  const InstanceId i(3);
  const Generation g(4);
  const JobId job(5);
  const RequestId r(6);
  const ModelId m("tiny");
  return {
      RequestArrived{r, m, PriorityClass::kBatch, TimePoint(milliseconds(99)), true},
      RequestArrived{r, m, PriorityClass::kInteractive, std::nullopt, false},
      RequestCancelled{r},
      AnswerBegan{r},
      LeaseReleased{r},
      RequestPreempted{r},
      KeepAliveAsked{m, Duration(-1)},
      LoadWanted{job, m, "command line", true},
      UnloadWanted{job, m, "discord:1234", true, 1'700'000'000'000},
      UnloadWanted{job, std::nullopt, "x", false, 0},
      PinChanged{job, m, true},
      SwitchWanted{job, m, "ada"},
      JobAbandoned{job},
      FootprintPredicted{i, g, Footprint{some_bytes(), FootprintSource::kMeasured}, std::nullopt},
      FootprintPredicted{i, g, std::nullopt, error()},
      FootprintPredicted{i, g, Footprint{}, std::nullopt,
                         Extent{.layers = {{mib(3), mib(1)}, {mib(4), Bytes()}}, .host = mib(7)},
                         {{.layers = {2, 1}, .bytes = {mib(3), mib(4)}, .host = mib(5)}}},
      WorkerTaken{i, g, 4711},
      LoadProgressed{i, g, LoadStage::kWeights, 0.1},
      LoadSucceeded{i, g, some_bytes(), mib(3), 2, 8192, milliseconds(410)},
      LoadFailed{i, g, error()},
      WorkerExited{i, g, "killed by SIGKILL", some_bytes(), mib(2)},
      WorkerExited{i, g, "killed by SIGABRT", {}, Bytes(), error()},
      UpstreamYielded{i, g, error()},
      UpstreamYielded{i, g, std::nullopt},
      UpstreamLoaded{i, g, ModelId("m"), error()},
      UpstreamLoaded{i, g, ModelId("m"), std::nullopt},
      UpstreamSeen{UpstreamId("ollama"),
                   false,
                   true,
                   {{"qwen:7b", ModelKind::kEmbedding, gib(4), gib(3)}},
                   some_bytes()},
      ReleaseMeasured{i, g, some_bytes(), {{1, "python3", mib(5)}}, {reading()}, "device", false},
      MemoryMeasured{{reading()}, {{i, some_bytes(), mib(9)}}},
      StatesKept{mib(7)},
      ModelsChanged{{model(), Model{}},
                    {{UpstreamId("ollama"), Family::kOllama, true, "http://127.0.0.1:11434"}}},
      SettingsChanged{settings(),
                      {{DeviceId("cuda0"), DeviceKind::kCuda, "NVIDIA", gib(24), gib(1), gib(12)},
                       {DeviceId("host"), DeviceKind::kHost, "host memory", gib(64), gib(2), std::nullopt}}},
      DesiredRestored{{{m, "ada", 12}, {ModelId(), "bob", 13}}, {m, ModelId("other")}, 7},
      TimerFired{},
      ShutdownBegan{TimePoint(milliseconds(123456789))},
  };
}

TEST(EventCodec, EveryEventComesBackAsItWas) {
  std::set<std::size_t> seen;
  for (const Event& event : events()) {
    seen.insert(event.index());
    const std::string line = encode(event, TimePoint(std::chrono::nanoseconds(123'456'789'012'345)));
    ASSERT_EQ(line.find('\n'), line.size() - 1);
    const auto back = decode_event(std::string_view(line).substr(0, line.size() - 1));
    ASSERT_TRUE(back) << line << back.error().message;
    EXPECT_EQ(back->at, TimePoint(std::chrono::nanoseconds(123'456'789'012'345)));
    EXPECT_EQ(back->event.index(), event.index());
    EXPECT_EQ(encode(back->event, back->at), line);
  }
  EXPECT_EQ(seen.size(), std::variant_size_v<Event>) << "one of each";
}

TEST(EventCodec, ValuesAreTheSameToTheLastBit) {
  const auto back = decode_event(encode(ModelsChanged{{model()}, {}}, TimePoint()));
  ASSERT_TRUE(back);
  EXPECT_EQ(std::get<ModelsChanged>(back->event).models.front(), model());
  const auto changed = decode_event(encode(SettingsChanged{settings(), {}}, TimePoint()));
  ASSERT_TRUE(changed);
  EXPECT_EQ(std::get<SettingsChanged>(changed->event).settings, settings());
  const auto failed = decode_event(encode(LoadFailed{InstanceId(1), Generation(2), error()}, TimePoint()));
  ASSERT_TRUE(failed);
  EXPECT_EQ(std::get<LoadFailed>(failed->event).error, error());
}

TEST(EventCodec, SecretsInAnAddressAreLeftOut) {
  for (const char* url :
       {"https://user:hunter2@api.example:8443/v1?key=hunter2", "https://hunter2@api.example:8443/v1",
        "https://user:hunt@hunter2@api.example:8443/v1#hunter2"}) {
    const std::string line =
        encode(ModelsChanged{{}, {{UpstreamId("api"), Family::kOpenai, false, url}}}, TimePoint());
    EXPECT_EQ(line.find("hunter2"), std::string::npos) << line;
    EXPECT_EQ(std::get<ModelsChanged>(decode_event(line)->event).upstreams.front().url,
              "https://api.example:8443/v1");
  }
}

TEST(EventCodec, BytesThatAreNoTextDoNotBreakALine) {
  const std::string line = encode(LoadWanted{JobId(1), ModelId("a\xFF\n"), "\xC3", false}, TimePoint());
  const auto back = decode_event(line);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(std::get<LoadWanted>(back->event).model, ModelId("a\xEF\xBF\xBD\n"));
}

TEST(EventCodec, WhatIsWrongIsNamed) {
  const std::string good =
      encode(LoadProgressed{InstanceId(1), Generation(2), LoadStage::kWeights, 0.5}, TimePoint());
  ASSERT_TRUE(decode_event(good));
  const auto with = [&](std::string_view what, std::string_view instead) {
    std::string line = good;
    line.replace(line.find(what), what.size(), instead);
    const auto read = decode_event(line);
    return read ? std::string("read") : read.error().message;
  };
  EXPECT_NE(with("\"fraction\"", "\"frac\"").find("\"fraction\" of LoadProgressed"), std::string::npos);
  EXPECT_NE(with("\"weights\"", "\"wigths\"").find("\"stage\" of LoadProgressed"), std::string::npos);
  EXPECT_NE(with("\"instance\":1", "\"instance\":-1").find("\"instance\""), std::string::npos);
  EXPECT_NE(with("\"generation\":2", "\"generation\":\"2\"").find("\"generation\""), std::string::npos);
  EXPECT_NE(with("LoadProgressed", "LoadDreamt").find("knows no LoadDreamt"), std::string::npos);
  EXPECT_NE(with("\"at\":0", "\"at\":null").find("\"at\""), std::string::npos);
  for (const char* line : {"", "[]", "{", "{}", "7", "{\"at\": 1}"}) EXPECT_FALSE(decode_event(line)) << line;
  const std::string nested = encode(LoadFailed{InstanceId(1), Generation(2), error()}, TimePoint());
  std::string line = nested;
  line.replace(line.find("\"reason\""), 8, "\"raisin\"");
  EXPECT_NE(decode_event(line).error().message.find("\"reason\""), std::string::npos);
}

}  // namespace
}  // namespace lm::wire
