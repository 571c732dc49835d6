// The collection: with servers made of plain values, and with tests/fake_ollama and its real memory.
#include "backend/upstreams.h"

#include <csignal>
#include <deque>

#include <boost/asio/co_spawn.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/ollama.h"
#include "backend/testing/fake_ollama.h"
#include "base/latch.h"

namespace lm::backend {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using os::testing::run_until;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

const UpstreamId kLab("lab");

Model model_of(const std::string& name) {
  Model model;
  model.id = ModelId("lab/" + name);
  model.family = Family::kOpenai;
  model.remote = Remote{.upstream = kLab, .name = name};
  return model;
}

Error refused(std::string reason) {
  return {.code = ErrorCode::kUnavailable,
          .message = "http://lab:1 does not answer",
          .reason = std::move(reason),
          .fields = {},
          .retry_after = {}};
}

// An upstream made of values; waits for the test where it is told to.
class ValueServer final : public UpstreamServer {
 public:
  explicit ValueServer(boost::asio::any_io_executor e)
      : executor(e), hold_load(e), hold_yield(e), hold_look(e) {
    for (Latch* latch : {&hold_load, &hold_yield, &hold_look}) latch->open();
    sight.tells_residents = true;
    sight.models = {model_of("a")};
  }

  const Upstream& description() const override { return upstream; }
  std::vector<Model> configured() const override { return named; }
  Task<Result<Sight>> look() override {
    ++looks;
    ++looking;
    most_looking = std::max(most_looking, looking);
    co_await hold_look.wait(1h);
    --looking;
    if (down) co_return std::unexpected(*down);
    co_return sight;
  }
  Task<Result<void>> load(std::string model, Duration) override {
    loaded.push_back(model);
    co_await hold_load.wait(1h);
    if (down) co_return std::unexpected(*down);
    sight.residents = {
        {.name = model, .kind = ModelKind::kGeneration, .bytes = gib(2), .accelerated = gib(1)}};
    co_return Result<void>();
  }
  Task<Result<void>> yield(Duration) override {
    co_await hold_yield.wait(1h);
    if (down) co_return std::unexpected(*down);
    sight.residents.clear();
    co_return Result<void>();
  }
  std::vector<os::ProcessIdentity> processes() override { return seen; }
  bool sees_processes() override { return visible; }
  bool rests_empty() const override { return empty_at_rest; }
  std::shared_ptr<http::Client> client() override { return nullptr; }
  std::string api_prefix() const override { return "/v1"; }
  http::Headers headers() const override { return {}; }

  boost::asio::any_io_executor executor;
  Upstream upstream{.id = kLab, .family = Family::kOpenai, .shares_devices = true, .url = "http://lab:1"};
  Sight sight;
  std::vector<Model> named;  // by the configuration
  std::optional<Error> down;
  std::vector<os::ProcessIdentity> seen;
  bool visible = false, empty_at_rest = false;
  Latch hold_load, hold_yield, hold_look;
  int looks = 0, looking = 0, most_looking = 0;
  std::vector<std::string> loaded;
};

class UpstreamsTest : public ::testing::Test {
 protected:
  void open(std::vector<std::shared_ptr<UpstreamServer>> servers, Upstreams::Probes probes) {
    upstreams.emplace(io.get_executor(), clock, std::move(servers),
                      Upstreams::Listener{.post = [this](Event event) { events.push_back(std::move(event)); },
                                          .models_changed = [this] { ++changes; },
                                          .log = [this](std::string_view line) { lines.emplace_back(line); }},
                      std::move(probes), options);
    boost::asio::co_spawn(io, upstreams->watch(), [this](std::exception_ptr error) {
      EXPECT_FALSE(error);
      watch_ended = true;
    });
  }
  void open_values() {
    lab = std::make_shared<ValueServer>(io.get_executor());
    open({lab}, {.held = [this](const auto& processes) { return processes.empty() ? DeviceBytes() : held; },
                 .devices = [this] { return devices; }});
  }
  void TearDown() override {
    if (!upstreams) return;
    run(io, upstreams->stop());
    EXPECT_TRUE(run_until(io, [this] { return watch_ended; }));
  }

