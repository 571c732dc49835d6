// Whose room is taken for a load where there are several cards, and what becomes of a load for which room is
// on its way when the world changes.
#include <gmock/gmock.h>

#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;
using ::testing::ElementsAre;

struct Cards : ::testing::Test {
  void cards(int count, Bytes each = gib(8)) {
    for (int i = 0; i < count; ++i) world.add_device(card(i), each);
  }
  // All that it takes of a card in one piece; it may go to any.
  Model& model(const std::string& id, Bytes bytes = gib(6)) {
    return world.add_model(id, DeviceBytes{{DeviceId("cuda0"), bytes}});
  }
  // It may be cut into layers of a GiB.
  Model& in_layers(const std::string& id, int layers) {
    Model& added = model(id, gib(layers));
    Extent extent;
    extent.layers.resize(static_cast<std::size_t>(layers), {.weights = gib(1), .cache = Bytes()});
    world.truth(id).extent = extent;
    return added;
  }
  static std::string card(int i) { return "cuda" + std::to_string(i); }
  // Loads it onto that card and no other.
  void put(const std::string& id, const std::string& device) {
    world.model(id).placement.devices = {DeviceId(device)};
    world.configure();
    const JobId job = world.load(id);
    ASSERT_TRUE(world.run_until_true([&] { return world.of(job).done; }));
    ASSERT_THAT(where(id), ElementsAre(device));
  }
  // An answer that goes on until it is finished, and cannot be set aside.
  RequestId busy(const std::string& id) {
    const RequestId request = world.request(id);
    EXPECT_TRUE(world.granted(request));
    return request;
  }
  std::vector<std::string> where(const std::string& id) {
    std::vector<std::string> devices;
    const ModelView view = world.view(id);
    if (!view.instance) return devices;
    for (const LayerShare& share : view.instance->shares) devices.push_back(share.device.str());
    return devices;
  }
  // The cards that its last load was ordered to.
  std::vector<std::string> ordered(const std::string& id) {
    std::vector<std::string> devices;
    for (const StartLoad& order : world.told<StartLoad>()) {
      if (order.model != ModelId(id)) continue;
      devices.clear();
      for (const LayerShare& share : order.options.shares) devices.push_back(share.device.str());
    }
    return devices;
  }
  bool ready(const std::string& id) { return world.state(id) == InstanceState::kReady; }
  // Its worker says that a device is gone, and dies of it.
  void lose(const std::string& id, const std::string& device) {
    world.end_with(world.view(id).instance->id, Error{.code = ErrorCode::kUnavailable,
                                                      .message = device + " is gone",
                                                      .reason = "device_lost",
                                                      .fields = {{"device", device}},
                                                      .retry_after = {}});
  }
  World world;
};

// ---- whose card it is

TEST_F(Cards, TheIdleOnesCardIsTakenAndNotTheBusyOnes) {
  for (const bool first_is_busy : {true, false}) {
    world = World();
    cards(2);
    for (const char* id : {"a", "b", "x"}) model(id);
    put("a", "cuda0");
    put("b", "cuda1");
    busy(first_is_busy ? "a" : "b");
    const RequestId asked = world.request("x", sec(1));
    world.run_for(sec(2));
    EXPECT_TRUE(world.granted(asked)) << "an idle one can go at once";
    EXPECT_THAT(where("x"), ElementsAre(first_is_busy ? "cuda1" : "cuda0"));
    EXPECT_TRUE(ready(first_is_busy ? "a" : "b"));
  }
}

TEST_F(Cards, OfTwoIdleOnesTheCheaperToLoseGoes) {
  for (const bool first_is_cheap : {true, false}) {
    world = World();
    cards(2);
    for (const char* id : {"a", "b", "x"}) model(id);
    world.truth(first_is_cheap ? "b" : "a").load_time = sec(20);
    put("a", "cuda0");
    put("b", "cuda1");
    world.run_for(sec(60));
    world.request("x", sec(1));
    world.run_for(sec(3));
    EXPECT_THAT(where("x"), ElementsAre(first_is_cheap ? "cuda0" : "cuda1"));
    EXPECT_TRUE(ready(first_is_cheap ? "b" : "a")) << "it takes twenty seconds to load again";
  }
}

