// Loading on demand: who shares a load, who waits, who may leave.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

struct OneModel : ::testing::Test {
  OneModel() {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(4));
    world.configure();
  }
  World world;
};

TEST_F(OneModel, AFirstRequestLoadsAndIsServed) {
  const RequestId r = world.request("a", sec(1));
  EXPECT_EQ(world.state("a"), InstanceState::kQueued) << "it is not known what it takes";
  world.run_for(ms(20));
  EXPECT_EQ(world.state("a"), InstanceState::kStandbyTaken);
  EXPECT_EQ(world.device_view("gpu").reserved, gib(4));
  world.run_for(sec(0.6));
  EXPECT_EQ(world.state("a"), InstanceState::kLoading);
  world.run_for(sec(3));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST_F(OneModel, ConcurrentFirstRequestsShareOneLoad) {
  world.truth("a").slots = 8;
  std::vector<RequestId> all;
  for (int i = 0; i < 8; ++i) all.push_back(world.request("a", sec(1)));
  world.run_for(sec(5));
  for (const RequestId r : all) EXPECT_EQ(world.fate(r), RequestFate::kEnded);
  EXPECT_EQ(world.loads("a"), 1);
}

TEST_F(OneModel, NoMoreAreServedThanThereAreSlots) {
  std::vector<RequestId> all;
  for (int i = 0; i < 5; ++i) all.push_back(world.request("a"));
  world.run_for(sec(2));
  EXPECT_TRUE(world.granted(all[0]) && world.granted(all[1]));
  EXPECT_EQ(world.fate(all[2]), RequestFate::kWaiting);
  EXPECT_EQ(world.view("a").instance->active, 2);
  EXPECT_EQ(world.view("a").instance->waiting, 3);
  world.finish(all[0]);
  EXPECT_TRUE(world.granted(all[2])) << "in the very step that frees the slot";
  EXPECT_EQ(world.fate(all[3]), RequestFate::kWaiting);
}

TEST_F(OneModel, LoadIsIdempotent) {
  const JobId first = world.load("a");
  const JobId second = world.load("a");
  world.run_for(sec(2));
  EXPECT_TRUE(world.of(first).done && !world.of(first).error && world.of(first).result.changed);
  EXPECT_TRUE(world.of(second).done && !world.of(second).error);
  const JobId third = world.load("a");
  EXPECT_TRUE(world.of(third).done && !world.of(third).error);
  EXPECT_FALSE(world.of(third).result.changed) << "it was so already";
  EXPECT_EQ(world.loads("a"), 1);
}

TEST_F(OneModel, LoadingTheLoadedStartsItsKeepAliveAgain) {
  world.load("a");
  world.run_for(minutes(4));
  world.load("a");
  world.run_for(minutes(4));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.run_for(minutes(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(OneModel, AnUnknownModelIsRefusedAndNothingElseHappens) {
  const RequestId r = world.request("zebra");
  EXPECT_EQ(world.reason(r), "model_not_found");
  const JobId load = world.load("zebra");
  EXPECT_EQ(world.of(load).error->code, ErrorCode::kNotFound);
  EXPECT_EQ(world.of(world.unload("zebra")).error->code, ErrorCode::kNotFound);
  EXPECT_EQ(world.of(world.pin("zebra")).error->code, ErrorCode::kNotFound);
  EXPECT_EQ(world.loads(), 0);
}

TEST_F(OneModel, AClientThatLeavesCancelsTheLoadThatOnlyItWanted) {
  const RequestId r = world.request("a");
  world.run_for(sec(0.5));
  EXPECT_EQ(world.workers(), 1);
  world.cancel(r);
  EXPECT_EQ(world.state("a"), InstanceState::kStopping);
  world.run_for(sec(1));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.workers(), 0);
  EXPECT_EQ(world.device_view("gpu").reserved, Bytes());
  EXPECT_TRUE(world.decided(DecisionKind::kGiveUp, "a"));
}

TEST_F(OneModel, ACancelledQueuedLoadOrdersNothing) {
  const RequestId r = world.request("a");
  world.cancel(r);
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  world.run_for(sec(1));
  EXPECT_EQ(world.loads(), 0) << "the late prediction is of an earlier life";
}

TEST_F(OneModel, AClientThatLeavesDoesNotCancelWhatOthersWant) {
  const RequestId one = world.request("a");
  const RequestId other = world.request("a", sec(1));
  world.run_for(sec(0.5));
  world.cancel(one);
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(one), RequestFate::kLeft);
  EXPECT_EQ(world.fate(other), RequestFate::kEnded);
  EXPECT_EQ(world.loads("a"), 1);
}

TEST_F(OneModel, AnAdministratorWhoLeavesCancelsTheLoadThatOnlyHeWanted) {
  const JobId mine = world.load("a");
  world.run_for(sec(0.5));
  world.abandon(mine);
  world.run_for(sec(1));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);

  const JobId shared = world.load("a");
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(0.5));
  world.abandon(shared);
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST_F(OneModel, AGrantedClientThatLeavesEndsByItsRelease) {
  const RequestId r = world.request("a");
  world.run_for(sec(2));
  world.cancel(r);
  EXPECT_EQ(world.view("a").instance->active, 1);
  world.run_for(sec(1));
  EXPECT_EQ(world.view("a").instance->active, 0);
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(OneModel, AWaitEndsAtItsDeadline) {
  world.truth("a").load_time = minutes(1);
  const RequestId soon = world.request("a", {}, PriorityClass::kInteractive, sec(5));
  const RequestId later = world.request("a", {}, PriorityClass::kInteractive);
  const RequestId past = world.request("a", {}, PriorityClass::kInteractive, Duration());
  EXPECT_EQ(world.reason(past), "deadline_too_near");
  world.run_for(sec(4.9));
  EXPECT_EQ(world.fate(soon), RequestFate::kWaiting);
  world.run_for(sec(0.2));
  EXPECT_EQ(world.reason(soon), "wait_expired");
  EXPECT_EQ(world.of(soon).error->code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(world.state("a"), InstanceState::kStandbyTaken) << "the other still wants it";
  world.run_for(minutes(2));
  EXPECT_TRUE(world.granted(later));
}

TEST_F(OneModel, ADeadlineOfTheLastOneGivesTheLoadUp) {
  world.truth("a").load_time = minutes(1);
  const RequestId r = world.request("a", {}, PriorityClass::kInteractive, sec(5));
  world.run_for(sec(6));
  EXPECT_TRUE(world.rejected(r));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(OneModel, FullQueuesRefuseWithRetryAfter) {
  world.settings().scheduling.queue_per_model = 3;
  world.configure();
  world.truth("a").slots = 1;
  std::vector<RequestId> all;
  for (int i = 0; i < 4; ++i) all.push_back(world.request("a"));
  EXPECT_EQ(world.reason(all[3]), "queue_full");
  EXPECT_EQ(world.of(all[3]).error->code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(world.of(all[3]).error->retry_after);
  world.cancel(all[0]);
  EXPECT_EQ(world.fate(world.request("a")), RequestFate::kWaiting);
}

TEST_F(OneModel, WhoeverIsServedAtOnceNeedsNoPlaceInAFullQueue) {
  world.settings().scheduling.queue_total = 2;
  world.add_model("b", gib(4));
  world.configure();
  world.load("a");
  world.run_for(sec(2));
  world.request("b");
  world.request("b");
  EXPECT_EQ(world.reason(world.request("b")), "queue_full");
  EXPECT_TRUE(world.granted(world.request("a")));
  EXPECT_TRUE(world.granted(world.request("a")));
  EXPECT_EQ(world.reason(world.request("a")), "queue_full") << "no slot is free: this one would wait";
}

TEST_F(OneModel, ALearnedFootprintSparesThePrediction) {
  world.truth("a").predict = DeviceBytes{{DeviceId("gpu"), gib(6)}};
  world.load("a");
  world.run_for(sec(2));
  EXPECT_EQ(world.view("a").footprint->source, FootprintSource::kMeasured);
  EXPECT_EQ(world.view("a").instance->reserved.total(), gib(4)) << "the promise shrank to the measurement";
  EXPECT_EQ(world.told<RecordFootprint>().front().footprint.bytes.total(), gib(4));
  world.unload("a");
  world.run_for(sec(2));
  world.load("a");
  EXPECT_EQ(world.told<PredictFootprint>().size(), 1U);
  EXPECT_EQ(world.told<StartLoad>().back().reservation.total(), gib(4));
}

TEST_F(OneModel, ACancelledLoadTeachesNothing) {
  const JobId job = world.load("a");
  world.run_for(sec(0.5));
  world.abandon(job);
  world.run_for(sec(1));
  EXPECT_TRUE(world.told<RecordFootprint>().empty());
  EXPECT_EQ(world.view("a").footprint->source, FootprintSource::kPredicted);
}

TEST_F(OneModel, AFootprintIsCorrectedUpWhereThereIsRoom) {
  world.truth("a").predict = DeviceBytes{{DeviceId("gpu"), gib(3)}};
  world.load("a");
  world.run_for(sec(2));
  EXPECT_EQ(world.view("a").instance->reserved.total(), gib(4));
  EXPECT_EQ(world.device_view("gpu").available, gib(6));
}

TEST_F(OneModel, WhatIsHeldBeyondThePromiseIsChargedWhereThereIsNone) {
  world.truth("a").predict = DeviceBytes{{DeviceId("gpu"), gib(3)}};
  world.devices()[0].limit = mib(3500);
  world.configure();
  world.load("a");
  world.run_for(sec(2));
  EXPECT_EQ(world.view("a").instance->reserved.total(), gib(3));
  EXPECT_EQ(world.device_view("gpu").available, mib(3500) - gib(4));
}

TEST_F(OneModel, MeasuredGrowthIsChargedAndLearned) {
  world.load("a");
  world.run_for(sec(2));
  const InstanceView instance = *world.view("a").instance;
  world.tell(MemoryMeasured{{{DeviceId("gpu"), gib(10), gib(5), {}, true}},
                            {{instance.id, {{DeviceId("gpu"), gib(5)}}, mib(7)}}});
  EXPECT_EQ(world.view("a").instance->held.total(), gib(5));
  EXPECT_EQ(world.view("a").instance->reclaimable, mib(7));
  EXPECT_EQ(world.device_view("gpu").available, gib(5));
  EXPECT_EQ(world.device_view("gpu").external, Bytes());
}

TEST_F(OneModel, WithoutBytesPerProcessTheEnginesAccountStands) {
  world.load("a");
  world.run_for(sec(2));
  const InstanceView instance = *world.view("a").instance;
  world.tell(MemoryMeasured{{{DeviceId("gpu"), gib(10), gib(5), {}, false}}, {{instance.id, {}, Bytes()}}});
  EXPECT_EQ(world.view("a").instance->held.total(), gib(4));
  EXPECT_EQ(world.device_view("gpu").external, gib(1)) << "what is used beyond ours is others'";
}

TEST_F(OneModel, ALoadThatTakesFarMoreThanThereIsIsEnded) {
  world.truth("a").load_time = minutes(1);
  world.devices()[0].limit = gib(6);
  world.configure();
  const RequestId r = world.request("a");
  world.run_for(sec(2));
  const InstanceView instance = *world.view("a").instance;
  ASSERT_EQ(instance.reserved.total(), gib(4));
  const auto holds = [&](Bytes bytes) {
    world.tell(MemoryMeasured{{{DeviceId("gpu"), gib(10), gib(10) - bytes, {}, true}},
                              {{instance.id, {{DeviceId("gpu"), bytes}}, {}}}});
  };
  holds(gib(7));
  EXPECT_EQ(world.fate(r), RequestFate::kWaiting) << "more than there is, by what a prediction may be off";
  holds(gib(9));
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  world.run_for(sec(2));
  EXPECT_EQ(world.device_view("gpu").available, gib(6)) << "and its memory was measured to be back";
}

TEST_F(OneModel, ALoadThatWasPredictedBadlyAndHasRoomIsLetBe) {
  world.truth("a").predict = DeviceBytes{{DeviceId("gpu"), gib(1)}};
  world.truth("a").load_time = sec(5);
  world.configure();
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(2));
  const InstanceView instance = *world.view("a").instance;
  world.tell(MemoryMeasured{{{DeviceId("gpu"), gib(10), gib(6), {}, true}},
                            {{instance.id, {{DeviceId("gpu"), gib(4)}}, {}}}});
  world.run_for(sec(10));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST_F(OneModel, WordsOfAnEarlierLifeAreDropped) {
  world.load("a");
  world.run_for(sec(2));
  const InstanceView old = *world.view("a").instance;
  world.unload("a");
  world.run_for(sec(2));
  world.load("a");
  world.run_for(ms(100));
  const InstanceView young = *world.view("a").instance;
  EXPECT_NE(old.id, young.id);
  EXPECT_NE(old.generation, young.generation);
  world.tell(LoadSucceeded{old.id, old.generation, {}, {}, 1, 1, {}});
  world.tell(LoadFailed{old.id, old.generation, {.message = "old"}});
  world.tell(WorkerExited{old.id, old.generation, "late", {}, {}});
  world.tell(WorkerTaken{old.id, old.generation, 1});
  world.tell(ReleaseMeasured{old.id, old.generation, {}, {}, {}, "process"});
  world.tell(FootprintPredicted{old.id, old.generation, {}, Error{.message = "old"}});
  EXPECT_EQ(world.view("a").instance->state, young.state);
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(OneModel, EveryStateIsToldInItsOrder) {
  world.load("a");
  world.run_for(sec(2));
  world.unload("a");
  world.run_for(sec(2));
  std::vector<InstanceState> states;
  for (const PublishState& p : world.published("a")) states.push_back(p.state);
  using enum InstanceState;
  EXPECT_EQ(states, (std::vector<InstanceState>{kQueued, kReserved, kStandbyTaken, kLoading, kReady,
                                                kDraining, kStopping, kReclaiming, kAbsent}));
  EXPECT_TRUE(world.published("a").back().release);
}

TEST_F(OneModel, TheSnapshotTellsWhoWaitsAndSinceWhen) {
  world.run_for(sec(3));
  world.request("a");
  world.run_for(sec(0.5));
  world.request("a");
  const Snapshot snapshot = world.snapshot();
  EXPECT_EQ(snapshot.waiting, 2);
  EXPECT_EQ(snapshot.oldest_waiting, TimePoint(sec(3)));
  EXPECT_TRUE(snapshot.last_transition);
}

TEST(ArbiterLoad, AModelWithAProblemIsRefusedWithIt) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(4)).problem =
      Error{.code = ErrorCode::kNotFound, .message = "path is not there", .reason = "io_error"};
  world.model("a").policy.pinned = true;
  world.configure();
  EXPECT_EQ(world.reason(world.request("a")), "io_error");
  EXPECT_EQ(world.of(world.load("a")).error->reason, "io_error");
  world.run_for(minutes(1));
  EXPECT_EQ(world.loads(), 0);
}

TEST(ArbiterLoad, LoadedModelsNeverWaitBehindAnotherLoad) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(4));
  world.add_model("b", gib(4));
  world.truth("b").load_time = minutes(1);
  world.configure();
  world.load("a");
  world.run_for(sec(2));
  world.request("b");
  world.run_for(sec(10));
  EXPECT_EQ(world.state("b"), InstanceState::kStandbyTaken);
  const RequestId r = world.request("a", sec(1));
  EXPECT_TRUE(world.granted(r)) << "in the very step of its arrival";
}

// llama.cpp #28443: two concurrent loads where one queued for ever.
TEST(ArbiterLoad, TwoConcurrentLoadsBothEnd) {
  for (const Bytes size : {gib(4), gib(7)}) {
    World world;
    world.add_device("gpu", gib(10));
    world.add_model("a", size);
    world.add_model("b", size);
    world.configure();
    const RequestId a = world.request("a", sec(1));
    const RequestId b = world.request("b", sec(1));
    world.run_for(minutes(1));
    EXPECT_EQ(world.fate(a), RequestFate::kEnded);
    EXPECT_EQ(world.fate(b), RequestFate::kEnded);
  }
}

TEST(ArbiterLoad, TwoDevicesAreBothCharged) {
  World world;
  world.add_device("gpu", gib(10));
  world.add_device("host", gib(8));
  world.add_model("a", DeviceBytes{{DeviceId("gpu"), gib(6)}, {DeviceId("host"), gib(3)}});
  world.add_model("b", DeviceBytes{{DeviceId("host"), gib(4)}});
  world.add_model("c", DeviceBytes{{DeviceId("host"), gib(4)}});
  world.configure();
  world.load("a");
  world.load("b");
  world.run_for(sec(2));
  EXPECT_EQ(world.device_view("gpu").available, gib(4));
  EXPECT_EQ(world.device_view("host").available, gib(1));
  world.load("c");
  world.run_for(sec(4));
  EXPECT_EQ(world.state("c"), InstanceState::kReady);
  EXPECT_EQ((world.state("a") == InstanceState::kReady) + (world.state("b") == InstanceState::kReady), 1)
      << "one goes, one stays";
}

}  // namespace
}  // namespace lm::core
