// What the arbiter tells of waits, and whom it refuses for them.
#include <random>

#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;
using enum InstanceState;

// Two models of which one fits, two slots each, loaded in a second.
struct Waits : ::testing::Test {
  explicit Waits(Settings settings = World::plain()) : world(settings) {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(7));
    world.add_model("b", gib(7));
    world.configure();
  }
  // Both were loaded and have answered: nothing is a guess any more.
  void learn(double answer = 2) {
    for (const char* name : {"a", "b", "a"}) {
      const RequestId r = world.request(name, sec(answer));
      ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
    }
  }
  // b's last load took long; a has the device again, and b's next load takes `then`.
  void learn_that_b_is_slow(Duration then) {
    learn();
    world.truth("b").load_time = sec(200);
    const RequestId slow = world.request("b", sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(slow) == RequestFate::kEnded; }));
    world.truth("b").load_time = then;
    const RequestId back = world.request("a", sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(back) == RequestFate::kEnded; }));
  }
  std::optional<ExpectedWait> told(RequestId id) const {
    for (const TellWait& t : world.told<TellWait>()) {
      if (t.request == id) return t.wait;
    }
    return std::nullopt;
  }
  double waited(RequestId id) const { return seconds(world.of(id).answered - world.of(id).arrived); }
  World world;
};

TEST_F(Waits, WhoIsServedAtOnceIsToldNothing) {
  learn();
  const RequestId r = world.request("a", sec(1));
  EXPECT_TRUE(world.granted(r));
  EXPECT_FALSE(told(r));
}

TEST_F(Waits, ALoadIsToldAndTakesThatLong) {
  learn();
  const RequestId r = world.request("b", sec(1));
  ASSERT_TRUE(told(r));
  EXPECT_EQ(told(r)->position, 1);
  ASSERT_TRUE(world.run_until_true([&] { return world.granted(r); }));
  EXPECT_NEAR(seconds(told(r)->wait), waited(r), 0.2) << "a is idle, and b loads in a second";
}

TEST_F(Waits, AFullModelIsToldByPosition) {
  learn();
  std::vector<RequestId> all;
  for (int i = 0; i < 5; ++i) all.push_back(world.request("a", sec(2)));
  EXPECT_FALSE(told(all[0]));
  EXPECT_FALSE(told(all[1]));
  for (int i = 2; i < 5; ++i) {
    ASSERT_TRUE(told(all[static_cast<std::size_t>(i)]));
    EXPECT_EQ(told(all[static_cast<std::size_t>(i)])->position, i - 1);
    EXPECT_EQ(told(all[static_cast<std::size_t>(i)])->holder, ModelId("a"));
    EXPECT_NEAR(seconds(told(all[static_cast<std::size_t>(i)])->wait), i - 1, 0.1);
  }
}

TEST_F(Waits, BatchStandsBehindInteractive) {
  learn();
  for (int i = 0; i < 3; ++i) world.request("a", sec(2));
  world.request("a", sec(2), PriorityClass::kBatch);
  const RequestId interactive = world.request("a", sec(2));
  EXPECT_EQ(told(interactive)->position, 2);
  const RequestId batch = world.request("a", sec(2), PriorityClass::kBatch);
  EXPECT_EQ(told(batch)->position, 4);
}

TEST_F(Waits, TheHolderOfTheDeviceIsTold) {
  learn();
  world.request("a");
  world.request("a");
  const RequestId r = world.request("b", sec(1));
  ASSERT_TRUE(told(r));
  EXPECT_EQ(told(r)->holder, ModelId("a"));
  EXPECT_GT(told(r)->held_for, sec(2)) << "its quantum at least";
  EXPECT_GT(told(r)->wait, told(r)->held_for);
}