TEST_F(Cards, OneLargeModelGoesRatherThanTwoSmallOnesThatAreAskedFor) {
  cards(2);
  for (const char* id : {"large", "x"}) model(id);
  for (const char* id : {"small", "tiny"}) model(id, gib(3));
  put("small", "cuda0");
  put("tiny", "cuda0");
  put("large", "cuda1");
  for (int i = 0; i < 20; ++i) {
    world.request("small", ms(10));
    world.request("tiny", ms(10));
    world.run_for(sec(5));
  }
  world.request("x", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
  EXPECT_TRUE(ready("small"));
  EXPECT_TRUE(ready("tiny"));
}

TEST_F(Cards, OfTwoBusyOnesTheTurnThatEndsSoonerIsWaitedFor) {
  cards(2);
  for (const char* id : {"a", "b", "x"}) model(id);
  put("b", "cuda1");
  // A batch that nobody can tell the end of: it waited when a's turn began.
  world.model("a").placement.devices = {DeviceId("cuda0")};
  world.configure();
  std::vector<RequestId> batch;
  for (int i = 0; i < 4; ++i) batch.push_back(world.request("a"));
  ASSERT_TRUE(world.run_until_true([&] { return world.granted(batch[0]); }));
  world.stream("b", sec(3600));
  const RequestId asked = world.request("x", sec(1));
  world.run_for(sec(40));
  EXPECT_TRUE(world.granted(asked));
  EXPECT_THAT(ordered("x"), ElementsAre("cuda1"));
  EXPECT_TRUE(ready("a")) << "its batch is served first";
}

TEST_F(Cards, AScreensCardThatIsIdleIsBetterThanOneThatIsBusy) {
  cards(2);
  world.devices()[1].display = true;
  for (const char* id : {"a", "b", "x"}) model(id);
  put("a", "cuda0");
  put("b", "cuda1");
  const RequestId running = busy("a");
  world.request("x", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
  world.finish(running);
  world.run_for(sec(1));
  model("y");
  world.configure();
  world.request("y", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("y"), ElementsAre("cuda0")) << "with both idle the screen's card is the last again";
}

TEST_F(Cards, WhatIsCutTakesTheCardsOfTheIdle) {
  for (int is_busy = 0; is_busy < 3; ++is_busy) {
    world = World();
    cards(3);
    for (const char* id : {"a", "b", "c"}) model(id);
    in_layers("big", 12);
    const std::vector<std::string> names = {"a", "b", "c"};
    for (int i = 0; i < 3; ++i) put(names[static_cast<std::size_t>(i)], card(i));
    busy(names[static_cast<std::size_t>(is_busy)]);
    const RequestId asked = world.request("big", sec(1));
    world.run_for(sec(3));
    EXPECT_TRUE(world.granted(asked));
    std::vector<std::string> others;
    for (int i = 0; i < 3; ++i) {
      if (i != is_busy) others.push_back(card(i));
    }
    EXPECT_EQ(where("big"), others);
  }
}

TEST_F(Cards, ThePinnedIsGoneAround) {
  cards(2);
  for (const char* id : {"pinned", "b", "x"}) model(id);
  put("pinned", "cuda0");
  put("b", "cuda1");
  world.pin("pinned");
  for (int i = 0; i < 3; ++i) {
    world.request("b", ms(10));
    world.run_for(sec(1));
  }
  world.request("x", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
}

TEST_F(Cards, WhatIsLeftAlreadyIsTakenBeforeAnybodyIsSentAway) {
  cards(2);
  for (const char* id : {"a", "b", "x"}) model(id);
  put("a", "cuda0");
  put("b", "cuda1");
  world.truth("a").stop_time = ms(200);
  world.unload("a");
  ASSERT_EQ(world.state("a"), InstanceState::kStopping);
  world.request("x", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("x"), ElementsAre("cuda0"));
  EXPECT_TRUE(ready("b"));
}

TEST_F(Cards, ALongDrainIsNotWaitedForWhereSomebodyIdleCanGo) {
  cards(2);
  for (const char* id : {"a", "b", "x"}) model(id);
  put("a", "cuda0");
  put("b", "cuda1");
  busy("a");
  world.unload("a");
  ASSERT_EQ(world.state("a"), InstanceState::kDraining);
  const RequestId asked = world.request("x", sec(1));
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(asked)) << "a may answer for half a minute more";
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
}

TEST_F(Cards, OfTwoLoadsAtOnceEachGetsACard) {
  cards(2);
  for (const char* id : {"a", "b", "x", "y"}) model(id);
  put("a", "cuda0");
  put("b", "cuda1");
  const RequestId x = world.request("x", sec(60));
  const RequestId y = world.request("y", sec(60));
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(x));
  EXPECT_TRUE(world.granted(y));
  EXPECT_NE(where("x"), where("y"));
  EXPECT_EQ(world.out_of_memory(), 0);
}

// ---- room that is on its way, and the world that changes meanwhile

struct Committed : Cards {
  // x waits for a, whose turn is over and whose answer goes on; b is busy on the other card.
  void wait_for_a() {
    cards(2);
    for (const char* id : {"a", "b", "x", "y"}) model(id);
    put("a", "cuda0");
    put("b", "cuda1");
    answer_a = busy("a");
    answer_b = busy("b");
    world.pin("b");  // until x has chosen
    x = world.request("x", sec(1));
    ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
    world.pin("b", false);
    ASSERT_EQ(world.state("x"), InstanceState::kQueued);
  }
  RequestId x, answer_a, answer_b;
};

TEST_F(Committed, RoomThatComesElsewhereIsTaken) {
  wait_for_a();
  world.finish(answer_b);
  world.unload("b");
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(x)) << "a card is free";
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
  EXPECT_EQ(world.state("a"), InstanceState::kDraining) << "whoever was chosen to go is not revived";
}

