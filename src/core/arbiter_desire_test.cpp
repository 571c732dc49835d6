// What people want of models: unload, hold, pin, keep_alive.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

struct Desire : ::testing::Test {
  Desire() {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(4));
    world.add_model("b", gib(4));
    world.configure();
  }
  void make_ready(const std::string& model) {
    world.load(model);
    ASSERT_TRUE(world.run_until_true([&] { return world.state(model) == InstanceState::kReady; }));
  }
  void come_to(const std::string& model, InstanceState state) {
    ASSERT_TRUE(world.run_until_true([&] { return world.state(model) == state; }));
  }
  World world;
};

// ---- unload

TEST_F(Desire, UnloadReportsWhatCameBack) {
  make_ready("a");
  const JobId job = world.unload("a");
  world.run_for(sec(2));
  ASSERT_TRUE(world.of(job).done && !world.of(job).error);
  EXPECT_TRUE(world.of(job).result.changed);
  const ReleaseReport& report = *world.of(job).result.release;
  EXPECT_TRUE(report.proved());
  EXPECT_EQ(report.before, gib(4));
  EXPECT_EQ(report.freed, gib(4));
  EXPECT_EQ(report.expected, gib(4));
  EXPECT_EQ(report.residual, Bytes());
  EXPECT_TRUE(report.holders.empty());
  EXPECT_GT(report.took, Duration());
  ASSERT_EQ(report.devices.size(), 1U);
  EXPECT_EQ(report.devices[0].device_free_after, gib(10));
}

TEST_F(Desire, UnloadingTheUnloadedSucceedsAndSaysSo) {
  const JobId job = world.unload("a");
  EXPECT_TRUE(world.of(job).done && !world.of(job).error);
  EXPECT_FALSE(world.of(job).result.changed);
  EXPECT_FALSE(world.of(job).result.release);
}

TEST_F(Desire, UnloadStopsALoadInEveryStageAndTellsWhoWaits) {
  for (const InstanceState when : {InstanceState::kQueued, InstanceState::kReserved,
                                   InstanceState::kStandbyTaken, InstanceState::kLoading}) {
    World w;
    w.add_device("gpu", gib(10));
    w.add_model("a", gib(4));
    w.configure();
    const RequestId r = w.request("a");
    const JobId load = w.load("a");
    ASSERT_TRUE(w.run_until_true([&] { return w.state("a") == when; }));
    const JobId job = w.unload("a");
    EXPECT_EQ(w.reason(r), "model_unloaded");
    EXPECT_EQ(w.of(load).error->reason, "model_unloaded");
    w.run_for(sec(2));
    EXPECT_TRUE(w.of(job).done && w.of(job).result.changed);
    EXPECT_EQ(w.state("a"), InstanceState::kAbsent);
    EXPECT_EQ(w.workers(), 0);
    EXPECT_EQ(w.device_view("gpu").reserved, Bytes());
  }
}

TEST_F(Desire, UnloadLetsAnswersRunForAWhile) {
  make_ready("a");
  const RequestId quick = world.request("a", sec(5));
  const RequestId endless = world.request("a");
  const JobId job = world.unload("a");
  world.run_for(sec(29));
  EXPECT_FALSE(world.of(job).done);
  EXPECT_EQ(world.fate(quick), RequestFate::kEnded);
  world.run_for(sec(2));
  EXPECT_TRUE(world.of(endless).cut);
  EXPECT_TRUE(world.of(job).done);
}

TEST_F(Desire, UnloadHastensASlowDrain) {
  make_ready("a");
  world.settings().residency.max_loaded = 1;
  world.configure();
  world.request("a");
  world.request("b", sec(1));
  come_to("a", InstanceState::kDraining);  // by eviction: it may take ten minutes
  const JobId job = world.unload("a");
  world.run_for(sec(32));
  EXPECT_TRUE(world.of(job).done);
}

TEST_F(Desire, TwoWhoUnloadShareOneRelease) {
  make_ready("a");
  const JobId one = world.unload("a");
  const JobId two = world.unload("a");
  world.run_for(sec(2));
  EXPECT_TRUE(world.of(one).done && world.of(two).done);
  EXPECT_EQ(world.of(one).result.release, world.of(two).result.release);
}

TEST_F(Desire, AnAbandonedUnloadGoesOn) {
  make_ready("a");
  world.abandon(world.unload("a"));
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(Desire, UnloadAllMergesTheReports) {
  make_ready("a");
  make_ready("b");
  const JobId job = world.unload("");
  world.run_for(sec(2));
  ASSERT_TRUE(world.of(job).done);
  EXPECT_EQ(world.of(job).result.release->freed, gib(8));
  EXPECT_TRUE(world.of(job).result.release->proved());
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.state("b"), InstanceState::kAbsent);
}

TEST_F(Desire, UnloadAllIsForLocalModels) {
  world.model("b").family = Family::kOllama;
  world.configure();
  make_ready("a");
  make_ready("b");
  world.unload("");
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.state("b"), InstanceState::kReady);
}

