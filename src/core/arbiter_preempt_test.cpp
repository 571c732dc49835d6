// Running answers that make way: after a turn's end they drain for a while, then those that can be continued
// are set aside and come back to their place in the queue.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

struct Preemption : ::testing::Test {
  Preemption() {
    world.settings().residency.max_loaded = 1;
    world.settings().scheduling.quantum_min = sec(2);
    world.settings().scheduling.quantum_factor = 0;
    world.settings().scheduling.drain = sec(1);
    world.add_device("gpu", gib(10));
    for (const char* m : {"a", "b", "c"}) {
      world.add_model(m, gib(1));
      world.truth(m).slots = 1;
      world.truth(m).load_time = ms(500);
    }
    world.configure();
  }
  void make_ready(const std::string& model) {
    world.load(model);
    ASSERT_TRUE(world.run_until_true([&] { return world.state(model) == InstanceState::kReady; }));
    world.run_for(ms(1));  // whoever comes in the same instant still belongs to the turn's batch
  }
  // A long answer of "a" that somebody who wants "b" has just broken off.
  RequestId set_aside(std::optional<Duration> service = {}) {
    make_ready("a");
    const RequestId running = world.stream("a", service);
    b = world.request("b", sec(1));
    EXPECT_TRUE(world.run_until_true([&] { return world.of(running).preemptions == 1; }));
    return running;
  }
  int preempted() const { return static_cast<int>(world.told<PreemptRequests>().size()); }

  World world;
  RequestId b;
};

TEST_F(Preemption, AnAnswerThatRunsOnIsSetAsideAndContinued) {
  const TimePoint began = world.now();
  const RequestId running = set_aside(sec(20));
  EXPECT_LE(seconds(world.now() - began), 0.5 + 2 + 1 + 0.1) << "load, quantum, drain";
  EXPECT_EQ(world.fate(running), RequestFate::kWaiting);
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_LE(seconds(world.of(b).answered - world.of(b).arrived), 2 + 1 + 0.7);
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.of(running).grants, 2);
  EXPECT_FALSE(world.of(running).cut);
  EXPECT_EQ(preempted(), 1);
  EXPECT_TRUE(world.decided(DecisionKind::kPreempt, "a"));
}

TEST_F(Preemption, WhatEndsWithinTheDrainIsNotTouched) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(2.9));
  b = world.request("b", sec(1));
  world.run_for(sec(20));
  EXPECT_EQ(world.of(running).grants, 1);
  EXPECT_EQ(preempted(), 0);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

TEST_F(Preemption, WhatCannotBeContinuedIsWaitedFor) {
  make_ready("a");
  const RequestId running = world.request("a", sec(30));
  b = world.request("b", sec(1));
  world.run_for(sec(29));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining);
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 0);
}

TEST_F(Preemption, OfTwoOnlyTheOneThatCanIsSetAside) {
  world.truth("a").slots = 2;
  make_ready("a");
  const RequestId stubborn = world.request("a", sec(10));
  const RequestId running = world.stream("a", sec(30));
  b = world.request("b", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.of(running).preemptions, 1);
  EXPECT_EQ(world.state("a"), InstanceState::kDraining) << "its memory is kept until the other one ends";
  EXPECT_EQ(world.fate(stubborn), RequestFate::kGranted);
  world.run_for(minutes(2));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 1);
}

TEST_F(Preemption, WithoutADrainItIsSetAsideWhenTheGateCloses) {
  world.settings().scheduling.drain = Duration();
  world.configure();
  const RequestId running = set_aside(sec(20));
  EXPECT_NEAR(seconds(world.now() - world.of(running).arrived), 2, 0.01);
}

TEST_F(Preemption, WithoutOthersNothingIsSetAside) {
  make_ready("a");
  const RequestId running = world.stream("a", minutes(30));
  world.run_for(minutes(31));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 0);
}

