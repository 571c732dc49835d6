// Models that compete for one place: batches, quanta, age caps, classes. Each test is one sentence of DESIGN
// §4.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

struct OnePlace : ::testing::Test {
  OnePlace() {
    world.settings().residency.max_loaded = 1;
    world.settings().scheduling.quantum_factor = 1;  // Q is two seconds
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
  // A client that asks again as soon as it is answered, until `end`.
  void loop(const std::string& model, Duration service, TimePoint end,
            PriorityClass priority = PriorityClass::kInteractive) {
    const RequestId r = world.request(model, service, priority);
    all.push_back(r);
    watch(r, [this, model, service, end, priority] {
      if (world.now() < end) loop(model, service, end, priority);
    });
  }
  void watch(RequestId r, std::function<void()> then) {
    world.after(ms(10), [this, r, then = std::move(then)] {
      const RequestFate fate = world.fate(r);
      if (fate == RequestFate::kWaiting || fate == RequestFate::kGranted) return watch(r, then);
      then();
    });
  }
  double wait_of(RequestId r) { return seconds(world.of(r).answered - world.of(r).arrived); }

  World world;
  std::vector<RequestId> all;
};

TEST_F(OnePlace, ModelsAlternateAndEachBatchIsServedWhole) {
  std::vector<RequestId> as, bs;
  for (int i = 0; i < 5; ++i) as.push_back(world.request("a", sec(1)));
  for (int i = 0; i < 5; ++i) bs.push_back(world.request("b", sec(1)));
  world.run_for(minutes(1));
  EXPECT_EQ(world.loads("a"), 1);
  EXPECT_EQ(world.loads("b"), 1);
  std::vector<ModelId> order;
  for (const RequestId r : world.grants()) order.push_back(world.of(r).model);
  EXPECT_EQ(std::ranges::count(order, ModelId("a")), 5);
  EXPECT_EQ(std::ranges::count(order, ModelId("b")), 5);
  order.erase(std::unique(order.begin(), order.end()), order.end());
  EXPECT_EQ(order.size(), 2U) << "one turn each";
}

// Three clients looping on A: llama.cpp's router had not served a single request for B after 73 s.
TEST_F(OnePlace, RegressionABusyModelDoesNotStarveAnother) {
  make_ready("a");
  for (int client = 0; client < 3; ++client) loop("a", sec(0.4), world.now() + minutes(2));
  world.run_for(sec(5));
  const RequestId b = world.request("b", sec(1));
  world.run_for(sec(10));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_LE(wait_of(b), 2.0 + 0.4 + 1.0) << "a quantum, an answer, a change";
  world.run_for(minutes(3));
  for (const RequestId r : all) EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

// What a file took to come from the disk, eight times, is not what the first who asks for another model
// waits.
TEST_F(OnePlace, TheFirstTurnsAreShortAndLaterOnesPayForTheirChanges) {
  world.settings().scheduling.quantum_factor = 8;
  world.settings().scheduling.age_cap_interactive = minutes(10);
  for (const char* m : {"a", "b"}) world.truth(m).load_time = sec(4);
  world.configure();
  make_ready("a");
  for (int client = 0; client < 2; ++client) loop("a", sec(0.4), world.now() + minutes(5));
  world.run_for(sec(5));
  const RequestId first = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.granted(first); }));
  EXPECT_LE(wait_of(first), 2.0 + 0.4 + 4.0 + 1.5) << "quantum_min, an answer, a load";
  // a comes back: now a change's cost is known.
  world.run_for(sec(40));
  ASSERT_EQ(world.state("a"), InstanceState::kReady);
  const RequestId later = world.request("b", sec(1));
  world.run_for(sec(30));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "eight times four seconds";
  world.run_for(sec(30));
  EXPECT_EQ(world.fate(later), RequestFate::kEnded);
}

TEST_F(OnePlace, WithinItsQuantumAModelGoesOnWithItsOwn) {
  make_ready("a");
  world.run_for(sec(10));
  const RequestId running = world.request("a", sec(1));
  const RequestId b = world.request("b", sec(1));
  const RequestId soon = world.request("a", sec(0.5));
  world.run_for(sec(1.2));
  EXPECT_TRUE(world.granted(soon)) << "one second after b came: the gate is open";
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(b), RequestFate::kWaiting);
}

