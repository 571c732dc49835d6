// Room for one means that another goes: who, when, and what happens to those who still want it.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

// Two models of which one fits at a time.
struct TwoForOne : ::testing::Test {
  TwoForOne() {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(7));
    world.add_model("b", gib(7));
    world.configure();
  }
  void make_ready(const std::string& model) {
    world.load(model);
    ASSERT_TRUE(world.run_until_true([&] { return world.state(model) == InstanceState::kReady; }));
  }
  World world;
};

TEST_F(TwoForOne, AnIdleOneGivesWayAtOnce) {
  make_ready("a");
  world.load("b");
  world.run_for(ms(20));
  EXPECT_NE(world.state("a"), InstanceState::kReady);
  world.run_for(sec(3));
  EXPECT_EQ(world.state("b"), InstanceState::kReady);
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_TRUE(world.decided(DecisionKind::kEvict, "a"));
  EXPECT_EQ(world.published("a").back().cause, EndCause::kEvicted);
}

TEST_F(TwoForOne, RoomIsProvedFreeBeforeItIsPromised) {
  world.truth("a").release_delay = sec(2);
  make_ready("a");
  const TimePoint asked = world.now();
  world.load("b");
  ASSERT_TRUE(world.run_until_true([&] { return world.loads("b") == 1; }));
  EXPECT_GE(world.now(), asked + sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  world.run_for(sec(3));
  EXPECT_EQ(world.out_of_memory(), 0);
}

// FIELD 3: a request for B must not kill A's running answer.
TEST_F(TwoForOne, AVictimDrainsBeforeItGoes) {
  make_ready("a");
  const RequestId running = world.request("a", sec(20));
  const RequestId other = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(other) == RequestFate::kEnded; }));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_FALSE(world.of(running).cut);
  EXPECT_GE(world.of(other).answered, world.of(running).arrived + sec(20));
}

// Ollama #17408: generation dead for 5.5 h, because a victim was revived while the loader waited for its end.
TEST_F(TwoForOne, RegressionAVictimRefusesNewLeasesAndIsNeverRevived) {
  make_ready("a");
  const RequestId running = world.request("a", minutes(1));
  const RequestId other = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  const InstanceId victim = world.view("a").instance->id;
  const RequestId late = world.request("a", sec(1));
  EXPECT_EQ(world.fate(late), RequestFate::kWaiting) << "although a slot is free";
  EXPECT_EQ(world.view("a").instance->id, victim);
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(late) == RequestFate::kEnded; }));
  EXPECT_NE(world.of(late).instance, victim);
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(other), RequestFate::kEnded);
  EXPECT_LT(world.of(other).answered, world.of(late).answered) << "the loader was not overtaken";
}

// llama-swap #946: a request that comes while its model stops.
TEST_F(TwoForOne, RegressionARequestDuringTheStopGetsTheNextLife) {
  for (const InstanceState when : {InstanceState::kStopping, InstanceState::kReclaiming}) {
    make_ready("a");
    world.unload("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == when; }));
    const RequestId r = world.request("a", sec(1));
    EXPECT_EQ(world.fate(r), RequestFate::kWaiting);
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  }
}

TEST_F(TwoForOne, ADrainHasADeadline) {
  make_ready("a");
  const RequestId endless = world.request("a");
  const RequestId other = world.request("b", sec(1));
  world.run_for(minutes(9));
  EXPECT_EQ(world.fate(other), RequestFate::kWaiting);
  EXPECT_EQ(world.state("a"), InstanceState::kDraining);
  world.cancel(other);
  const RequestId patient = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(patient) == RequestFate::kEnded; }));
  EXPECT_TRUE(world.of(endless).cut);
  EXPECT_EQ(world.told<CutRequests>().front().error.reason, "model_unloaded");
}

TEST_F(TwoForOne, NobodySwapsForWhoeverHasLeft) {
  make_ready("a");
  const RequestId running = world.request("a", sec(1));
  const RequestId other = world.request("b");
  world.cancel(other);
  world.run_for(sec(30));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "still loaded: nobody wants its room";
  EXPECT_EQ(world.loads("b"), 0);
}