TEST_F(Waits, TheWaitThatIsLeftShrinks) {
  learn();
  world.request("a", sec(60));
  const RequestId r = world.request("b", sec(1));
  // What an answer may still take is not known by how long it runs: while a quantum passes, time does.
  const auto first = world.expected_wait(r);
  ASSERT_TRUE(first);
  world.run_for(sec(2));
  const auto then = world.expected_wait(r);
  ASSERT_TRUE(then);
  EXPECT_LE(then->wait, first->wait);
  EXPECT_FALSE(world.expected_wait(RequestId(4711))) << "nobody that waits";
}

TEST_F(Waits, ListsSayWhatANewcomerWouldWait) {
  learn();
  EXPECT_FALSE(world.view("a").instance->expected) << "nobody waits";
  for (int i = 0; i < 4; ++i) world.request("a", sec(2));
  const auto view = world.view("a");
  ASSERT_TRUE(view.instance->expected);
  EXPECT_EQ(view.instance->expected->position, 3);
  EXPECT_NEAR(seconds(view.instance->expected->wait), 3, 0.2);
}

TEST_F(Waits, WhoCannotBeServedInTimeIsRefusedAtOnce) {
  learn();
  world.request("a");
  const RequestId r = world.request("b", sec(1), PriorityClass::kInteractive, ms(1500));
  ASSERT_TRUE(world.rejected(r));
  EXPECT_EQ(waited(r), 0) << "at once";
  const Error& error = *world.of(r).error;
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_EQ(error.reason, "deadline_too_near");
  EXPECT_NE(error.message.find("a has the device until"), std::string::npos) << error.message;
  EXPECT_EQ(error.number("position"), 1);
  EXPECT_EQ(error.number("allowed_ms"), 1500);
  EXPECT_GT(error.number("expected_wait_ms"), 1500);
  ASSERT_TRUE(error.retry_after);
  EXPECT_GE(*error.retry_after, sec(1));
  EXPECT_EQ(world.state("a"), kReady) << "nothing is taken from anybody for it";
  EXPECT_EQ(world.state("b"), kAbsent);
}

TEST_F(Waits, WhoCanBeIsNot) {
  learn();
  const RequestId quick = world.request("b", sec(1), PriorityClass::kInteractive, ms(1500));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(quick) == RequestFate::kEnded; }));
  for (int i = 0; i < 3; ++i) world.request("b", sec(2));
  const RequestId behind = world.request("b", sec(2), PriorityClass::kInteractive, ms(2000));
  EXPECT_FALSE(world.rejected(behind)) << "a second and a half is foreseen: its answers took two and one";
  const RequestId last = world.request("b", sec(2), PriorityClass::kInteractive, ms(2000));
  EXPECT_TRUE(world.rejected(last));
  EXPECT_NE(world.of(last).error->message.find("answers others"), std::string::npos);
}

// A daemon that has seen nothing yet foresees nothing.
TEST_F(Waits, NobodyIsRefusedForAGuess) {
  const RequestId first = world.request("a", {}, PriorityClass::kInteractive, ms(10));
  EXPECT_FALSE(world.rejected(first)) << "how long it loads is not known";
  world.run_for(ms(20));
  EXPECT_EQ(world.reason(first), "wait_expired");
  const RequestId held = world.request("a");
  ASSERT_TRUE(world.run_until_true([&] { return world.granted(held); }));
  world.request("a");
  const RequestId behind = world.request("a", {}, PriorityClass::kInteractive, ms(10));
  EXPECT_FALSE(world.rejected(behind)) << "how long it answers is not known";
  const RequestId other = world.request("b", {}, PriorityClass::kInteractive, ms(10));
  EXPECT_FALSE(world.rejected(other)) << "nor that a will be asked for until its quantum ends";
}

// What nobody has loaded yet may load fast, but not in no time.
TEST_F(Waits, AMillisecondIsTooLittleForAnyLoad) {
  EXPECT_EQ(world.reason(world.request("a", sec(1), PriorityClass::kInteractive, ms(1))),
            "deadline_too_near");
  EXPECT_EQ(world.loads(), 0) << "nothing is loaded for it";
  EXPECT_FALSE(world.rejected(world.request("a", sec(1), PriorityClass::kInteractive, ms(10))));
}

