#include "api/diagnosis.h"

#include <algorithm>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::api {
namespace {

using ::testing::HasSubstr;

DeviceReading reading(const std::string& id, Bytes capacity, Bytes free) {
  return {.device = DeviceId(id), .capacity = capacity, .free = free, .holders = {}};
}

DeviceView device(const std::string& id, DeviceKind kind, Bytes capacity) {
  return {.device = {.id = DeviceId(id),
                     .kind = kind,
                     .name = "Card " + id,
                     .capacity = capacity,
                     .headroom = {},
                     .limit = {}},
          .reserved = {},
          .used = {},
          .external = {},
          .available = capacity};
}

ModelView model(const std::string& id, Bytes on_host) {
  ModelView view;
  view.model.id = ModelId(id);
  view.footprint = Footprint{.bytes = {{host_device(), on_host}}};
  return view;
}

// A machine with which nothing is wrong.
Findings healthy() {
  Findings found;
  found.snapshot.devices = {device("host", DeviceKind::kHost, gib(16))};
  found.snapshot.models = {model("tiny", gib(1))};
  found.readings = {reading("host", gib(16), gib(8))};
  found.host = probe::HostMemory{
      .machine_total = gib(16), .machine_available = gib(8), .capacity = gib(16), .free = gib(8)};
  found.engine = "0.5.0-abc cpu";
  return found;
}

Check check(const Findings& found, const std::string& name) {
  const auto checks = diagnose(found);
  const auto it = std::ranges::find(checks, name, &Check::name);
  return it == checks.end() ? Check{name, "missing", "", ""} : *it;
}

TEST(Diagnosis, AHealthyMachineHasNothingButGoodChecks) {
  for (const Check& each : diagnose(healthy()))
    EXPECT_EQ(each.status, "ok") << each.name << ": " << each.message;
  for (const char* name : {"engine", "host memory", "processes", "models", "device host", "queue"})
    EXPECT_EQ(check(healthy(), name).status, "ok") << name;
}

TEST(Diagnosis, EveryWarningSaysWhatToDo) {
  Findings found = healthy();
  found.host->swap_used = gib(2);
  found.strays = {4711};
  found.snapshot.models.push_back(model("huge", gib(40)));
  found.snapshot.devices.push_back(device("cuda0", DeviceKind::kCuda, gib(24)));
  int told = 0;
  for (const Check& each : diagnose(found)) {
    if (each.status == "ok") continue;
    ++told;
    EXPECT_NE(each.fix, "") << each.name << ": " << each.message;
  }
  EXPECT_EQ(told, 4) << "engine, host memory, processes, and the model that is too large";
}

TEST(Diagnosis, ACardThatTheEngineWasNotBuiltFor) {
  Findings found = healthy();
  found.snapshot.devices.push_back(device("cuda0", DeviceKind::kCuda, gib(24)));
  EXPECT_EQ(check(found, "engine").status, "warning");
  EXPECT_THAT(check(found, "engine").message, HasSubstr("cuda0 (Card cuda0) is left unused"));
  EXPECT_THAT(check(found, "engine").fix, HasSubstr("--gpu cuda"));
  found.engine = "0.5.0-abc cuda";
  EXPECT_EQ(check(found, "engine").status, "ok");

  found = healthy();
  found.snapshot.devices.push_back(device("rocm0", DeviceKind::kRocm, gib(24)));
  EXPECT_THAT(check(found, "engine").fix, HasSubstr("--gpu vulkan"));
  found.engine = "0.5.0-abc vulkan";
  EXPECT_EQ(check(found, "engine").status, "ok");
}

TEST(Diagnosis, NoWorkerHasAnswered) {
  Findings found = healthy();
  found.engine.clear();
  EXPECT_EQ(check(found, "engine").status, "problem");
}

TEST(Diagnosis, MuchSwapIsSlow) {
  Findings found = healthy();
  found.host->swap_used = mib(100);
  EXPECT_EQ(check(found, "host memory").status, "ok");
  found.host->swap_used = gib(3);
  EXPECT_EQ(check(found, "host memory").status, "warning");
  EXPECT_THAT(check(found, "host memory").message, HasSubstr("3.00 GB lie in the swap area"));
}

TEST(Diagnosis, AControlGroupThatBindsIsNamed) {
  Findings found = healthy();
  found.host->capacity = gib(4);
  found.host->capacity_bound_by = "/sys/fs/cgroup/user.slice";
  EXPECT_THAT(check(found, "host memory").message, HasSubstr("leaves 4.00 GB of the machine's 16.00 GB"));
  EXPECT_THAT(check(found, "host memory").fix, HasSubstr("/sys/fs/cgroup/user.slice"));
}

TEST(Diagnosis, HostThatCannotBeRead) {
  Findings found = healthy();
  found.host.reset();
  EXPECT_EQ(check(found, "host memory").status, "problem");
}

TEST(Diagnosis, StraysAreNamedWithTheCommandThatEndsThem) {
  Findings found = healthy();
  found.strays = {4711, 4712};
  EXPECT_EQ(check(found, "processes").status, "problem");
  EXPECT_EQ(check(found, "processes").fix, "kill 4711 4712");
}

TEST(Diagnosis, CardsThatAreUsedUnevenly) {
  Findings found = healthy();
  found.readings.push_back(reading("cuda0", gib(24), gib(1)));
  EXPECT_EQ(check(found, "balance").status, "missing") << "one card has nobody to be compared with";
  found.readings.push_back(reading("cuda1", gib(24), gib(12)));
  EXPECT_EQ(check(found, "balance").status, "ok");
  found.readings.back().free = gib(23);
  EXPECT_EQ(check(found, "balance").status, "warning");
  EXPECT_THAT(check(found, "balance").message, HasSubstr("cuda0 is 96 % full, cuda1 only 4 %"));
  found.readings[1].capacity = Bytes();  // a card that tells nothing
  EXPECT_EQ(check(found, "balance").status, "missing");
}

UpstreamView upstream(const std::string& id) {
  UpstreamView view;
  view.upstream = {
      .id = UpstreamId(id), .family = Family::kOllama, .shares_devices = true, .url = "http://" + id};
  return view;
}

TEST(Diagnosis, UpstreamsAreToldByWhatTheyDo) {
  Findings found = healthy();
  found.snapshot.upstreams = {upstream("ollama")};
  EXPECT_THAT(check(found, "upstream ollama").message, HasSubstr("answers at http://ollama"));
  found.snapshot.upstreams[0].runs = false;
  EXPECT_EQ(check(found, "upstream ollama").message, "does not run; it is started when somebody asks for it");
  found.snapshot.upstreams[0].intrudes = true;
  found.snapshot.upstreams[0].residents = {{.name = "qwen3:8b"}};
  EXPECT_EQ(check(found, "upstream ollama").status, "warning");
  EXPECT_THAT(check(found, "upstream ollama").message, HasSubstr("has loaded qwen3:8b by itself"));
}

// Nobody has to have an Ollama; a provider was named by somebody.
TEST(Diagnosis, AProviderThatNeverAnsweredIsNotOk) {
  Findings found = healthy();
  found.snapshot.upstreams = {upstream("ollama"), upstream("box")};
  found.snapshot.upstreams[1].upstream.family = Family::kOpenai;
  for (UpstreamView& view : found.snapshot.upstreams) view.reachable = false;
  EXPECT_EQ(check(found, "upstream ollama").status, "ok");
  EXPECT_EQ(check(found, "upstream box").status, "warning");
  EXPECT_THAT(check(found, "upstream box").message, HasSubstr("has not answered at http://box yet"));
}

TEST(Diagnosis, WhoHeldWhatAnUpstreamKeptMayHaveEnded) {
  Findings found = healthy();
  found.snapshot.upstreams = {upstream("ollama")};
  UpstreamView& view = found.snapshot.upstreams[0];
  view.stuck = Error{.code = ErrorCode::kResourceExhausted,
                     .message = "ollama kept 300 MB; held by a (7) 200 MB, b (8) 100 MB",
                     .reason = "upstream_not_released",
                     .fields = {},
                     .retry_after = {}};
  view.holders = {{.pid = 7, .name = "a", .bytes = mib(200)}, {.pid = 8, .name = "b", .bytes = mib(100)}};
  EXPECT_EQ(check(found, "upstream ollama").status, "problem");
  EXPECT_EQ(check(found, "upstream ollama").message, view.stuck->message);
  found.ended = {8};
  EXPECT_EQ(check(found, "upstream ollama").status, "problem");
  EXPECT_THAT(check(found, "upstream ollama").message, HasSubstr("; since then b (8) has ended"));
  found.ended = {7, 8};
  EXPECT_EQ(check(found, "upstream ollama").status, "warning");
  EXPECT_THAT(check(found, "upstream ollama").message, HasSubstr("; since then a (7), b (8) have ended"));
  EXPECT_THAT(check(found, "upstream ollama").fix, HasSubstr("measured anew"));
}

TEST(Diagnosis, AModelThatItsUpstreamCouldNotLoadIsAProblem) {
  Findings found = healthy();
  ModelView view;
  view.model.id = ModelId("ollama_a");
  view.model.remote = Remote{.upstream = UpstreamId("ollama"), .name = "a"};
  view.state = PublishedState::kFailed;
  view.error = Error{.code = ErrorCode::kUnavailable,
                     .message = "no such file",
                     .reason = "load_failed",
                     .fields = {},
                     .retry_after = {}};
  found.snapshot.models.push_back(view);
  EXPECT_EQ(check(found, "model ollama_a").status, "problem");
  EXPECT_EQ(check(found, "model ollama_a").message, "no such file");
}

TEST(Diagnosis, AProviderElsewhereThatCannotBeReachedIsAmongThem) {
  Findings found = healthy();
  Upstream far{
      .id = UpstreamId("far"), .family = Family::kOpenai, .shares_devices = false, .url = "https://far/v1"};
  found.upstream_troubles = {{far,
                              {.code = ErrorCode::kUnavailable,
                               .message = "far cannot be reached: its certificate is not valid",
                               .reason = "upstream_unreachable",
                               .fields = {},
                               .retry_after = {}},
                              false}};
  EXPECT_EQ(check(found, "upstream far").status, "warning");
  EXPECT_THAT(check(found, "upstream far").message, HasSubstr("certificate"));
}

TEST(Diagnosis, AnUpstreamThatIsAwayIsToldOnceAndNotForEachOfItsModels) {
  Findings found = healthy();
  found.snapshot.upstreams = {upstream("ollama")};
  found.snapshot.upstreams[0].reachable = false;
  for (const char* id : {"ollama_a", "ollama_b"}) {
    ModelView view;
    view.model.id = ModelId(id);
    view.model.remote = Remote{.upstream = UpstreamId("ollama"), .name = id};
    view.model.problem = Error{.code = ErrorCode::kUnavailable,
                               .message = "ollama does not answer",
                               .reason = "upstream_unreachable",
                               .fields = {},
                               .retry_after = {}};
    found.snapshot.models.push_back(view);
  }
  const auto checks = diagnose(found);
  EXPECT_EQ(std::ranges::count_if(checks, [](const Check& c) { return c.status != "ok"; }), 1);
  EXPECT_EQ(check(found, "upstream ollama").status, "warning");
}

TEST(Diagnosis, AModelThatCanNeverFit) {
  Findings found = healthy();
  found.snapshot.models.push_back(model("huge", gib(40)));
  EXPECT_EQ(check(found, "model huge").status, "warning");
  EXPECT_THAT(check(found, "model huge").message, HasSubstr("takes 40.00 GB of host, which has 16.00 GB"));
  found.snapshot.devices[0].device.limit = gib(2);
  found.snapshot.models[1] = model("large", gib(3));
  EXPECT_THAT(check(found, "model large").message, HasSubstr("which has 2.00 GB for models"));
}

TEST(Diagnosis, WarningsOfTheConfigurationAreAmongThem) {
  Findings found = healthy();
  found.warnings = {"models.x: device cuda is not there; it runs on the host"};
  EXPECT_EQ(check(found, "configuration").status, "warning");
}

}  // namespace
}  // namespace lm::api