TEST_F(Committed, OneThatCouldGoElsewhereIsNotSentAwayToo) {
  wait_for_a();
  world.finish(answer_b);
  world.run_for(sec(5));
  EXPECT_TRUE(ready("b")) << "one was sent away for it already";
  world.finish(answer_a);
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(x));
  EXPECT_THAT(where("x"), ElementsAre("cuda0"));
  EXPECT_TRUE(ready("b"));
}

TEST_F(Committed, WhatStrangersTakeOfItIsMadeFreeElsewhere) {
  wait_for_a();
  world.finish(answer_b);
  world.set_external("cuda0", gib(5));
  world.measure();
  world.run_for(sec(3));
  EXPECT_FALSE(world.rejected(x)) << world.reason(x);
  EXPECT_TRUE(world.granted(x));
  EXPECT_THAT(where("x"), ElementsAre("cuda1"));
}

TEST_F(Committed, APinThatComesTooLateBringsNobodyBackBeforeIt) {
  wait_for_a();
  world.pin("a");
  world.finish(answer_a);
  world.run_for(sec(3));
  EXPECT_TRUE(world.granted(x)) << "a was on its way out for it";
  EXPECT_THAT(ordered("x"), ElementsAre("cuda0"));
  world.finish(answer_b);
  world.run_for(sec(60));
  EXPECT_TRUE(ready("a")) << "its pin takes what can be had then";
}

TEST_F(Committed, WhoeverComesLaterDoesNotTakeWhatIsOnItsWay) {
  wait_for_a();
  const RequestId y = world.request("y", sec(1));
  world.run_for(sec(1));
  world.finish(answer_a);
  world.run_for(ms(1500));
  EXPECT_TRUE(world.granted(x));
  EXPECT_FALSE(world.granted(y));
}