  template <class E>
  std::vector<E> all() const {
    std::vector<E> found;
    for (const Event& event : events) {
      if (const E* one = std::get_if<E>(&event)) found.push_back(*one);
    }
    return found;
  }
  template <class E>
  E await_event(std::size_t n = 1) {
    EXPECT_TRUE(run_until(io, [&] { return all<E>().size() >= n; })) << "no such event";
    return all<E>().at(n - 1);
  }
  // The next look's UpstreamSeen that fulfils it.
  UpstreamSeen await_seen(const std::function<bool(const UpstreamSeen&)>& wanted) {
    std::optional<UpstreamSeen> found;
    std::size_t from = events.size();
    EXPECT_TRUE(run_until(io, [&] {
      for (; from < events.size() && !found; ++from) {
        if (const auto* seen = std::get_if<UpstreamSeen>(&events[from]); seen && wanted(*seen)) found = *seen;
      }
      return found.has_value();
    })) << "it was not seen";
    return found.value_or(UpstreamSeen{});
  }
  void look() {
    const int before = lab->looks;
    upstreams->look_at(kLab);
    ASSERT_TRUE(run_until(io, [&] { return lab->looks > before && lab->looking == 0; }));
  }
  // Has a look begin that the test holds.
  void look_pending() {
    upstreams->look_at(kLab);
    ASSERT_TRUE(run_until(io, [this] { return lab->looking == 1; }));
  }
  std::optional<Error> evict(Duration limit = 20s, UpstreamId id = kLab) {
    const std::size_t before = all<UpstreamYielded>().size();
    upstreams->evict(
        {.instance = InstanceId(7), .generation = Generation(3), .upstream = id, .limit = limit});
    const auto yielded = await_event<UpstreamYielded>(before + 1);
    EXPECT_EQ(yielded.instance, InstanceId(7));
    return yielded.error;
  }
  ReleaseMeasured measure(DeviceBytes expected = {}, UpstreamId id = kLab) {
    return run(io, upstreams->measure_release({.instance = InstanceId(7),
                                               .generation = Generation(3),
                                               .upstream = id,
                                               .expected = std::move(expected),
                                               .not_before = clock.now() + 1ms}));
  }
  DeviceReading reading(const DeviceId& device, Bytes free) {
    return {.device = device,
            .capacity = gib(64),
            .free = free,
            .holders = {{.pid = 9, .name = "vllm", .bytes = gib(1)}}};
  }