// It came first, so it goes on first, before those who waited behind it in line.
TEST_F(Preemption, ItComesBackToItsPlaceInTheQueue) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(20));
  const RequestId behind = world.stream("a", sec(1));
  const RequestId batch = world.request("a", sec(1), PriorityClass::kBatch);
  b = world.request("b", sec(1));
  world.run_for(sec(2.5));
  const RequestId late = world.stream("a", sec(1));
  world.run_for(minutes(2));
  EXPECT_EQ(world.of(running).preemptions, 1);
  std::vector<RequestId> order = world.grants();
  std::erase_if(order, [&](RequestId id) { return world.of(id).model != ModelId("a"); });
  EXPECT_EQ(order, (std::vector<RequestId>{running, running, behind, late, batch}));
}

// "The batch of a turn is always served": who waited when it began, or was set aside before, gets on by a
// quantum, even where somebody elsewhere is beyond every age.
TEST_F(Preemption, NobodyIsSetAsideAgainBeforeAQuantum) {
  world.settings().scheduling.age_cap_interactive = ms(1);
  world.configure();
  const RequestId one = world.stream("a", sec(20));
  const RequestId other = world.stream("b", sec(20));
  world.run_for(minutes(3));
  EXPECT_EQ(world.fate(one), RequestFate::kEnded);
  EXPECT_EQ(world.fate(other), RequestFate::kEnded);
  EXPECT_GE(world.of(one).preemptions, 5) << "they took turns";
  EXPECT_LE(world.of(one).preemptions, 10) << "of two seconds at least";
}

// A prompt of which nothing was kept, read anew for longer than a quantum.
TEST_F(Preemption, NobodyIsSetAsideAgainBeforeItHasSaidSomething) {
  const RequestId running = set_aside(sec(60));
  world.first_piece = sec(30);
  const RequestId other = world.stream("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(other) == RequestFate::kEnded; }));
  ASSERT_TRUE(world.run_until_true([&] { return world.of(running).grants == 2; }));
  const RequestId next = world.request("b", sec(1));
  world.run_for(sec(31.9));
  EXPECT_EQ(world.of(running).preemptions, 1);
  world.run_for(sec(1.2));
  EXPECT_EQ(world.of(running).preemptions, 2) << "a quantum after its first piece";
  world.run_for(minutes(3));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(next), RequestFate::kEnded);
}

TEST_F(Preemption, WhoWasSetAsideDoesNotCountAsOverdueForTheTimeItWasServed) {
  world.settings().scheduling.age_cap_interactive = sec(10);
  world.settings().scheduling.quantum_min = sec(4);
  world.configure();
  make_ready("a");
  const RequestId old = world.stream("a", minutes(2));
  world.run_for(minutes(1));
  b = world.stream("b", sec(3));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(b) == RequestFate::kGranted; }));
  const RequestId next = world.stream("b", sec(0.5));
  world.run_for(sec(3.6));
  EXPECT_EQ(world.fate(next), RequestFate::kEnded) << "b's quantum is not cut for an answer of a minute";
  world.run_for(minutes(5));
  EXPECT_EQ(world.fate(old), RequestFate::kEnded);
}

TEST_F(Preemption, ItIsNotRefusedForAFullQueue) {
  world.settings().scheduling.queue_per_model = 2;
  world.settings().scheduling.queue_total = 3;
  world.configure();
  make_ready("a");
  const RequestId running = world.stream("a", sec(20));
  for (int i = 0; i < 2; ++i) world.request("a", sec(1));
  b = world.request("b", sec(1));
  world.run_for(minutes(2));
  EXPECT_EQ(world.of(running).preemptions, 1);
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
}

TEST_F(Preemption, ItsOwnDeadlineWasForTheFirstWait) {
  make_ready("a");
  const RequestId running = world.request("a", sec(20), PriorityClass::kInteractive, sec(1), true);
  b = world.request("b", sec(10));
  world.run_for(minutes(2));
  EXPECT_EQ(world.of(running).preemptions, 1);
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
}