// A load that turns out to need more than was made free for it keeps its place: nobody who came later takes
// what is there already.
TEST_F(Committed, OneForWhichThereIsNotEnoughAfterAllIsNotOvertaken) {
  cards(1, gib(10));
  for (const char* id : {"a", "b", "late"}) model(id, gib(4));
  model("x", gib(6));
  world.model("b").kind = ModelKind::kEmbedding;
  put("a", "cuda0");
  answer_a = busy("a");
  // The end of b's turn cannot be told: more wait since before it began than it can answer at a time.
  std::vector<RequestId> batch;
  for (int i = 0; i < 4; ++i) batch.push_back(world.request("b"));
  ASSERT_TRUE(world.run_until_true([&] { return ready("b"); }));
  x = world.request("x", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  // Somebody else takes two of the six that are on their way.
  world.set_external("cuda0", gib(2));
  world.measure();
  const RequestId late = world.request("late", sec(1));
  world.finish(answer_a);
  world.run_for(sec(1));
  EXPECT_FALSE(world.granted(late)) << "it would fit, and x waits for it";
  EXPECT_EQ(world.state("late"), InstanceState::kQueued);
  for (const RequestId id : batch) world.finish(id);
  world.run_for(ms(1));
  for (const RequestId id : batch) world.finish(id);
  world.run_for(sec(30));
  ASSERT_TRUE(world.granted(x));
  ASSERT_TRUE(world.granted(late));
  EXPECT_LT(world.of(x).answered, world.of(late).answered);
}

// Its card is gone, and it is looked at again for the host: its turn is not lost over that.
TEST_F(Committed, OneThatIsPredictedAnewIsNotOvertaken) {
  world.add_device(host_device().str(), gib(8));
  cards(1);
  world.devices().back().server = "box:1";
  for (const char* id : {"a", "x"}) model(id);
  world.add_model("late", DeviceBytes{{host_device(), gib(5)}}).load.device = "cpu";
  put("a", "cuda0");
  busy("a");
  x = world.request("x", sec(1));
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  world.truth("x").bytes = {{host_device(), gib(6)}};
  world.truth("x").predict_time = sec(3);
  lose("a", "cuda0");
  world.run_for(sec(1));
  const RequestId late = world.request("late", sec(1));
  world.run_for(sec(1));
  EXPECT_EQ(world.state("late"), InstanceState::kQueued) << "x comes first, whatever it turns out to take";
  world.run_for(sec(30));
  ASSERT_TRUE(world.granted(x)) << world.reason(x);
  ASSERT_TRUE(world.granted(late)) << world.reason(late);
  EXPECT_LT(world.of(x).answered, world.of(late).answered);
}

// Two were sent away for it: when the first is gone, three cards together would have room.
TEST_F(Cards, WhatIsOnItsWayIsWaitedForRatherThanCutOnceMore) {
  cards(3);
  for (const char* id : {"a", "b", "c"}) model(id);
  in_layers("big", 12);
  put("a", "cuda0");
  put("b", "cuda1");
  put("c", "cuda2");
  busy("c");
  world.truth("b").stop_time = ms(250);
  world.request("big", sec(1));
  world.run_for(sec(3));
  EXPECT_THAT(where("big"), ElementsAre("cuda0", "cuda1"));
}

// ---- whose answers are set aside

TEST_F(Cards, NoAnswerIsSetAsideForRoomElsewhere) {
  cards(2);
  for (const char* id : {"a", "b", "x", "pinned"}) model(id);
  world.settings().scheduling.drain = ms(500);
  put("a", "cuda0");
  put("b", "cuda1");
  busy("b");
  const RequestId stream = world.stream("a", sec(60));
  // A pin wants a's card; a request waits, for b's.
  world.model("pinned").placement.devices = {DeviceId("cuda0")};
  world.model("x").placement.devices = {DeviceId("cuda1")};
  world.configure();
  world.run_for(sec(5));
  world.request("x", sec(1));
  world.pin("pinned");
  ASSERT_TRUE(world.run_until_true([&] { return world.state("a") == InstanceState::kDraining; }));
  world.run_for(sec(10));
  EXPECT_EQ(world.of(stream).preemptions, 0) << "nobody asks for what wants its card";
}

// ---- what is learned

TEST_F(Cards, WhatItGrewToOnceIsReservedEverAfter) {
  cards(1);
  model("a", gib(4));
  world.configure();
  const auto live = [&](Bytes grows_to) {
    const JobId load = world.load("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(load).done; }));
    if (grows_to > Bytes()) world.come_to_hold("a", "cuda0", grows_to);
    world.run_for(sec(1));
    const JobId unload = world.unload("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(unload).done; }));
  };
  live(gib(5));
  live(Bytes());  // it does not grow, this time
  world.load("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.told<StartLoad>().back().reservation.on(DeviceId("cuda0")), gib(5));
  EXPECT_EQ(world.device_view("cuda0").reserved, gib(5)) << "it may grow to it again";
  EXPECT_EQ(world.told<RecordFootprint>().back().footprint.bytes.on(DeviceId("cuda0")), gib(5));
}

TEST_F(Cards, APeakThatIsOverAtTheEndIsLearnedToo) {
  cards(1);
  model("a", gib(4));
  put("a", "cuda0");
  world.come_to_hold("a", "cuda0", gib(6));
  world.come_to_hold("a", "cuda0", gib(4));
  world.unload("a");
  world.run_for(sec(3));
  put("a", "cuda0");
  EXPECT_EQ(world.told<StartLoad>().back().reservation.total(), gib(6));
}

TEST_F(Cards, WhatWasLearnedOfOneCutSaysNothingOfAnother) {
  cards(2);
  in_layers("big", 12);
  world.configure();
  world.load("big");
  world.run_for(sec(3));
  ASSERT_THAT(where("big"), ElementsAre("cuda0", "cuda1"));
  world.unload("big");
  world.run_for(sec(3));
  world.devices()[0].capacity = gib(16);
  world.configure();
  world.load("big");
  world.run_for(sec(3));
  EXPECT_THAT(where("big"), ElementsAre("cuda0"));
  EXPECT_EQ(world.device_view("cuda0").reserved, gib(12));
  EXPECT_EQ(world.device_view("cuda1").reserved, Bytes()) << "of the earlier cut";
}

// Requests leave garbage in a worker's heap; learned, it would be in the way of every later load.
TEST_F(Cards, WhatRequestsLeftOnTheHostIsNotLearned) {
  world.add_device(host_device().str(), gib(32));
  world.add_model("a", DeviceBytes{{host_device(), gib(2)}});
  world.configure();
  const auto live = [&] {
    const JobId load = world.load("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(load).done; }));
    world.come_to_hold("a", host_device().str(), gib(20));
    EXPECT_EQ(world.device_view(host_device().str()).used, gib(20)) << "what it holds, it is charged with";
    const JobId unload = world.unload("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(unload).done; }));
    EXPECT_EQ(world.told<RecordFootprint>().back().footprint.bytes.on(host_device()), gib(2));
  };
  live();
  live();
  EXPECT_EQ(world.told<StartLoad>().back().reservation.on(host_device()), gib(2));
}

TEST_F(Cards, NorOnTheHostBesideACard) {
  world.add_device(host_device().str(), gib(32));
  cards(1);
  world.add_model("a", DeviceBytes{{DeviceId("cuda0"), gib(4)}, {host_device(), gib(1)}});
  put("a", "cuda0");
  world.come_to_hold("a", host_device().str(), gib(20));
  world.come_to_hold("a", "cuda0", gib(5));
  world.unload("a");
  world.run_for(sec(3));
  put("a", "cuda0");
  const DeviceBytes reserved = world.told<StartLoad>().back().reservation;
  EXPECT_EQ(reserved.on(host_device()), gib(1));
  EXPECT_EQ(reserved.on(DeviceId("cuda0")), gib(5)) << "there it grows to it again";
}

// It was measured at a bad moment, or by an earlier version.
TEST_F(Cards, AMeasurementThatALaterOneContradictsDoesNotStay) {
  world.add_device(host_device().str(), gib(32));
  world.add_model("a", DeviceBytes{{host_device(), gib(9)}});
  world.configure();
  const auto live = [&] {
    const JobId load = world.load("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(load).done; }));
    const JobId unload = world.unload("a");
    ASSERT_TRUE(world.run_until_true([&] { return world.of(unload).done; }));
  };
  live();
  world.truth("a").bytes = {{host_device(), gib(2)}};
  live();
  live();
  EXPECT_EQ(world.told<StartLoad>().back().reservation.on(host_device()), gib(2));
}

TEST_F(Cards, AnotherModelBehindTheNameBeginsAnew) {
  cards(1);
  model("a", gib(4));
  put("a", "cuda0");
  world.come_to_hold("a", "cuda0", gib(6));
  world.unload("a");
  world.run_for(sec(3));
  world.model("a").artifact.fingerprint = "another";
  put("a", "cuda0");
  EXPECT_EQ(world.told<StartLoad>().back().reservation.total(), gib(4));
}

// A model of which nothing is on a card, beside cards: what is learned of it is found again by the same
// options.
TEST_F(Cards, WhatIsLearnedOnTheHostIsAskedForByTheSameOptions) {
  world.add_device(host_device().str(), gib(16));
  cards(1);
  Model& on_host = world.add_model("a", DeviceBytes{{host_device(), gib(2)}});
  on_host.load.gpu_layers = 0;
  world.configure();
  world.load("a");
  world.run_for(sec(3));
  ASSERT_EQ(world.state("a"), InstanceState::kReady);
  const LoadOptions asked = world.told<PredictFootprint>().back().options;
  const LoadOptions learned = world.told<RecordFootprint>().back().options;
  EXPECT_EQ(asked.device, learned.device);
  EXPECT_EQ(asked, learned);
}

TEST_F(Cards, WithoutCardsTheHostIsWhatTheOwnerCalledIt) {
  world.add_device(host_device().str(), gib(16));
  world.add_model("a", DeviceBytes{{host_device(), gib(2)}});
  world.configure();
  world.load("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.told<PredictFootprint>().back().options.device, "auto");
  EXPECT_EQ(world.told<RecordFootprint>().back().options.device, "auto");
}

}  // namespace
}  // namespace lm::core