// Found by reading: three models and one place, the third was refused for want of memory because the second's
// claim was counted against it.
TEST_F(TwoForOne, RegressionWhoeverIsBehindOthersInTheQueueWaits) {
  world.add_model("c", gib(7));
  world.configure();
  const RequestId a = world.request("a", sec(1));
  const RequestId b = world.request("b", sec(1));
  const RequestId c = world.request("c", sec(1));
  world.run_for(minutes(1));
  for (const RequestId r : {a, b, c}) EXPECT_EQ(world.fate(r), RequestFate::kEnded) << world.reason(r);
}

// llama.cpp #28443: of two loads that are wanted at the same moment, where one fits, one waited for ever.
TEST(ArbiterEvict, RegressionOfTwoLoadsAtOnceNeitherWaitsForEver) {
  for (const bool busy : {false, true}) {
    World world;
    world.add_device("gpu", gib(10));
    for (const char* m : {"a", "b", "c"}) world.add_model(m, gib(7));
    world.configure();
    if (busy) {
      world.request("c", sec(20));
      world.run_for(sec(3));
    }
    const JobId job = world.load("a");
    const RequestId a = world.request("a", sec(1));
    const JobId other = world.load("b");
    const RequestId b = world.request("b", sec(1));
    world.run_for(sec(90));
    for (const RequestId r : {a, b}) EXPECT_EQ(world.fate(r), RequestFate::kEnded) << world.reason(r);
    for (const JobId j : {job, other}) EXPECT_TRUE(world.of(j).done && !world.of(j).error);
  }
}

TEST(ArbiterEvict, TakesTheLongestIdleFirst) {
  World world;
  world.add_device("gpu", gib(10));
  for (const char* m : {"a", "b", "c", "d"}) world.add_model(m, gib(3));
  world.configure();
  for (const char* m : {"b", "a", "c"}) {
    world.request(m, sec(1));
    world.run_for(sec(10));
  }
  world.request("d", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.state("b"), InstanceState::kAbsent);
  for (const char* m : {"a", "c", "d"}) EXPECT_EQ(world.state(m), InstanceState::kReady) << m;
}

TEST(ArbiterEvict, MakesJustEnoughRoom) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("small", gib(2));
  world.add_model("big", gib(6));
  world.add_model("c", gib(7));
  world.add_model("d", gib(4));
  world.configure();
  world.load("small");
  world.load("big");
  world.run_for(sec(3));
  world.load("d");
  world.run_for(sec(3));
  EXPECT_EQ(world.state("small"), InstanceState::kReady) << "its two would not have been enough, nor needed";
  EXPECT_EQ(world.state("big"), InstanceState::kAbsent);
}

// Asked for each second until a while ago, against once, a moment ago.
TEST(ArbiterEvict, WhoIsAskedForOftenStays) {
  World world;
  world.add_device("gpu", gib(10));
  for (const char* m : {"often", "once", "new"}) world.add_model(m, gib(5));
  world.configure();
  for (int i = 0; i < 600; ++i) {
    world.request("often", ms(10));
    world.run_for(sec(1));
  }
  world.request("once", ms(10));
  world.run_for(sec(5));
  world.request("new", ms(10));
  world.run_for(sec(5));
  EXPECT_EQ(world.state("often"), InstanceState::kReady);
  EXPECT_EQ(world.state("once"), InstanceState::kAbsent);
}

TEST(ArbiterEvict, WhatLoadsFastGoesFirst) {
  World world;
  world.add_device("gpu", gib(10));
  for (const char* m : {"slow", "fast", "new"}) world.add_model(m, gib(5));
  world.truth("slow").load_time = sec(60);
  world.configure();
  for (const char* m : {"slow", "fast"}) {
    world.load(m);
    world.run_for(sec(70));
  }
  world.request("new", ms(10));
  world.run_for(sec(5));
  EXPECT_EQ(world.state("slow"), InstanceState::kReady) << "idle for longer, and dear to load";
  EXPECT_EQ(world.state("fast"), InstanceState::kAbsent);
}