TEST_F(Preemption, ButItsWaitHasAnEnd) {
  world.settings().scheduling.wait_interactive = sec(30);
  world.settings().scheduling.wait_batch = sec(60);
  world.configure();
  const RequestId running = set_aside(sec(20));
  world.truth("a").fates = {LoadFate::kSilent};
  world.settings().limits.load_silence = minutes(10);
  world.configure();
  world.run_for(sec(59));
  EXPECT_EQ(world.fate(running), RequestFate::kWaiting);
  world.run_for(sec(2));
  EXPECT_EQ(world.fate(running), RequestFate::kRejected);
  EXPECT_EQ(world.reason(running), "wait_expired");
}

TEST_F(Preemption, ItsModelFailsToLoadAgain) {
  const RequestId running = set_aside(sec(20));
  world.truth("a").fates = {LoadFate::kFails};
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kRejected);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

TEST_F(Preemption, ItsClientLeavesWhileItWaits) {
  const RequestId running = set_aside(sec(20));
  world.cancel(running);
  EXPECT_EQ(world.fate(running), RequestFate::kLeft);
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_EQ(world.loads("a"), 1) << "nobody wants it any more";
}

TEST_F(Preemption, ItsClientLeavesBeforeTheLeaseIsBack) {
  world.preemption_takes = ms(50);
  make_ready("a");
  const RequestId running = world.stream("a", minutes(1));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return preempted() == 1; }));
  world.cancel(running);
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_EQ(world.loads("a"), 1);
}

TEST_F(Preemption, ItEndsBeforeTheLeaseIsBack) {
  world.preemption_takes = ms(50);
  make_ready("a");
  const RequestId running = world.stream("a");
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return preempted() == 1; }));
  world.finish(running);
  world.run_for(minutes(1));
  EXPECT_EQ(world.of(running).grants, 1);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

TEST_F(Preemption, AHoldEndsItsWait) {
  const RequestId running = set_aside(sec(20));
  world.unload("a", true);
  EXPECT_EQ(world.fate(running), RequestFate::kRejected);
  EXPECT_EQ(world.reason(running), "model_held");
}

TEST_F(Preemption, AHoldThatComesBeforeTheLeaseIsBackEndsItToo) {
  world.preemption_takes = ms(50);
  world.truth("a").stop_time = sec(1);
  make_ready("a");
  const RequestId running = world.stream("a", minutes(1));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return preempted() == 1; }));
  world.unload("a", true);
  world.run_for(ms(60));
  EXPECT_EQ(world.reason(running), "model_held");
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

TEST_F(Preemption, AnUnloadEndsItsWait) {
  const RequestId running = set_aside(sec(20));
  world.unload("a");
  EXPECT_EQ(world.reason(running), "model_unloaded");
}

TEST_F(Preemption, AShutdownEndsItsWait) {
  const RequestId running = set_aside(sec(20));
  world.shut_down(sec(5));
  EXPECT_EQ(world.reason(running), "shutting_down");
  world.run_for(minutes(1));
  EXPECT_TRUE(world.shutdown_finished());
}

TEST_F(Preemption, AShutdownThatComesBeforeTheLeaseIsBackEndsItToo) {
  world.preemption_takes = ms(50);
  world.truth("a").stop_time = sec(1);
  make_ready("a");
  const RequestId running = world.stream("a", minutes(1));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return preempted() == 1; }));
  world.shut_down(sec(5));
  world.run_for(minutes(1));
  EXPECT_EQ(world.reason(running), "shutting_down");
  EXPECT_TRUE(world.shutdown_finished());
}

TEST_F(Preemption, AModelThatIsNoLongerConfiguredEndsItsWait) {
  const RequestId running = set_aside(sec(20));
  std::erase_if(world.models(), [](const Model& m) { return m.id == ModelId("a"); });
  world.configure();
  EXPECT_EQ(world.reason(running), "model_not_found");
}