TEST_F(Waits, TheLimitOfItsClassIsADeadline) {
  learn();
  world.settings().scheduling.wait_interactive = sec(2);
  world.configure();
  world.request("a");
  EXPECT_EQ(world.reason(world.request("b")), "deadline_too_near");
  EXPECT_FALSE(world.rejected(world.request("b", {}, PriorityClass::kBatch))) << "an hour";
}

TEST_F(Waits, AFullQueueSaysHowLongItIs) {
  world.settings().scheduling.queue_per_model = 2;
  world.configure();
  learn();
  for (int i = 0; i < 4; ++i) world.request("a", sec(2));
  const RequestId r = world.request("a", sec(2));
  ASSERT_EQ(world.reason(r), "queue_full");
  EXPECT_EQ(world.of(r).error->number("position"), 3);
  EXPECT_EQ(world.of(r).error->number("expected_wait_ms"), 3000);
}

TEST_F(Waits, AFullDaemonServesWhomItCanServeAtOnce) {
  world.settings().scheduling.queue_total = 1;
  world.configure();
  learn();
  world.request("a");
  world.request("a");
  world.request("a");
  EXPECT_EQ(world.reason(world.request("a")), "queue_full");
  EXPECT_EQ(world.reason(world.request("b")), "queue_full");
}

// Where memory is others', nobody can foresee anything, and nobody is refused for a wait.
TEST_F(Waits, StrangersMemoryIsNotForeseen) {
  learn();
  world.unload("a");
  world.run_for(sec(5));
  world.set_external("gpu", gib(9));
  world.measure();
  const RequestId r = world.request("a", sec(1), PriorityClass::kInteractive, sec(1));
  EXPECT_NE(world.reason(r), "deadline_too_near");
}