TEST(ArbiterEvict, NobodyGoesForALoadThatCannotFit) {
  World world;
  world.add_device("gpu", gib(10));
  for (const char* m : {"a", "b"}) world.add_model(m, gib(5));
  world.add_model("monster", gib(11));
  world.configure();
  for (const char* m : {"a", "b"}) world.load(m);
  world.run_for(sec(5));
  const RequestId r = world.request("monster", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  for (const char* m : {"a", "b"}) EXPECT_EQ(world.state(m), InstanceState::kReady) << m;
}

TEST(ArbiterEvict, TwoGoForABigOne) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(4));
  world.add_model("b", gib(4));
  world.add_model("big", gib(9));
  world.configure();
  world.load("a");
  world.load("b");
  world.run_for(sec(3));
  const RequestId r = world.request("big", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST(ArbiterEvict, APinnedOneStaysAndTheRefusalHasNumbers) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(7)).policy.pinned = true;
  world.add_model("b", gib(7));
  world.configure();
  world.run_for(sec(3));
  const RequestId r = world.request("b");
  world.run_for(sec(1));
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  EXPECT_EQ(world.of(r).error->code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(world.of(r).error->number("needed"), gib(7).count());
  EXPECT_EQ(world.of(r).error->number("free"), gib(3).count());
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_EQ(world.loads("b"), 0);
  world.pin("a", false);
  const RequestId again = world.request("b", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(again), RequestFate::kEnded) << "memory was not there then, it is now";
}

TEST(ArbiterEvict, ForceTriesWhatIsPredictedNotToFitAndMakesAllTheRoomItCan) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(3));
  world.add_model("b", gib(8));
  world.truth("b").predict = DeviceBytes{{DeviceId("gpu"), gib(12)}};
  world.configure();
  world.load("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.of(world.load("b")).done, false);
  world.run_for(sec(1));
  EXPECT_EQ(world.loads("b"), 0);
  const JobId forced = world.load("b", true);
  world.run_for(sec(5));
  EXPECT_TRUE(world.of(forced).done);
  EXPECT_FALSE(world.of(forced).error);
  EXPECT_EQ(world.state("b"), InstanceState::kReady);
  EXPECT_EQ(world.view("b").instance->reserved.total(), gib(8));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST(ArbiterEvict, ForceDoesNotEvictThePinnedNorBreakMaxLoaded) {
  World world;
  world.settings().residency.max_loaded = 1;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(3)).policy.pinned = true;
  world.add_model("b", gib(3));
  world.configure();
  world.run_for(sec(3));
  const JobId forced = world.load("b", true);
  world.run_for(sec(3));
  EXPECT_EQ(world.of(forced).error->reason, "all_pinned");
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST(ArbiterEvict, EmbeddingsTakeNoPlace) {
  World world;
  world.settings().residency.max_loaded = 1;
  world.add_device("gpu", gib(10));
  world.add_model("chat", gib(4));
  world.add_model("embed", gib(1)).kind = ModelKind::kEmbedding;
  world.add_model("rank", gib(1)).kind = ModelKind::kRerank;
  world.configure();
  for (const char* m : {"chat", "embed", "rank"}) world.load(m);
  world.run_for(sec(3));
  for (const char* m : {"chat", "embed", "rank"}) EXPECT_EQ(world.state(m), InstanceState::kReady) << m;
}

TEST(ArbiterEvict, OthersMemoryIsNotPromised) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(7));
  world.configure();
  world.set_external("gpu", gib(5));
  world.measure();
  EXPECT_EQ(world.device_view("gpu").external, gib(5));
  const RequestId r = world.request("a");
  world.run_for(sec(1));
  EXPECT_EQ(world.of(r).error->number("free"), gib(5).count());
  world.set_external("gpu", gib(1));
  world.measure();
  const RequestId again = world.request("a", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(again), RequestFate::kEnded);
}

