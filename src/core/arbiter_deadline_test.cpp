// No wait without a deadline: in each state the whole world outside falls silent, for good, and whoever waits
// is told by the arbiter alone.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;
using enum InstanceState;

// Nobody waits longer than this for anything: the longest of the limits in their order, and room to spare.
constexpr Duration kLongest = std::chrono::hours(2);

// Lets silence pass and asserts on the way that whoever waits has a timer.
void expect_all_told(World& world, std::string_view when) {
  const TimePoint end = world.now() + kLongest;
  const auto somebody_waits = [&] {
    return std::ranges::any_of(world.requests(),
                               [](const auto& r) { return r.second.fate == RequestFate::kWaiting; }) ||
           std::ranges::any_of(world.jobs(), [](const auto& job) { return !job.second.done; });
  };
  while (somebody_waits()) {
    ASSERT_TRUE(world.armed()) << when << ": somebody waits, and no timer is set";
    ASSERT_GT(*world.armed(), world.now()) << when;
    if (!world.happen_next(end)) break;
  }
  for (const auto& [id, request] : world.requests())
    EXPECT_NE(request.fate, RequestFate::kWaiting) << when << ": request " << id.value();
  for (const auto& [id, job] : world.jobs()) EXPECT_TRUE(job.done) << when << ": job " << id.value();
}

struct Silence : ::testing::Test {
  Silence() : world(Settings{}) {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(7));
    world.add_model("b", gib(7));
    world.add_upstream("ollama", Family::kOllama);
    world.add_remote_model("ollama_llama", "ollama", gib(5));
    world.configure();
  }
  bool come_to(const std::string& model, InstanceState state) {
    return world.run_until_true([&] { return world.state(model) == state; });
  }
  World world;
};

// A model of ours, in each of its states, with somebody who waits for it, for another in its place, and for
// its end.
TEST(SilentWorld, EndsEveryWaitInEveryStateOfAModel) {
  for (const InstanceState when : {kAbsent, kQueued, kReserved, kStandbyTaken, kLoading, kReady, kDraining,
                                   kStopping, kReclaiming, kFailed}) {
    for (const bool unloads : {false, true}) {
      const std::string what = fmt::format("{}{}", to_string(when), unloads ? ", unloaded" : "");
      World world;
      world.add_device("gpu", gib(10));
      world.add_model("a", gib(7));
      world.add_model("b", gib(7));
      world.configure();
      if (when == kFailed) world.truth("a").fates = {LoadFate::kFails};
      if (when != kAbsent) {
        world.load("a");
        if (when == kDraining || when == kStopping || when == kReclaiming) {
          ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == kReady; })) << what;
          world.request("a", when == kDraining ? std::optional<Duration>() : ms(1));
          world.unload("a");
        }
        ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == when; })) << what;
      }
      world.fall_silent();
      world.request("a");
      world.request("b");
      world.request("b", {}, PriorityClass::kBatch);
      world.load("b");
      if (unloads) world.unload("a");
      expect_all_told(world, what);
    }
  }
}

// The same for what an upstream holds: each stage of taking the devices from it, and of giving them to it.
TEST_F(Silence, EndsEveryWaitForAnUpstreamThatLoads) {
  world.request("a", ms(10));
  ASSERT_TRUE(come_to("a", kReady));
  world.request("ollama_llama");
  ASSERT_TRUE(world.run_until_true([&] { return world.told<StartLoad>().size() == 2; }));
  world.fall_silent();
  world.choose("ollama_llama");
  world.request("a");
  expect_all_told(world, "an upstream that loads without end");
}

TEST_F(Silence, EndsEveryWaitForTheReleaseThatAnUpstreamNeeds) {
  world.request("a", ms(10));
  ASSERT_TRUE(come_to("a", kReady));
  world.request("ollama_llama");
  ASSERT_TRUE(come_to("a", kReclaiming));
  world.fall_silent();
  world.choose("ollama_llama");
  expect_all_told(world, "a release that nobody measures");
}

TEST_F(Silence, EndsEveryWaitForAnUpstreamThatYields) {
  const RequestId r = world.request("ollama_llama", ms(10));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  world.request("a");
  ASSERT_TRUE(world.run_until_true([&] { return !world.told<EvictUpstream>().empty(); }));
  world.fall_silent();
  world.choose("a");
  world.unload("ollama_llama");
  expect_all_told(world, "an upstream is silent when asked to yield");
}

TEST_F(Silence, EndsEveryWaitForAMeasurementOfAnUpstream) {
  const RequestId r = world.request("ollama_llama", ms(10));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  world.request("a");
  ASSERT_TRUE(world.run_until_true([&] { return !world.told<MeasureRelease>().empty(); }));
  world.fall_silent();
  world.choose("a");
  expect_all_told(world, "nobody measures what an upstream gave back");
}

// An answer that never ends holds its model; those who want its room are told by their own deadlines.
TEST_F(Silence, EndsEveryWaitBehindAnEndlessAnswer) {
  world.request("a");
  ASSERT_TRUE(come_to("a", kReady));
  world.fall_silent();
  world.request("b");
  world.request("ollama_llama");
  world.choose("ollama_llama");
  world.unload("a");
  expect_all_told(world, "an endless answer");
}

TEST_F(Silence, EndsAnExplicitChoiceOfAModelElsewhere) {
  world.add_upstream("cloud", Family::kOpenai, false);
  world.add_remote_model("openai_gpt", "cloud");
  world.configure();
  world.request("a", ms(10));
  ASSERT_TRUE(come_to("a", kReady));
  world.fall_silent();
  const JobId job = world.choose("openai_gpt");
  expect_all_told(world, "a worker that does not end when another model is chosen");
  ASSERT_TRUE(world.of(job).error);
  EXPECT_EQ(world.of(job).error->reason, "worker_not_ended");
}

TEST_F(Silence, LeavesShutdownItsDeadline) {
  world.request("a");
  ASSERT_TRUE(come_to("a", kReady));
  world.request("b");
  world.fall_silent();
  world.shut_down(sec(5));
  expect_all_told(world, "shutdown");
  EXPECT_TRUE(world.armed()) << "a worker that does not end is told again";
}

}  // namespace
}  // namespace lm::core