TEST_F(OnePlace, AfterItsQuantumItsGateCloses) {
  make_ready("a");
  world.run_for(sec(10));
  world.request("a", sec(3));
  const RequestId b = world.request("b", sec(1));
  world.run_for(sec(1.9));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.run_for(sec(0.2));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining) << "at the gate's time, without any other event";
  const RequestId late = world.request("a", sec(1));
  world.run_for(sec(10));
  EXPECT_LT(world.of(b).answered, world.of(late).answered);
}

TEST_F(OnePlace, TheGateOfATurnThatBeganWhileOthersWaitedClosesInTime) {
  world.request("a", minutes(1));
  world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kReady; }));
  world.run_for(sec(1.9));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.run_for(sec(0.2));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining) << "its batch is served, its quantum is over";
}

TEST_F(OnePlace, AnIdleModelGivesWayWithoutWaitingForItsQuantum) {
  make_ready("a");
  const RequestId b = world.request("b", sec(1));
  world.run_for(sec(2));
  EXPECT_TRUE(world.granted(b));
  EXPECT_LE(wait_of(b), 1.0);
}

TEST_F(OnePlace, AnOverdueHeadElsewhereEndsTheQuantumButNotTheBatch) {
  world.settings().scheduling.age_cap_interactive = sec(3);
  world.settings().scheduling.quantum_min = minutes(10);
  world.configure();
  std::vector<RequestId> as;
  for (int i = 0; i < 8; ++i) as.push_back(world.request("a", sec(1)));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kReady; }));
  world.run_for(ms(1));
  const RequestId b = world.request("b", sec(1));
  const RequestId late = world.request("a", sec(1));
  world.run_for(minutes(1));
  for (const RequestId r : as) EXPECT_LT(world.of(r).answered, world.of(b).answered) << "the batch is served";
  EXPECT_LT(world.of(b).answered, world.of(late).answered) << "who came after does not overtake the overdue";
}

// DESIGN §4's first trap, in the whole arbiter: with everybody overdue each turn still serves its batch.
TEST_F(OnePlace, RegressionOverdueHeadsDoNotThrash) {
  world.settings().scheduling.age_cap_interactive = ms(1);
  world.configure();
  for (int i = 0; i < 10; ++i) {
    for (const char* m : {"a", "b", "c"}) all.push_back(world.request(m, sec(0.5)));
  }
  world.run_for(minutes(2));
  for (const RequestId r : all) EXPECT_EQ(world.fate(r), RequestFate::kEnded);
  EXPECT_EQ(world.loads(), 3) << "ten answers a change, not one";
}

TEST_F(OnePlace, RegressionTheLivelockOfTwoOverdueModels) {
  world.settings().scheduling.age_cap_interactive = ms(1);
  world.configure();
  const TimePoint end = world.now() + minutes(5);
  for (int client = 0; client < 4; ++client) {
    loop("a", sec(0.5), end);
    loop("b", sec(0.5), end);
  }
  world.run_for(minutes(10));
  EXPECT_GE(all.size(), 200U) << "answers, not changes, fill the time";
  EXPECT_LE(world.loads() * 2, static_cast<int>(all.size())) << "each change is paid by a batch";
}

// FIELD 14: A B A A C A B C.
TEST_F(OnePlace, InterleavedRequestsAreGrouped) {
  for (int round = 0; round < 5; ++round) {
    for (const char* m : {"a", "b", "a", "a", "c", "a", "b", "c"}) all.push_back(world.request(m, sec(0.2)));
  }
  world.run_for(minutes(2));
  for (const RequestId r : all) EXPECT_EQ(world.fate(r), RequestFate::kEnded);
  EXPECT_EQ(world.loads(), 3);
}

TEST_F(OnePlace, TheLongestQueueForItsCostGoesFirst) {
  make_ready("a");
  world.request("a", sec(1));
  const RequestId b = world.request("b", sec(1));
  std::vector<RequestId> cs;
  for (int i = 0; i < 5; ++i) cs.push_back(world.request("c", sec(0.1)));
  world.run_for(sec(20));
  EXPECT_LT(world.of(cs.back()).answered, world.of(b).answered);
}