  boost::asio::io_context io;
  SteadyClock clock;
  UpstreamsOptions options{
      .quick = 5ms, .slow = 40ms, .elsewhere = 80ms, .unreachable = 40ms, .load_limit = 20s};
  std::vector<Event> events;
  std::vector<std::string> lines;
  int changes = 0;
  bool watch_ended = false;
  std::shared_ptr<ValueServer> lab;
  DeviceBytes held;
  std::vector<DeviceReading> devices;
  std::optional<Upstreams> upstreams;
};

const DeviceId kCard("cuda0");

TEST_F(UpstreamsTest, SaysWhatItSeesAndThenOnlyNowAndThen) {
  options.slow = 10s;
  open_values();
  const auto seen = await_event<UpstreamSeen>();
  EXPECT_EQ(seen.upstream, kLab);
  EXPECT_TRUE(seen.reachable);
  EXPECT_TRUE(seen.tells_residents);
  EXPECT_THAT(upstreams->models(), ElementsAre(model_of("a")));
  EXPECT_THAT(upstreams->upstreams(), ElementsAre(lab->upstream));
  EXPECT_EQ(upstreams->find(kLab).get(), lab.get());
  EXPECT_EQ(upstreams->find(UpstreamId("x")), nullptr);
  EXPECT_EQ(changes, 1);
  for (int i = 0; i < 5; ++i) look();
  EXPECT_THAT(all<UpstreamSeen>(), SizeIs(1)) << "nothing changed";

  lab->sight.residents = {{.name = "a"}};
  look();
  EXPECT_THAT(all<UpstreamSeen>().back().residents, SizeIs(1));
  EXPECT_EQ(changes, 1) << "the models are the same";
  lab->sight.models.push_back(model_of("b"));
  look();
  EXPECT_EQ(changes, 2);
  EXPECT_THAT(upstreams->models(), SizeIs(2));
}

TEST_F(UpstreamsTest, SaysItAtLeastEverySlowPause) {
  open_values();
  await_event<UpstreamSeen>(4);
}

TEST_F(UpstreamsTest, LooksRarerWhileNothingHappensAndMoreOftenInUse) {
  options.quick = 1ms;
  options.slow = 1h;
  open_values();
  // 1 + 2 + 4 + … ms: after a while the pauses are seconds.
  EXPECT_FALSE(run_until(io, [this] { return lab->looks > 14; }, 2s)) << lab->looks;
  EXPECT_GE(lab->looks, 8);
  const int before = lab->looks;
  upstreams->touch(kLab);
  EXPECT_TRUE(run_until(io, [&] { return lab->looks > before + 20; }));
}

TEST_F(UpstreamsTest, NeverLooksTwiceAtOnce) {
  open_values();
  await_event<UpstreamSeen>();
  lab->hold_look = Latch(io.get_executor());
  look_pending();
  for (int i = 0; i < 10; ++i) {
    upstreams->look_at(kLab);
    upstreams->touch(kLab);
    io.poll();
  }
  upstreams->load(InstanceId(1), Generation(1), model_of("a"));
  io.poll();
  EXPECT_EQ(lab->looking, 1);
  lab->hold_look.open();
  await_event<LoadSucceeded>();
  EXPECT_EQ(lab->most_looking, 1);
}

TEST_F(UpstreamsTest, WhatTheConfigurationNamesIsOfferedBeforeItWasReached) {
  lab = std::make_shared<ValueServer>(io.get_executor());
  Model model;
  model.id = ModelId("lab/gone");
  model.remote = Remote{.upstream = kLab, .name = "gone"};
  lab->named = {model};
  lab->down = Error{.code = ErrorCode::kUnavailable,
                    .message = "nobody listens",
                    .reason = "connect_failed",
                    .fields = {},
                    .retry_after = {}};
  open({lab}, {.held = [this](const auto&) { return held; }, .devices = [this] { return devices; }});
  ASSERT_EQ(upstreams->models().size(), 1U);
  EXPECT_FALSE(upstreams->models()[0].problem) << "nobody has looked yet";
  await_event<UpstreamSeen>();
  ASSERT_EQ(upstreams->models().size(), 1U);
  ASSERT_TRUE(upstreams->models()[0].problem);
  EXPECT_EQ(upstreams->models()[0].problem->reason, "upstream_unreachable");
  ASSERT_EQ(upstreams->troubles().size(), 1U);
  EXPECT_FALSE(upstreams->troubles()[0].offers_nothing);
}

// Neither is it reached, nor can it not be.
TEST_F(UpstreamsTest, OneThatNobodyHasLookedAtYetIsATrouble) {
  lab = std::make_shared<ValueServer>(io.get_executor());
  lab->hold_look = Latch(io.get_executor());
  open({lab}, {.held = [this](const auto&) { return held; }, .devices = [this] { return devices; }});
  ASSERT_TRUE(run_until(io, [this] { return lab->looking == 1; }));
  EXPECT_FALSE(upstreams->all_seen());
  ASSERT_THAT(upstreams->troubles(), SizeIs(1));
  EXPECT_TRUE(upstreams->troubles()[0].offers_nothing);
  EXPECT_EQ(upstreams->troubles()[0].error.message, "lab has not answered at http://lab:1 yet");
  const int before = changes;
  lab->hold_look.open();
  await_event<UpstreamSeen>();
  EXPECT_TRUE(upstreams->all_seen());
  EXPECT_THAT(upstreams->troubles(), IsEmpty());
  EXPECT_EQ(changes, before + 1) << "also where it offers nothing";
}

// The configuration was read again.
TEST_F(UpstreamsTest, WhatTheOnesBeforeOfferedIsOfferedUntilTheyAreSeen) {
  open_values();
  Model model;
  model.id = ModelId("lab/a");
  model.remote = Remote{.upstream = kLab, .name = "a"};
  lab->sight.models = {model};
  look();
  lab->down = refused("connect_failed");
  look();
  const auto after = [&](std::string url) {
    auto server = std::make_shared<ValueServer>(io.get_executor());
    server->upstream.url = std::move(url);
    Upstreams next(io.get_executor(), clock, {server}, {}, {}, options);
    next.take_over(*upstreams);
    return next.models();
  };
  ASSERT_THAT(after("http://lab:1"), SizeIs(1));
  EXPECT_TRUE(after("http://lab:1").front().problem);
  ASSERT_THAT(after("http://other:1"), SizeIs(1));
  EXPECT_FALSE(after("http://other:1").front().problem) << "it is not the one that could not be reached";
}

TEST_F(UpstreamsTest, OneThatDoesNotRunIsToldSo) {
  open_values();
  EXPECT_TRUE(await_event<UpstreamSeen>().runs);
  lab->sight.runs = false;
  look();
  EXPECT_FALSE(await_seen([](const UpstreamSeen& seen) { return !seen.runs; }).runs);
}

TEST_F(UpstreamsTest, UnreachableAndBack) {
  open_values();
  await_event<UpstreamSeen>();
  lab->sight.residents = {{.name = "a"}};
  look();
  lab->down = refused("connect_failed");
  const auto gone = await_seen([](const UpstreamSeen& seen) { return !seen.reachable; });
  EXPECT_THAT(gone.residents, IsEmpty());
  EXPECT_FALSE(gone.tells_residents);
  ASSERT_THAT(upstreams->models(), SizeIs(1)) << "what it had is still listed";
  const auto problem = upstreams->models().front().problem;
  ASSERT_TRUE(problem);
  EXPECT_EQ(problem->code, ErrorCode::kUnavailable);
  EXPECT_EQ(problem->reason, "upstream_unreachable");
  EXPECT_EQ(problem->message, "lab cannot be reached: http://lab:1 does not answer");
  EXPECT_THAT(lines, ElementsAre("lab cannot be reached: http://lab:1 does not answer"));
  EXPECT_EQ(changes, 2);
  for (int i = 0; i < 3; ++i) look();
  EXPECT_THAT(lines, SizeIs(1)) << "said once";

  lab->down.reset();
  const auto back = await_seen([](const UpstreamSeen& seen) { return seen.reachable; });
  EXPECT_THAT(back.residents, SizeIs(1));
  EXPECT_FALSE(upstreams->models().front().problem);
  EXPECT_THAT(lines, Contains("lab at http://lab:1 can be reached again"));
  EXPECT_EQ(changes, 3);
}

TEST_F(UpstreamsTest, WhoHasGoneAwayIsKnownAfterAnotherLook) {
  options.quick = options.slow = 1h;
  open_values();
  await_event<UpstreamSeen>();
  lab->down = refused("connect_failed");
  EXPECT_FALSE(upstreams->models().front().problem) << "nobody has looked";
  run(io, upstreams->look_again(kLab, 1min));
  EXPECT_TRUE(upstreams->models().front().problem);
  run(io, upstreams->look_again(UpstreamId("nobody"), 1min));
}

TEST_F(UpstreamsTest, AnotherLookIsWaitedForNoLongerThanItsLimit) {
  options.quick = options.slow = 1h;
  open_values();
  await_event<UpstreamSeen>();
  lab->hold_look = Latch(io.get_executor());
  const int before = lab->looks;
  run(io, upstreams->look_again(kLab, 20ms));
  EXPECT_EQ(lab->looks, before + 1);
  EXPECT_EQ(lab->looking, 1) << "it goes on by itself";
  lab->hold_look.open();
}

TEST_F(UpstreamsTest, LoadsWithTheMeasuredMemory) {
  open_values();
  await_event<UpstreamSeen>();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  held = {{host_device(), mib(100)}};
  look();
  EXPECT_EQ(all<UpstreamSeen>().back().held, DeviceBytes()) << "that much it holds without a model";
  lab->hold_load = Latch(io.get_executor());
  upstreams->load(InstanceId(7), Generation(3), model_of("a"));
  const auto progressed = await_event<LoadProgressed>();
  EXPECT_EQ(progressed.stage, LoadStage::kStarting);
  held = {{host_device(), mib(150)}, {kCard, gib(5)}};
  lab->hold_load.open();
  const auto succeeded = await_event<LoadSucceeded>();
  EXPECT_EQ(succeeded.instance, InstanceId(7));
  EXPECT_EQ(succeeded.generation, Generation(3));
  EXPECT_EQ(succeeded.held, (DeviceBytes{{host_device(), mib(50)}, {kCard, gib(5)}}));
  EXPECT_EQ(succeeded.slots, 256);
  EXPECT_EQ(succeeded.context, 0);
  EXPECT_THAT(lab->loaded, ElementsAre("a"));
  await_seen([](const UpstreamSeen& seen) { return !seen.residents.empty(); });
}

// The arbiter gives up a load of which nothing was heard for some time.
TEST_F(UpstreamsTest, OneThatAnswersWhileItLoadsIsHeardOf) {
  open_values();
  await_event<UpstreamSeen>();
  lab->hold_load = Latch(io.get_executor());
  Model model;
  model.id = ModelId("lab/a");
  model.remote = Remote{.upstream = kLab, .name = "a"};
  upstreams->load(InstanceId(7), Generation(3), model);
  EXPECT_EQ(await_event<LoadProgressed>(3).generation, Generation(3));
  lab->down = refused("connect_failed");
  await_seen([](const UpstreamSeen& seen) { return !seen.reachable; });
  const std::size_t heard = all<LoadProgressed>().size();
  for (int i = 0; i < 3; ++i) look();
  EXPECT_EQ(all<LoadProgressed>().size(), heard) << "nobody hears of who does not answer";
  lab->down.reset();
  lab->hold_load.open();
  await_event<LoadSucceeded>();
}

TEST_F(UpstreamsTest, FailedLoadsAreTold) {
  open_values();
  await_event<UpstreamSeen>();
  lab->down = refused("connection_lost");
  upstreams->load(InstanceId(7), Generation(3), model_of("a"));
  EXPECT_EQ(await_event<LoadFailed>().error.reason, "connection_lost");
  Model stranger = model_of("a");
  stranger.remote->upstream = UpstreamId("nobody");
  upstreams->load(InstanceId(8), Generation(4), stranger);
  EXPECT_EQ(await_event<LoadFailed>(2).error.code, ErrorCode::kNotFound);
  EXPECT_EQ(evict(20s, UpstreamId("nobody"))->code, ErrorCode::kNotFound);
}

// What a server holds without a model is its own; what it holds beyond that after a release is not.
TEST_F(UpstreamsTest, TheResidualIsWhatLiesAboveItsOwn) {
  open_values();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  held = {{host_device(), mib(100)}};
  await_event<UpstreamSeen>();
  lab->sight.residents = {{.name = "a"}};
  held = {{host_device(), mib(150)}, {kCard, gib(5)}};
  look();
  EXPECT_EQ(evict(), std::nullopt);
  const auto kept = measure();
  EXPECT_EQ(kept.instance, InstanceId(7));
  EXPECT_EQ(kept.method, "process");
  EXPECT_EQ(kept.residual, (DeviceBytes{{host_device(), mib(50)}, {kCard, gib(5)}}));
  ASSERT_THAT(kept.holders, SizeIs(1));
  EXPECT_EQ(kept.holders.front().pid, ::getpid());
  EXPECT_EQ(kept.holders.front().bytes, gib(5) + mib(150));
  look();
  EXPECT_EQ(measure().residual, kept.residual) << "that it says it has none makes nothing its own";
  // Its heap has grown a little; that is no model.
  held = {{host_device(), mib(110)}};
  EXPECT_EQ(measure().residual, DeviceBytes());
  EXPECT_THAT(measure().holders, IsEmpty());
}

// One that had a model when we came: what it never was without is its own only where it is a small rest.
TEST_F(UpstreamsTest, OneNeverSeenWithoutAModel) {
  held = {{kCard, gib(20)}};
  open_values();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  lab->sight.residents = {{.name = "a"}};
  await_event<UpstreamSeen>();
  EXPECT_EQ(evict(), std::nullopt);
  look();
  EXPECT_EQ(measure().residual, (DeviceBytes{{kCard, gib(20)}})) << "it has given back nothing";
  held = {{kCard, mib(500)}};
  EXPECT_EQ(measure().residual, DeviceBytes()) << "late, but it has";
  held = {{kCard, gib(4)}};
  EXPECT_EQ(measure().residual, (DeviceBytes{{kCard, gib(4) - mib(500)}}));
}

TEST_F(UpstreamsTest, WhereProcessesCannotBeSeenTheDeviceIsMeasured) {
  devices = {reading(host_device(), gib(10)), reading(kCard, gib(30))};
  open_values();
  await_event<UpstreamSeen>();
  upstreams->load(InstanceId(7), Generation(3), model_of("a"));
  EXPECT_EQ(await_event<LoadSucceeded>().held, (DeviceBytes{{host_device(), gib(1)}, {kCard, gib(1)}}))
      << "its word, where there is nothing better";
  EXPECT_EQ(evict(), std::nullopt);
  auto measured = measure();
  EXPECT_EQ(measured.method, "device");
  EXPECT_EQ(measured.residual, (DeviceBytes{{host_device(), gib(1)}, {kCard, gib(1)}}));
  EXPECT_THAT(measured.holders, SizeIs(2));
  EXPECT_THAT(measured.devices, SizeIs(2));
  devices = {reading(host_device(), gib(11)), reading(kCard, gib(30) + mib(256))};
  measured = measure();
  EXPECT_EQ(measured.residual, (DeviceBytes{{kCard, mib(768)}}));
  devices = {reading(host_device(), gib(40)), reading(kCard, gib(31) - mib(20))};
  EXPECT_EQ(measure().residual, DeviceBytes()) << "others breathe too";
}

TEST_F(UpstreamsTest, WhereNothingCanBeSaidThatIsSaid) {
  open_values();
  await_event<UpstreamSeen>();
  EXPECT_EQ(evict(), std::nullopt);
  EXPECT_EQ(measure().method, "none");
  EXPECT_FALSE(measure().complete);
  EXPECT_EQ(measure({}, UpstreamId("nobody")).method, "none");
  EXPECT_FALSE(measure({}, UpstreamId("nobody")).complete);
  // It claimed nothing, but the arbiter had counted on something.
  devices = {reading(kCard, gib(30))};
  EXPECT_EQ(evict(), std::nullopt);
  EXPECT_EQ(measure({{kCard, gib(2)}}).residual, (DeviceBytes{{kCard, gib(2)}}));
  devices = {reading(kCard, gib(32))};
  const auto measured = measure({{kCard, gib(2)}});
  EXPECT_EQ(measured.method, "device");
  EXPECT_EQ(measured.residual, DeviceBytes());
}

// WSL2: the driver tells what a card has free, not who holds the rest.
TEST_F(UpstreamsTest, ACardThatTellsNoProcessesIsMeasuredItself) {
  devices = {reading(host_device(), gib(10)), reading(kCard, gib(30))};
  devices[1].per_process = false;
  open_values();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  EXPECT_TRUE(await_event<UpstreamSeen>().measured == false);
  lab->sight.residents = {{.name = "a", .bytes = gib(6), .accelerated = gib(5)}};
  held = {{host_device(), gib(1)}};
  look();
  EXPECT_EQ(all<UpstreamSeen>().back().held, (DeviceBytes{{host_device(), gib(1)}, {kCard, gib(5)}}))
      << "there its word counts";
  EXPECT_EQ(evict(), std::nullopt);
  held = {};
  auto measured = measure();
  EXPECT_EQ(measured.method, "device");
  EXPECT_EQ(measured.residual, (DeviceBytes{{kCard, gib(5)}}));
  EXPECT_TRUE(measured.complete);
  // It says that it has none, and is asked again: what it said before is what must come back.
  look();
  EXPECT_EQ(evict(), std::nullopt);
  EXPECT_EQ(measure().residual, (DeviceBytes{{kCard, gib(5)}}));
  devices[1].free = gib(35);
  measured = measure();
  EXPECT_EQ(measured.residual, DeviceBytes());
  EXPECT_TRUE(measured.complete);
}

TEST_F(UpstreamsTest, WhatNobodyTellsIsNotCalledFree) {
  devices = {reading(host_device(), gib(10)), reading(kCard, gib(30))};
  devices[1].per_process = false;
  open_values();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  lab->sight.tells_residents = false;
  await_event<UpstreamSeen>();
  EXPECT_EQ(evict(), std::nullopt);
  EXPECT_FALSE(measure().complete);
  devices[1].per_process = true;
  EXPECT_TRUE(measure().complete);
}

// Those that listen hold nothing of what it says it has on a card: a container's door.
TEST_F(UpstreamsTest, ADoorIsNotWhoHoldsTheCard) {
  devices = {reading(host_device(), gib(10)), reading(kCard, gib(30))};
  open_values();
  lab->visible = true;
  lab->seen = {*os::identify(::getpid())};
  await_event<UpstreamSeen>();
  lab->sight.residents = {{.name = "a", .bytes = gib(5), .accelerated = gib(5)}};
  look();
  EXPECT_EQ(all<UpstreamSeen>().back().held, (DeviceBytes{{kCard, gib(5)}}));
  EXPECT_FALSE(all<UpstreamSeen>().back().measured);
  EXPECT_EQ(evict(), std::nullopt);
  EXPECT_EQ(measure().residual, (DeviceBytes{{kCard, gib(5)}}));
  devices[1].free = gib(35);
  EXPECT_EQ(measure().residual, DeviceBytes());
}

// Where nobody listens any more and nobody's processes can be seen, the devices tell.
TEST_F(UpstreamsTest, OneThatIsGoneCannotBeAskedAndNeedNotBe) {
  devices = {reading(host_device(), gib(10)), reading(kCard, gib(30))};
  open_values();
  lab->sight.residents = {{.name = "a", .bytes = gib(5), .accelerated = gib(5)}};
  await_event<UpstreamSeen>();
  lab->down = refused("connect_failed");
  EXPECT_EQ(evict(), std::nullopt);
  lab->down = refused("first_byte_timeout");
  EXPECT_TRUE(evict());
}

TEST_F(UpstreamsTest, WhoDoesNotAnswerStillHoldsWhatItHeld) {
  devices = {reading(host_device(), gib(10))};
  open_values();
  await_event<UpstreamSeen>();
  lab->sight.residents = {{.name = "a", .kind = ModelKind::kGeneration, .bytes = gib(3)}};
  look();
  EXPECT_EQ(all<UpstreamSeen>().back().held.total(), gib(3));
  lab->down = refused("first_byte_timeout");
  EXPECT_EQ(await_seen([](const UpstreamSeen& seen) { return !seen.reachable; }).held.total(), gib(3));
  lab->down.reset();
  await_seen([](const UpstreamSeen& seen) { return seen.reachable; });
  lab->down = refused("connect_failed");
  EXPECT_EQ(await_seen([](const UpstreamSeen& seen) { return !seen.reachable; }).held, DeviceBytes());
}

TEST_F(UpstreamsTest, StopsWhateverIsUnderWay) {
  open_values();
  await_event<UpstreamSeen>();
  lab->hold_load = lab->hold_yield = lab->hold_look = Latch(io.get_executor());
  look_pending();
  upstreams->load(InstanceId(1), Generation(1), model_of("a"));
  upstreams->evict({.instance = InstanceId(2), .generation = Generation(2), .upstream = kLab, .limit = 1h});
  io.poll();
  events.clear();
  run(io, upstreams->stop());
  EXPECT_TRUE(run_until(io, [this] { return watch_ended; }));
  EXPECT_THAT(events, IsEmpty());
}

// ---- with real memory

class WithOllama : public UpstreamsTest {
 protected:
  void open_ollama(std::vector<std::string> arguments = {"--model", "tiny,memory=48M", "--model",
                                                         "other,memory=48M"}) {
    options = {.quick = 50ms, .slow = 500ms, .elsewhere = 1s, .unreachable = 200ms, .load_limit = 20s};
    fake.emplace(io, std::move(arguments));
    open({make_ollama(io.get_executor(), {.url = fake->url(), .look_limit = 2s}).value()},
         {.held = &testing::held_by, .devices = [this] { return devices; }});
    await_event<UpstreamSeen>();
  }
  void load() {
    const std::size_t before = all<LoadSucceeded>().size();
    upstreams->load(InstanceId(7), Generation(3), upstreams->models().front());
    EXPECT_GE(await_event<LoadSucceeded>(before + 1).held.total(), mib(48));
  }
  ReleaseMeasured release() { return measure({}, kOllama); }
  // As the arbiter asks: again and again until it is so. Not from inside of the loop.
  bool comes_back() {
    for (const TimePoint end = clock.now() + 10s; clock.now() < end;) {
      if (release().residual.empty()) return true;
    }
    return false;
  }
  std::optional<Error> give_up(Duration limit = 10s) { return evict(limit, kOllama); }