// Memory of a worker that is gone but not yet given back is ours until its release is measured: counted twice
// it made the next load look impossible.
TEST(ArbiterEvict, RegressionWhatComesBackIsNotAStrangers) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(8));
  world.add_model("b", gib(8));
  world.truth("a").release_delay = sec(1);
  world.configure();
  world.load("a");
  world.run_for(sec(3));
  const RequestId r = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kReclaiming; }));
  world.measure();
  EXPECT_EQ(world.device_view("gpu").external, Bytes());
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded) << world.reason(r);
}

// A host of 10 GiB whose kept conversations take three of them.
struct KeptConversations : ::testing::Test {
  KeptConversations() {
    world.add_device(host_device().str(), gib(10));
    world.add_model("a", {{host_device(), gib(4)}});
    world.add_model("b", {{host_device(), gib(5)}});
    world.configure();
    world.keep_states(gib(3));
    world.measure();
  }
  bool served(RequestId r) {
    return world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; });
  }
  World world;
};

TEST_F(KeptConversations, AreChargedOnce) {
  EXPECT_EQ(world.device_view(host_device().str()).external, Bytes()) << "they are no stranger's";
  world.keep_states(gib(7));
  world.truth("a").predict_time = ms(1);
  world.drops_states() = false;
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(1));
  EXPECT_EQ(world.loads("a"), 0) << "3 GiB are left, measured or not";
  world.keep_states(gib(6));
  ASSERT_TRUE(served(r));
  EXPECT_EQ(world.out_of_memory(), 0);
}

TEST_F(KeptConversations, GoBeforeAModelDoesAndNoMoreOfThemThanIsNeeded) {
  ASSERT_TRUE(served(world.request("a", sec(0.1))));
  ASSERT_TRUE(served(world.request("b", sec(0.1))));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "both fit beside one GiB of them";
  EXPECT_EQ(world.states(), gib(1));
  ASSERT_EQ(world.told<DropStates>().size(), 1U);
  EXPECT_EQ(world.told<DropStates>()[0].spare, ModelId("b"));
  EXPECT_TRUE(world.decided(DecisionKind::kEvict, "b"));
  EXPECT_EQ(world.out_of_memory(), 0);
}

TEST_F(KeptConversations, TogetherWithAModelTheyMakeRoom) {
  world.add_model("large", {{host_device(), gib(10)}});
  world.configure();
  ASSERT_TRUE(served(world.request("a", sec(0.1))));
  ASSERT_TRUE(served(world.request("large", sec(0.1))));
  EXPECT_EQ(world.states(), Bytes());
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.out_of_memory(), 0);
}

TEST_F(KeptConversations, StayWhereTheLoadCannotFit) {
  world.add_model("monster", {{host_device(), gib(11)}});
  world.configure();
  const RequestId r = world.request("monster", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  EXPECT_EQ(world.states(), gib(3));
}

TEST_F(KeptConversations, StayWhileTheModelsThatHaveToGoAreBusy) {
  world.add_model("large", {{host_device(), gib(9)}});
  world.configure();
  const RequestId running = world.request("a", sec(20));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(running) == RequestFate::kGranted; }));
  const RequestId r = world.request("large", sec(1));
  world.run_for(ms(500));
  EXPECT_EQ(world.states(), gib(3));
  ASSERT_TRUE(served(r));
  EXPECT_EQ(world.out_of_memory(), 0);
}

// An owner that does not answer is not waited for without end: then a model goes.
TEST_F(KeptConversations, ThatAreNotGivenBackAreNotWaitedForWithoutEnd) {
  world.drops_states() = false;
  ASSERT_TRUE(served(world.request("a", sec(0.1))));
  const RequestId r = world.request("b", sec(0.1));
  ASSERT_TRUE(served(r));
  EXPECT_LE(world.of(r).answered - world.of(r).arrived, sec(15));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.told<DropStates>().size(), 1U);
  EXPECT_EQ(world.out_of_memory(), 0);
}

}  // namespace
}  // namespace lm::core