// Its key's weight counts in the turn's order, as its model's does.
TEST_F(Waits, AWeightOfItsOwnMovesItsModel) {
  world.add_model("c", gib(7));
  world.configure();
  for (const char* name : {"b", "c"}) {
    const RequestId r = world.request(name, sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  }
  learn();
  for (const bool heavy : {false, true}) {
    const RequestId running = world.request("a", sec(3));
    ASSERT_TRUE(world.run_until_true([&] { return world.granted(running); }));
    const RequestId b = world.request("b", sec(1));
    world.run_for(ms(500));
    const RequestId c = world.request("c", sec(1), PriorityClass::kInteractive, {}, false, heavy ? 10 : 1);
    ASSERT_TRUE(world.run_until_true(
        [&] { return world.fate(b) == RequestFate::kEnded && world.fate(c) == RequestFate::kEnded; }));
    EXPECT_EQ(world.of(c).answered < world.of(b).answered, heavy);
  }
}

TEST_F(Waits, APreemptedAnswersLengthIsAllOfIt) {
  world.settings().scheduling.quantum_min = sec(1);
  world.settings().scheduling.quantum_factor = 0;
  world.settings().scheduling.drain = ms(100);
  world.configure();
  const RequestId r = world.stream("a", sec(12));
  ASSERT_TRUE(world.run_until_true([&] { return world.granted(r); }));
  const RequestId other = world.request("b", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  EXPECT_GT(world.of(r).preemptions, 0);
  ASSERT_EQ(world.fate(other), RequestFate::kEnded);
  // Two behind it on two slots: twelve seconds each.
  world.request("a");
  world.request("a");
  const RequestId behind = world.request("a");
  ASSERT_TRUE(told(behind));
  EXPECT_NEAR(seconds(told(behind)->wait), 6, 0.5);
}

// ---- on several cards

struct WaitsOnCards : ::testing::Test {
  WaitsOnCards() {
    for (const char* id : {"cuda0", "cuda1"}) world.add_device(id, gib(8));
    for (const char* id : {"a", "b", "x"}) world.add_model(id, DeviceBytes{{DeviceId("cuda0"), gib(6)}});
    world.configure();
  }
  void put(const std::string& id, const std::string& device) {
    world.model(id).placement.devices = {DeviceId(device)};
    world.configure();
    answer(id);
  }
  void answer(const std::string& id) {
    const RequestId r = world.request(id, sec(2));
    ASSERT_TRUE(world.run_until_true([&] { return world.fate(r) == RequestFate::kEnded; }));
  }
  void leave(const std::string& id) {
    const JobId job = world.unload(id);
    ASSERT_TRUE(world.run_until_true([&] { return world.of(job).done; }));
  }
  ExpectedWait told(RequestId id) const {
    for (const TellWait& t : world.told<TellWait>()) {
      if (t.request == id) return t.wait;
    }
    ADD_FAILURE() << "nothing was told";
    return {};
  }
  World world;
};

// Where it was last time says nothing of where it goes now.
TEST_F(WaitsOnCards, NobodyIsRefusedForACardThatItDoesNotNeed) {
  answer("x");
  leave("x");
  put("a", "cuda0");
  world.request("a", sec(600));
  const RequestId r = world.request("x", sec(1), PriorityClass::kInteractive, sec(3));
  ASSERT_FALSE(world.rejected(r)) << world.of(r).error->message;
  EXPECT_NEAR(seconds(told(r).wait), 1, 0.2) << "the other card is free";
  EXPECT_TRUE(told(r).holder.empty()) << told(r).holder.str();
  world.run_for(sec(2));
  EXPECT_TRUE(world.granted(r));
}

TEST_F(WaitsOnCards, TheIdleOnesCardIsForeseenAndNotTheBusyOnes) {
  answer("x");
  leave("x");
  put("a", "cuda0");
  put("b", "cuda1");
  world.request("a", sec(600));
  const RequestId r = world.request("x", sec(1), PriorityClass::kInteractive, sec(3));
  ASSERT_FALSE(world.rejected(r)) << world.of(r).error->message;
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(r));
}

TEST_F(WaitsOnCards, WhoWouldHaveToWaitForEitherCardIsRefused) {
  answer("x");
  leave("x");
  put("a", "cuda0");
  put("b", "cuda1");
  for (const char* id : {"a", "b"}) world.request(id, sec(600));
  const RequestId r = world.request("x", sec(1), PriorityClass::kInteractive, sec(2));
  EXPECT_EQ(world.reason(r), "deadline_too_near");
}

// Who leaves a card that the load does not want keeps it from nothing.
TEST_F(WaitsOnCards, AnEndElsewhereIsNotWaitedFor) {
  answer("x");
  leave("x");
  put("a", "cuda0");
  put("b", "cuda1");
  for (int i = 0; i < 2; ++i) world.request("a", sec(600));
  world.unload("a");
  world.unload("b");
  ASSERT_EQ(world.state("a"), InstanceState::kDraining);
  ASSERT_NE(world.state("b"), InstanceState::kDraining);
  const RequestId r = world.request("x", sec(1), PriorityClass::kInteractive, sec(3));
  ASSERT_FALSE(world.rejected(r)) << world.of(r).error->message;
  EXPECT_LT(told(r).wait, sec(2)) << "a answers on, on the other card";
  EXPECT_TRUE(told(r).holder.empty()) << told(r).holder.str();
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(r));
}

// ---- what is foreseen may be wrong

// One that expires at this very moment has no place in the queue any more.
TEST_F(Waits, WhoseTimeIsOverTakesNobodysPlace) {
  world.settings().scheduling.queue_per_model = 1;
  world.configure();
  world.add_model("slow", gib(7));
  world.configure();
  world.truth("slow").load_time = sec(60);
  const RequestId first = world.request("slow", {}, PriorityClass::kInteractive, sec(5));
  std::optional<RequestId> second;
  world.after(sec(5), [&] { second = world.request("slow"); });
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(first), "wait_expired");
  ASSERT_TRUE(second);
  EXPECT_FALSE(world.rejected(*second)) << world.reason(*second);
}