  const UpstreamId kOllama{"ollama"};
  std::optional<testing::FakeOllama> fake;
};

TEST_F(WithOllama, RoundAndRound) {
  open_ollama();
  for (int round = 0; round < 5; ++round) {
    load();
    EXPECT_EQ(give_up(), std::nullopt);
    const auto measured = release();
    EXPECT_EQ(measured.method, "process");
    EXPECT_EQ(measured.residual, DeviceBytes());
  }
}

TEST_F(WithOllama, SeesWhatOthersHaveItLoad) {
  open_ollama();
  fake->load("other");
  upstreams->touch(kOllama);
  const auto seen = await_seen([](const UpstreamSeen& one) { return !one.residents.empty(); });
  EXPECT_EQ(seen.residents.front().name, "other:latest");
  EXPECT_GE(seen.held.total(), mib(48));
}

TEST_F(WithOllama, KeepsTheMemory) {
  open_ollama();
  load();
  fake->lie(R"("keeps_memory": "hidden")");
  EXPECT_EQ(give_up(), std::nullopt) << "its word";
  const auto kept = release();
  EXPECT_EQ(kept.method, "process");
  EXPECT_GE(kept.residual.total(), mib(48));
  ASSERT_THAT(kept.holders, SizeIs(1));
  EXPECT_THAT(kept.holders.front().name, HasSubstr("python3"));
  EXPECT_GE(kept.holders.front().bytes, mib(48));
  const auto seen = await_seen([](const UpstreamSeen& one) { return one.residents.empty(); });
  EXPECT_GE(seen.held.total(), mib(48)) << "what it holds is told although it denies it";
  fake->lie("");
  EXPECT_EQ(release().residual, DeviceBytes());
}

TEST_F(WithOllama, HangsInStopping) {
  open_ollama();
  load();
  fake->lie(R"("hangs_in_stopping": true)");
  const TimePoint began = clock.now();
  const auto error = give_up(600ms);
  EXPECT_LT(clock.now() - began, 3s);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->reason, "still_resident");
  EXPECT_THAT(error->message, HasSubstr("still shows tiny:latest"));
  EXPECT_GE(release().residual.total(), mib(48));
  EXPECT_THAT(lines, Contains(HasSubstr("ollama has not given up its memory")));
  fake->lie("");
}