TEST_F(OnePlace, ButNobodyIsPassedOverBeyondTheAgeCap) {
  world.settings().scheduling.age_cap_interactive = sec(5);
  world.configure();
  make_ready("a");
  const TimePoint end = world.now() + minutes(1);
  for (int client = 0; client < 6; ++client) {
    loop("a", sec(0.5), end);
    loop("c", sec(0.5), end);
  }
  world.run_for(sec(1));
  const RequestId b = world.request("b", sec(0.1));
  world.run_for(minutes(1));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  EXPECT_LE(wait_of(b), 5 + 2 * (3 + 2 + 0.5 + 1)) << "the cap and a turn of each of the others";
}

TEST_F(OnePlace, InteractiveGoesBeforeBatch) {
  make_ready("a");
  world.request("a", sec(1));
  const RequestId batch = world.request("a", sec(1), PriorityClass::kBatch);
  const RequestId interactive = world.request("a", sec(1));
  world.run_for(sec(5));
  EXPECT_LT(world.of(interactive).answered, world.of(batch).answered);
}

TEST_F(OnePlace, AnInteractiveFloodDoesNotStarveTheBatchClass) {
  world.settings().scheduling.age_cap_batch = sec(20);
  world.configure();
  make_ready("a");
  for (int client = 0; client < 3; ++client) loop("a", sec(0.5), world.now() + minutes(2));
  const RequestId batch = world.request("a", sec(0.5), PriorityClass::kBatch);
  world.run_for(sec(19));
  EXPECT_EQ(world.fate(batch), RequestFate::kWaiting);
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(batch)) << "beyond its age cap it takes its turn";
}

TEST_F(OnePlace, ABatchFloodDoesNotStarveInteractive) {
  world.settings().scheduling.age_cap_batch = sec(5);
  world.configure();
  make_ready("a");
  for (int i = 0; i < 100; ++i) all.push_back(world.request("a", sec(0.5), PriorityClass::kBatch));
  world.run_for(sec(20));  // all that wait are overdue by now
  for (int i = 0; i < 5; ++i) {
    const RequestId interactive = world.request("a", sec(0.5));
    world.run_for(sec(2));
    EXPECT_EQ(world.fate(interactive), RequestFate::kEnded);
    EXPECT_LE(wait_of(interactive), 1.01) << "one answer at most goes before it";
  }
}

TEST_F(OnePlace, ABatchFloodOnOneModelDoesNotStarveInteractiveOnAnother) {
  make_ready("a");
  for (int i = 0; i < 200; ++i) all.push_back(world.request("a", sec(0.5), PriorityClass::kBatch));
  world.run_for(sec(5));
  const RequestId b = world.request("b", sec(0.5));
  world.run_for(sec(10));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded) << wait_of(b);
}

TEST_F(OnePlace, ACommittedTurnIsNotOvertaken) {
  make_ready("a");
  world.request("a", sec(10));
  const RequestId b = world.request("b", sec(1));
  world.run_for(sec(3));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining);
  std::vector<RequestId> cs;
  for (int i = 0; i < 20; ++i) cs.push_back(world.request("c", sec(0.1)));
  world.run_for(sec(30));
  EXPECT_LT(world.of(b).answered, world.of(cs.front()).answered) << "its room was on its way";
}

TEST_F(OnePlace, SmallModelsDoNotStarveABigOne) {
  World w;
  w.settings().scheduling.age_cap_interactive = sec(10);
  w.add_device("gpu", gib(10));
  w.add_model("big", gib(9));
  for (const char* m : {"s", "t", "u"}) {
    w.add_model(m, gib(3));
    w.truth(m).load_time = ms(300);
    w.model(m).policy.keep_alive = sec(1);
  }
  w.configure();
  std::function<void(int)> ask = [&](int i) {
    if (w.now() > TimePoint(minutes(3))) return;
    w.request(std::vector<std::string>{"s", "t", "u"}[static_cast<std::size_t>(i % 3)], sec(1));
    w.after(ms(400), [&ask, i] { ask(i + 1); });
  };
  ask(0);
  w.run_for(sec(10));
  const RequestId big = w.request("big", sec(1));
  w.run_for(minutes(1));
  EXPECT_EQ(w.fate(big), RequestFate::kEnded);
}