// A load that was slow once, for a reason that is gone: only one that is let in can find out.
TEST_F(Waits, AnEstimateThatWentWrongDoesNotRefuseForEver) {
  learn_that_b_is_slow(sec(1));
  int refused = 0, served = 0;
  std::optional<double> first_served;
  const TimePoint from = world.now();
  for (int i = 0; i < 60; ++i) {
    const RequestId r = world.request("b", sec(1), PriorityClass::kInteractive, sec(10));
    world.run_for(sec(15));
    if (world.granted(r)) {
      ++served;
      if (!first_served) first_served = seconds(world.of(r).answered - from);
    } else {
      EXPECT_EQ(world.reason(r), "deadline_too_near");
      ++refused;
    }
  }
  ASSERT_TRUE(first_served) << "all were refused";
  EXPECT_LT(*first_served, 6 * 60);
  EXPECT_GT(refused, 5) << "it is believed at first";
  EXPECT_EQ(served + refused, 60);
  EXPECT_GT(served, 30) << "and once it was found out nobody is refused any more";
}

// Where it stays slow, hardly anybody waits in vain and nothing is taken from anybody for it.
TEST_F(Waits, AnEstimateThatIsRightGoesOnRefusing) {
  learn_that_b_is_slow(sec(200));
  int let_in = 0;
  for (int i = 0; i < 240; ++i) {
    const RequestId r = world.request("b", sec(1), PriorityClass::kInteractive, sec(10));
    if (!world.rejected(r)) ++let_in;
    world.run_for(sec(5));
  }
  EXPECT_GT(let_in, 0) << "it is asked again whether it is true";
  EXPECT_LE(let_in, 5) << "in twenty minutes";
}

TEST_F(Waits, OneAtATimeIsLetInToFindOut) {
  learn_that_b_is_slow(sec(200));
  ASSERT_TRUE(world.rejected(world.request("b", sec(1), PriorityClass::kInteractive, sec(10))));
  world.run_for(minutes(10));
  EXPECT_FALSE(world.rejected(world.request("b", sec(1), PriorityClass::kInteractive, sec(10))));
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(world.rejected(world.request("b", sec(1), PriorityClass::kInteractive, sec(10))));
}

// Whatever holds, nobody with time enough is refused who would have been served at once, and everybody who
// waits can be asked about.
TEST(RandomWaits, AreToldOfEverybodyWhoWaits) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    std::mt19937_64 random(seed);
    const auto some = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
    World world;
    world.add_device("gpu", gib(16));
    const int models = 2 + some(4);
    for (int m = 0; m < models; ++m) {
      const std::string name(1, static_cast<char>('a' + m));
      world.add_model(name, gib(2 + some(12)));
      world.truth(name).slots = 1 + some(3);
    }
    world.configure();
    std::vector<RequestId> all;
    for (int i = 0; i < 150; ++i) {
      const std::string name(1, static_cast<char>('a' + some(models)));
      std::optional<Duration> deadline;
      if (some(3) == 0) deadline = ms(100 + some(20000));
      all.push_back(world.request(name, ms(100 + some(4000)),
                                  some(3) == 0 ? PriorityClass::kBatch : PriorityClass::kInteractive,
                                  deadline, some(2) == 0));
      const RequestId last = all.back();
      if (world.granted(last)) {
        for (const TellWait& t : world.told<TellWait>()) ASSERT_NE(t.request, last) << "served at once";
      }
      for (const RequestId r : all) {
        const auto expected = world.expected_wait(r);
        ASSERT_EQ(expected.has_value(), world.fate(r) == RequestFate::kWaiting) << "seed " << seed;
        if (!expected) continue;
        ASSERT_GE(expected->wait, Duration());
        ASSERT_GE(expected->position, 1);
      }
      if (world.reason(last) == "deadline_too_near") {
        ASSERT_TRUE(deadline);
        ASSERT_GT(*world.of(last).error->number("expected_wait_ms"), 0);
      }
      world.run_for(ms(some(1500)));
    }
    world.run_for(std::chrono::hours(1));
  }
}

}  // namespace
}  // namespace lm::core