TEST_F(WithOllama, RevivesTheModel) {
  open_ollama();
  load();
  fake->lie(R"("revives_after_ms": 100, "revivals": 1)");
  EXPECT_EQ(give_up(), std::nullopt);
  const auto seen = await_seen([](const UpstreamSeen& one) { return !one.residents.empty(); });
  EXPECT_EQ(seen.residents.front().name, "tiny:latest");
  EXPECT_GE(release().residual.total(), mib(48)) << "it is found out, whoever did it";
  fake->lie("");
  EXPECT_EQ(give_up(), std::nullopt);
  EXPECT_EQ(release().residual, DeviceBytes());
}

// Nobody is the parent any more of what still holds the memory.
TEST_F(WithOllama, DiesAndLeavesItsChild) {
  open_ollama();
  load();
  fake->lie(R"("dies_in": "unload", "leaves_child": true)");
  const auto error = give_up();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::kUnavailable);
  const auto left = release();
  EXPECT_EQ(left.method, "process");
  EXPECT_GE(left.residual.total(), mib(48));
  ASSERT_THAT(left.holders, SizeIs(1));
  const auto seen = await_seen([](const UpstreamSeen& one) { return !one.reachable; });
  EXPECT_GE(seen.held.total(), mib(48));
  ::kill(left.holders.front().pid, SIGKILL);
  EXPECT_TRUE(comes_back());
}

TEST_F(WithOllama, DiesAndTakesItsChildAlong) {
  open_ollama();
  load();
  fake->lie(R"("dies_in": "unload")");
  EXPECT_TRUE(give_up());
  EXPECT_TRUE(comes_back());
}

TEST_F(WithOllama, AnswersGarbage) {
  open_ollama();
  load();
  fake->lie(R"("garbage": "html", "on": ["/api/ps"])");
  const auto error = give_up(2s);
  ASSERT_TRUE(error);
  EXPECT_EQ(error->reason, "bad_upstream");
  EXPECT_THAT(error->message, AllOf(HasSubstr(fake->url()), HasSubstr("no JSON"), HasSubstr("<html>")));
  EXPECT_GE(release().residual.total(), mib(48));
  const auto seen = await_seen([](const UpstreamSeen& one) { return !one.reachable; });
  EXPECT_GE(seen.held.total(), mib(48));
  EXPECT_THAT(upstreams->models().front().problem->message, HasSubstr("was not answered as Ollama does"));
  fake->lie("");
  await_seen([](const UpstreamSeen& one) { return one.reachable; });
}

}  // namespace
}  // namespace lm::backend