TEST_F(Desire, APlainUnloadLetsTheNextRequestLoadAgain) {
  make_ready("a");
  world.unload("a");
  world.run_for(sec(2));
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

// ---- hold

TEST_F(Desire, AHoldRefusesAndNamesWhoAndWhen) {
  make_ready("a");
  const JobId job = world.unload("a", true);
  const RequestId r = world.request("a");
  EXPECT_EQ(world.reason(r), "model_held");
  EXPECT_EQ(world.of(r).error->code, ErrorCode::kUnavailable);
  EXPECT_NE(world.of(r).error->message.find("tester"), std::string::npos);
  EXPECT_EQ(world.of(r).error->number("held_since_ms"), 1234);
  world.run_for(sec(2));
  EXPECT_TRUE(world.of(job).done);
  EXPECT_EQ(world.view("a").held_by, "tester");
  EXPECT_EQ(world.view("a").held_since_ms, 1234);
  EXPECT_EQ(world.fate(world.request("b")), RequestFate::kWaiting) << "only it is held";
  EXPECT_TRUE(world.told<RecordHold>().back().held);
}

TEST_F(Desire, AnExplicitLoadEndsAHold) {
  world.unload("a", true);
  world.load("a");
  EXPECT_FALSE(world.told<RecordHold>().back().held);
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_EQ(world.view("a").held_by, "");
  EXPECT_TRUE(world.granted(world.request("a")));
}

TEST_F(Desire, AHoldOverAllHoldsEveryLocalModelAndNoOther) {
  world.model("b").family = Family::kOllama;
  world.add_model("c", gib(1));
  world.configure();
  world.unload("", true);
  EXPECT_EQ(world.reason(world.request("a")), "model_held");
  EXPECT_EQ(world.reason(world.request("c")), "model_held");
  EXPECT_EQ(world.fate(world.request("b", sec(1))), RequestFate::kWaiting);
  world.load("b");
  EXPECT_EQ(world.reason(world.request("a")), "model_held") << "another family's load does not end it";
  world.load("a");
  EXPECT_EQ(world.fate(world.request("a", sec(1))), RequestFate::kWaiting);
}

TEST_F(Desire, AHoldWhileOthersWaitTellsThem) {
  const RequestId r = world.request("a");
  world.run_for(ms(100));
  world.unload("a", true);
  EXPECT_EQ(world.reason(r), "model_held");
}

TEST_F(Desire, AHoldSurvivesARestart) {
  world.tell(DesiredRestored{{{ModelId("a"), "owner", 77}}, {ModelId("b")}});
  EXPECT_EQ(world.reason(world.request("a")), "model_held");
  EXPECT_EQ(world.view("a").held_by, "owner");
  world.run_for(sec(2));
  EXPECT_EQ(world.state("b"), InstanceState::kReady) << "and a pin";
}

TEST_F(Desire, ARestoredHoldIsStrongerThanAPin) {
  World w;
  w.add_device("gpu", gib(10));
  w.add_model("a", gib(4)).policy.pinned = true;
  w.configure();
  EXPECT_EQ(w.state("a"), InstanceState::kQueued);
  w.tell(DesiredRestored{{{ModelId(), "owner", 77}}, {}});
  w.run_for(minutes(1));
  EXPECT_EQ(w.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(w.loads(), 0);
}

TEST_F(Desire, ARestoredHoldUnloadsWhatIsLoaded) {
  make_ready("a");
  world.tell(DesiredRestored{{{ModelId("a"), "owner", 77}}, {}});
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

// ---- pin

TEST_F(Desire, APinnedModelIsLoadedAtStartAndNeverExpires) {
  world.model("a").policy.pinned = true;
  world.configure();
  world.run_for(std::chrono::hours(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_EQ(world.loads("a"), 1);
  EXPECT_TRUE(world.view("a").pinned);
  EXPECT_FALSE(world.view("a").instance->expires_at);
}

TEST_F(Desire, APinWaitsForRoomAndTakesItWhenItIsThere) {
  world.set_external("gpu", gib(8));
  world.measure();
  const JobId pin = world.pin("a");
  EXPECT_TRUE(world.of(pin).done && world.of(pin).result.changed);
  world.run_for(std::chrono::hours(3));
  EXPECT_EQ(world.state("a"), InstanceState::kQueued);
  const RequestId r = world.request("a");
  world.run_for(ms(50));
  EXPECT_EQ(world.reason(r), "insufficient_memory") << "who asks is told at once";
  EXPECT_EQ(world.state("a"), InstanceState::kQueued) << "and the pin waits on";
  world.set_external("gpu", gib(1));
  world.measure();
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(Desire, AHopelessPinClosesNobodysGate) {
  world.add_model("huge", gib(50)).policy.pinned = true;
  world.settings().residency.keep_alive = Duration(-1);
  world.configure();
  make_ready("a");
  world.run_for(minutes(20));
  for (int i = 0; i < 20; ++i) {
    const RequestId r = world.request("a", sec(1));
    EXPECT_TRUE(world.granted(r));
    world.run_for(sec(1));
  }
}

TEST_F(Desire, APinTakesOverALoadWhoseClientLeaves) {
  const RequestId r = world.request("a");
  world.run_for(ms(500));
  world.pin("a");
  world.cancel(r);
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_EQ(world.loads("a"), 1) << "the same load";
}

TEST_F(Desire, UnpinningALoadThatOnlyThePinWantedGivesItUp) {
  world.pin("a");
  world.run_for(ms(500));
  const JobId job = world.pin("a", false);
  EXPECT_TRUE(world.of(job).result.changed);
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_FALSE(world.of(world.pin("a", false)).result.changed);
}

TEST_F(Desire, AnUnpinnedModelExpiresAgain) {
  world.pin("a");
  world.run_for(sec(2));
  world.pin("a", false);
  world.run_for(minutes(6));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(Desire, AnUnloadedPinRestsUntilItsModelIsWantedAgain) {
  world.pin("a");
  world.run_for(sec(2));
  world.unload("a");
  world.run_for(minutes(10));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent) << "else unloading it would be in vain";
  EXPECT_TRUE(world.view("a").pinned);
  world.request("a", sec(1));
  world.run_for(minutes(20));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "pinned as before";
}

TEST_F(Desire, PinIsRecordedOnlyWhereItChanges) {
  world.pin("a");
  world.pin("a");
  EXPECT_EQ(world.told<RecordPin>().size(), 1U);
}

// ---- keep_alive

TEST_F(Desire, AnIdleModelExpires) {
  world.request("a", sec(1));
  world.run_for(sec(5));
  const TimePoint expires = *world.view("a").instance->expires_at;
  world.run_until(expires - ms(1));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.run_for(sec(1));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.published("a").back().cause, EndCause::kExpired);
  EXPECT_TRUE(world.decided(DecisionKind::kExpire, "a"));
}

TEST_F(Desire, ABusyModelDoesNotExpire) {
  world.request("a", minutes(30));
  world.run_for(minutes(29));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_FALSE(world.view("a").instance->expires_at);
}

TEST_F(Desire, AModelsOwnKeepAliveCounts) {
  world.model("a").policy.keep_alive = Duration(-1);
  world.model("b").policy.keep_alive = Duration();
  world.configure();
  make_ready("a");
  const RequestId r = world.request("b", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
  EXPECT_EQ(world.state("b"), InstanceState::kAbsent) << "zero: as soon as it is idle";
  world.run_for(std::chrono::hours(5));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "negative: for ever";
}

TEST_F(Desire, AClientsKeepAliveHoldsForTheInstancesLife) {
  make_ready("a");
  world.keep_alive("a", sec(2));
  EXPECT_LE(*world.view("a").instance->expires_at, world.now() + sec(2));
  world.request("a", sec(1));
  world.run_for(sec(2.5));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "its use began it anew";
  world.run_for(sec(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.published("a").back().cause, EndCause::kExpired);
  make_ready("a");
  world.run_for(minutes(4));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "the next life has the server's";
}

TEST_F(Desire, AClientsKeepAliveOfZeroWaitsForWhoIsServedAndWhoWaits) {
  world.request("a", sec(5));
  world.request("a", sec(5));
  world.request("a", sec(5));
  world.run_for(sec(4));
  ASSERT_EQ(world.view("a").instance->active, 2);
  ASSERT_EQ(world.view("a").instance->waiting, 1);
  world.keep_alive("a", Duration());
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.run_for(sec(30));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.loads("a"), 1);
  for (const auto& [id, request] : world.requests()) EXPECT_EQ(request.fate, RequestFate::kEnded);
}

TEST_F(Desire, AClientsKeepAliveYieldsToPinOwnerAndLimit) {
  world.model("b").policy.keep_alive = minutes(3);
  world.configure();
  world.pin("a");
  world.run_for(sec(5));
  ASSERT_EQ(world.state("a"), InstanceState::kReady);
  world.keep_alive("a", Duration());
  world.run_for(minutes(1));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "pinned";
  world.pin("a", false);
  world.run_for(sec(5));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);

  make_ready("b");
  world.keep_alive("b", Duration());
  world.run_for(minutes(2));
  EXPECT_EQ(world.state("b"), InstanceState::kReady) << "the owner's word on the model";

  world.settings().residency.keep_alive_limit = minutes(10);
  world.configure();
  make_ready("a");
  world.keep_alive("a", Duration(-1));
  world.run_for(minutes(9));
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "longer than the server's five minutes";
  world.run_for(minutes(2));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent) << "for ever was not allowed";
}

TEST_F(Desire, AClientsKeepAliveForEverIsNoPin) {
  make_ready("a");
  world.keep_alive("a", Duration(-1));
  EXPECT_FALSE(world.view("a").instance->expires_at);
  world.run_for(std::chrono::hours(30));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  EXPECT_FALSE(world.view("a").instance->error);
  world.keep_alive("nobody", Duration());
  world.keep_alive("b", Duration());
  EXPECT_EQ(world.state("b"), InstanceState::kAbsent);
}

TEST_F(Desire, AShorterKeepAliveAppliesToWhatIsLoaded) {
  make_ready("a");
  world.settings().residency.keep_alive = sec(1);
  world.configure();
  world.run_for(sec(3));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

}  // namespace
}  // namespace lm::core