TEST(ArbiterTurns, BeyondItsAgeCapNobodyTakesTheRoomThatABigOneGathers) {
  for (const bool aged : {false, true}) {
    World world;
    world.settings().scheduling.age_cap_interactive = sec(5);
    world.add_device("gpu", gib(10));
    world.add_model("big", gib(9));
    world.add_model("s", gib(3));
    world.add_model("t", gib(3));
    world.truth("s").slots = 1;
    world.configure();
    world.request("s", sec(30));
    world.request("s", sec(30));  // its batch: it is served before s goes
    world.run_for(sec(3));
    const RequestId big = world.request("big", sec(1));
    world.run_for(aged ? sec(6) : sec(1));
    const RequestId t = world.request("t", sec(1));
    world.run_for(sec(3));
    EXPECT_EQ(world.loads("t"), aged ? 0 : 1) << "there is room for it beside s";
    world.run_for(minutes(2));
    EXPECT_EQ(world.fate(big), RequestFate::kEnded);
    EXPECT_EQ(world.fate(t), RequestFate::kEnded);
    EXPECT_EQ(world.of(big).answered < world.of(t).answered, aged);
  }
}

// The two rules that ours is compared with.
TEST_F(OnePlace, StrictArrivalOrderChangesAsOftenAsItTakes) {
  world.settings().scheduling.policy = SchedulingPolicy::kFifo;
  world.configure();
  for (int i = 0; i < 10; ++i) {
    all.push_back(world.request(i % 2 == 0 ? "a" : "b", sec(0.2)));
    world.run_for(ms(1));
  }
  world.run_for(minutes(1));
  EXPECT_EQ(world.grants(), all);
  EXPECT_EQ(world.loads(), 10);
}

TEST_F(OnePlace, ServingToExhaustionStarves) {
  world.settings().scheduling.policy = SchedulingPolicy::kExhaustive;
  world.configure();
  make_ready("a");
  const TimePoint end = world.now() + minutes(2);
  for (int client = 0; client < 3; ++client) loop("a", sec(0.4), end);
  world.run_for(sec(5));
  const RequestId b = world.request("b", sec(1));
  world.run_for(sec(110));
  EXPECT_EQ(world.fate(b), RequestFate::kWaiting) << "as under llama.cpp's router";
  world.run_for(sec(20));
  EXPECT_EQ(world.fate(b), RequestFate::kEnded);
}

TEST_F(OnePlace, TheGaugeTellsThatMoreAreWantedThanFit) {
  EXPECT_EQ(world.snapshot().demand.wanted, 0);
  make_ready("a");
  const TimePoint end = world.now() + minutes(20);
  for (const char* m : {"a", "b", "c"}) loop(m, sec(0.5), end);
  world.run_for(minutes(20));
  const DemandView demand = world.snapshot().demand;
  EXPECT_GT(demand.wanted, 1.5);
  EXPECT_EQ(demand.fit, 1);
  EXPECT_EQ(demand.rows.size(), 3U);
  EXPECT_NE(demand.advice.find("residency.max_loaded: 2 would let"), std::string::npos) << demand.advice;
  world.run_for(std::chrono::hours(3));
  EXPECT_LT(world.snapshot().demand.wanted, 0.01) << "nobody has asked for hours";
}

// G3: no swap without a request of the new model started or cancelled.
TEST_F(OnePlace, EverySwapServesSomebody) {
  const TimePoint end = world.now() + minutes(3);
  for (const char* m : {"a", "b", "c"}) {
    loop(m, sec(0.7), end);
    loop(m, sec(0.3), end);
  }
  world.run_for(minutes(5));
  std::map<InstanceId, int> served;
  for (const RequestId r : world.grants()) ++served[world.of(r).instance];
  for (const PublishState& p : world.told<PublishState>()) {
    if (p.state == InstanceState::kReady) {
      EXPECT_GE(served[p.instance], 1);
    }
  }
  EXPECT_GE(world.loads(), 6);
}

}  // namespace
}  // namespace lm::core