TEST_F(Preemption, ItsWorkerDiesBeforeItIsStopped) {
  world.preemption_takes = ms(50);
  world.truth("a").stop_time = sec(1);
  make_ready("a");
  const RequestId running = world.stream("a", sec(10));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return preempted() == 1; }));
  world.crash("a");
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

// Somebody's word, an idle timeout and the end of the daemon are no turns.
TEST_F(Preemption, AnUnloadWaitsForAnswers) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(20));
  world.unload("a");
  world.run_for(sec(30));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 0);
}

TEST_F(Preemption, AnUnloadDuringTheDrainSetsNothingAside) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(20));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  world.unload("a");
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 0);
  EXPECT_EQ(world.loads("a"), 1) << "what was unloaded is not loaded again by what it had begun";
}

TEST_F(Preemption, AShutdownSetsNothingAside) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(4));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  world.shut_down(sec(10));
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(preempted(), 0);
}

TEST_F(Preemption, TheLimitOfADrainSetsAsideWhatCanBe) {
  world.settings().scheduling.quantum_min = minutes(10);
  world.settings().limits.drain_evict = sec(5);
  world.settings().scheduling.age_cap_interactive = ms(1);
  world.configure();
  const RequestId running = world.stream("a", sec(20));
  b = world.stream("b", sec(1));
  world.run_for(sec(7));
  EXPECT_EQ(world.of(running).preemptions, 1);
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_FALSE(world.of(running).cut);
}

TEST_F(Preemption, WhoIsOnlyLoadedWaitsForAnswers) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(20));
  const JobId job = world.load("b");
  world.run_for(sec(10));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining);
  world.run_for(sec(15));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_TRUE(world.of(job).done);
  EXPECT_EQ(world.state("b"), InstanceState::kReady) << "and it stays";
  EXPECT_EQ(preempted(), 0);
}

TEST_F(Preemption, UntilSomebodyAsksForIt) {
  make_ready("a");
  const RequestId running = world.stream("a", sec(60));
  world.load("b");
  world.run_for(sec(10));
  b = world.request("b", sec(1));
  EXPECT_EQ(preempted(), 1) << "its time was over long ago";
  world.run_for(minutes(2));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
}

// One answer of a minute that must be waited for must not make every later quantum minutes long.
TEST_F(Preemption, ALongDrainIsOnlyInPartACostOfAChange) {
  world.settings().scheduling.quantum_factor = 8;
  world.configure();
  make_ready("a");
  for (int i = 0; i < 5; ++i) {
    world.request("a", minutes(1));
    const RequestId other = world.request("b", sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(other) == RequestFate::kEnded; }));
    ASSERT_TRUE(world.run_until_true([&] { return world.of(other).fate == RequestFate::kEnded; }));
    const RequestId again = world.request("a", sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(again) == RequestFate::kEnded; }));
  }
  world.run_for(sec(1));
  const RequestId running = world.stream("a", minutes(10));
  b = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.of(running).preemptions == 1; }));
  EXPECT_LE(seconds(world.now() - world.of(running).arrived), 60)
      << "of the drain no more than a part counts";
}

// A switch of family makes local answers wait as well.
TEST(PreemptionOfFamilies, ASwitchSetsLocalAnswersAside) {
  World world;
  world.settings().residency.mode = ResidencyMode::kExclusive;
  world.settings().scheduling.quantum_factor = 0;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(4));
  world.add_upstream("ollama", Family::kOllama);
  world.add_remote_model("ollama_x", "ollama");
  world.configure();
  world.load("a");
  world.run_for(sec(3));
  const RequestId running = world.stream("a", sec(30));
  const RequestId other = world.stream("ollama_x", sec(10));
  world.run_for(sec(6));
  EXPECT_EQ(world.of(running).preemptions, 1);
  EXPECT_TRUE(world.granted(other));
  world.run_for(minutes(2));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.of(other).preemptions, 0) << "another server's answers are its own";
  EXPECT_EQ(world.fate(other), RequestFate::kEnded);
}

}  // namespace
}  // namespace lm::core
