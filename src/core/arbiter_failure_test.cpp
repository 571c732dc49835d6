// What goes wrong: loads that fail, workers that die, memory that does not come back, measurements that do
// not answer, configurations that change, and the end.
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

struct Failure : ::testing::Test {
  Failure() {
    world.add_device("gpu", gib(10));
    world.add_model("a", gib(7));
    world.add_model("b", gib(7));
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

// ---- loads

TEST_F(Failure, AFailedLoadTellsEverybodyWhoWaited) {
  world.truth("a").fates = {LoadFate::kFails};
  const RequestId r = world.request("a");
  const JobId job = world.load("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.reason(r), "io_error");
  EXPECT_EQ(world.of(job).error->reason, "io_error");
  EXPECT_EQ(world.state("a"), InstanceState::kFailed);
  EXPECT_EQ(world.view("a").state, PublishedState::kFailed);
  EXPECT_EQ(world.view("a").instance->error->reason, "io_error");
  EXPECT_EQ(world.device_view("gpu").reserved, Bytes());
  EXPECT_EQ(world.workers(), 0);
}

TEST_F(Failure, TheFirstFailureMayBeTriedAgainAtOnce) {
  world.truth("a").fates = {LoadFate::kFails};
  world.request("a");
  world.run_for(sec(3));
  const RequestId again = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(again), RequestFate::kEnded);
}

TEST_F(Failure, WhoAskedAModelThatTurnsOutToBeOfAnotherKindIsToldAndNothingGoesForIt) {
  make_ready("b");
  const RequestId r = world.request("a");
  const RequestId other = world.request("b", sec(1));
  world.model("a").kind = ModelKind::kEmbedding;
  world.configure();
  EXPECT_EQ(world.reason(r), "wrong_model_kind");
  world.run_for(sec(3));
  EXPECT_EQ(world.fate(other), RequestFate::kEnded);
  EXPECT_EQ(world.state("b"), InstanceState::kReady);
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  // Whoever wants it loaded, and no answer of it, gets that.
  const JobId job = world.load("a");
  world.model("a").kind = ModelKind::kRerank;
  world.configure();
  come_to("a", InstanceState::kReady);
  EXPECT_TRUE(world.of(job).done);
  EXPECT_FALSE(world.of(job).error);
}

TEST_F(Failure, RepeatedFailuresBackOff) {
  world.truth("a").fates = {LoadFate::kFails, LoadFate::kDies, LoadFate::kFails, LoadFate::kFails};
  std::vector<double> waits;
  for (int i = 0; i < 4; ++i) {
    world.request("a");
    world.run_for(sec(3));
    ASSERT_EQ(world.state("a"), InstanceState::kFailed);
    const InstanceView failed = *world.view("a").instance;
    waits.push_back(seconds(*failed.retry_at - failed.since));
    if (*failed.retry_at > world.now()) {
      const RequestId early = world.request("a");
      EXPECT_TRUE(world.rejected(early));
      EXPECT_TRUE(world.of(early).error->retry_after);
      world.run_until(*failed.retry_at);
    }
  }
  EXPECT_EQ(waits, (std::vector<double>{0, 1, 2, 4}));
  const RequestId last = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(last), RequestFate::kEnded);
}

TEST_F(Failure, BackOffIsCappedAndAnAnswerEndsIt) {
  for (int i = 0; i < 12; ++i) {
    world.truth("a").fates = {LoadFate::kFails};
    world.load("a");
    world.run_for(sec(3));
  }
  const InstanceView failed = *world.view("a").instance;
  EXPECT_EQ(*failed.retry_at - failed.since, minutes(1));
  world.run_for(minutes(1));
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
  world.crash("a");
  world.run_for(sec(1));
  EXPECT_LE(*world.view("a").instance->retry_at, world.now()) << "counted from one again";
}

TEST_F(Failure, DeterministicFailuresAreNotRetriedButAnExplicitLoadInsists) {
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").load_error.reason = "invalid_artifact";
  world.request("a");
  world.run_for(sec(3));
  EXPECT_FALSE(world.view("a").instance->retry_at);
  world.run_for(std::chrono::hours(5));
  EXPECT_EQ(world.reason(world.request("a")), "invalid_artifact");
  EXPECT_EQ(world.loads("a"), 1);
  const JobId job = world.load("a");
  world.run_for(sec(3));
  EXPECT_FALSE(world.of(job).error);
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(Failure, WhoComesWhileAFailureEndsSharesItsBackOff) {
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").load_error.reason = "unsupported_model";
  world.truth("a").stop_time = ms(300);
  world.request("a");
  come_to("a", InstanceState::kStopping);
  const RequestId late = world.request("a");
  EXPECT_EQ(world.fate(late), RequestFate::kWaiting);
  world.run_for(sec(3));
  EXPECT_EQ(world.reason(late), "unsupported_model") << "not loaded again for nothing";
  EXPECT_EQ(world.loads("a"), 1);
}

TEST_F(Failure, WhoInsistsWhileAFailureEndsIsHeard) {
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").load_error.reason = "unsupported_model";
  world.request("a");
  come_to("a", InstanceState::kStopping);
  const JobId job = world.load("a");
  world.run_for(sec(3));
  EXPECT_TRUE(world.of(job).done && !world.of(job).error);
  EXPECT_EQ(world.loads("a"), 2);
}

TEST_F(Failure, ASilentLoadFails) {
  world.truth("a").fates = {LoadFate::kSilent};
  const RequestId r = world.request("a");
  world.run_for(minutes(2));
  EXPECT_EQ(world.fate(r), RequestFate::kWaiting);
  world.run_for(sec(1));
  EXPECT_EQ(world.reason(r), "load_timeout");
  world.run_for(sec(1));
  EXPECT_EQ(world.workers(), 0);
}

// FIELD 5: load timeouts follow progress, not the clock.
TEST_F(Failure, ASlowLoadThatMakesProgressDoesNot) {
  world.truth("a").load_time = sec(230);
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(235));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST_F(Failure, APredictionThatFailsOrIsSilentIsAnAnswer) {
  world.truth("a").predict_error =
      Error{.code = ErrorCode::kInvalidArgument, .message = "bad", .reason = "invalid_artifact"};
  world.truth("b").predicts = false;
  const RequestId a = world.request("a");
  const RequestId b = world.request("b");
  world.run_for(sec(1));
  EXPECT_EQ(world.reason(a), "invalid_artifact");
  EXPECT_FALSE(world.view("a").instance->retry_at);
  world.run_for(minutes(3));
  EXPECT_EQ(world.reason(b), "predict_timeout");
  EXPECT_EQ(world.loads(), 0);
}

TEST_F(Failure, APinnedModelWhosePredictionFailsBacksOff) {
  world.truth("a").predict_error =
      Error{.code = ErrorCode::kUnavailable, .message = "cannot", .reason = "io_error"};
  world.pin("a");
  world.run_for(minutes(10));
  const auto tries = world.told<PredictFootprint>().size();
  EXPECT_GE(tries, 8U);
  EXPECT_LE(tries, 20U);
  world.truth("a").predict_error.reset();
  world.run_for(minutes(2));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(Failure, OutOfMemoryIsATypedAnswer) {
  world.truth("a").predict = DeviceBytes{{DeviceId("gpu"), gib(5)}};
  world.set_external("gpu", gib(4));
  world.measure();
  const RequestId r = world.request("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.out_of_memory(), 1);
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  EXPECT_EQ(world.of(r).error->code, ErrorCode::kResourceExhausted);
}

// ---- crashes

TEST_F(Failure, AReadyWorkersDeathEndsItsAnswersAndTheNextRequestReloads) {
  make_ready("a");
  const RequestId running = world.request("a");
  world.crash("a");
  EXPECT_EQ(world.state("a"), InstanceState::kReclaiming);
  EXPECT_EQ(world.device_view("gpu").reserved, gib(7)) << "charged until it is measured free";
  const RequestId next = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(next), RequestFate::kEnded);
  EXPECT_EQ(world.loads("a"), 2);
  EXPECT_TRUE(world.decided(DecisionKind::kFail, "a"));
}

TEST_F(Failure, OtherModelsAreUntouchedByACrash) {
  world.add_model("c", gib(2));
  world.configure();
  make_ready("a");
  make_ready("c");
  const RequestId running = world.request("c", sec(10));
  world.crash("a");
  world.run_for(sec(9));
  EXPECT_EQ(world.fate(running), RequestFate::kGranted);
  EXPECT_TRUE(world.granted(world.request("c", sec(1))));
}

TEST_F(Failure, ADeathWhileItServesNeverDelaysTheNextRequest) {
  world.truth("a").fates = {LoadFate::kFails, LoadFate::kFails};
  for (int i = 0; i < 2; ++i) {
    world.load("a");
    world.run_for(sec(3));
  }
  for (int deaths = 0; deaths < 6; ++deaths) {
    make_ready("a");
    world.request("a");
    world.crash("a");
    come_to("a", InstanceState::kFailed);
    EXPECT_LE(*world.view("a").instance->retry_at, world.now()) << "after " << deaths + 1;
    const RequestId next = world.request("a", ms(1));
    world.run_for(sec(4));
    EXPECT_EQ(world.fate(next), RequestFate::kEnded);
  }
}

TEST_F(Failure, DeathsWithoutAnAnswerBackOffFromTheFourthOn) {
  std::vector<double> waits;
  for (int deaths = 0; deaths < 6; ++deaths) {
    const RequestId killer = world.request("a");
    come_to("a", InstanceState::kReady);
    EXPECT_TRUE(world.granted(killer));
    world.crash("a");
    come_to("a", InstanceState::kFailed);
    const InstanceView failed = *world.view("a").instance;
    EXPECT_EQ(failed.error->reason, "worker_died");
    waits.push_back(seconds(*failed.retry_at - failed.since));
    if (*failed.retry_at > world.now()) world.run_until(*failed.retry_at);
  }
  EXPECT_EQ(waits, (std::vector<double>{0, 0, 0, 1, 2, 4}));
  const RequestId answered = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(answered), RequestFate::kEnded);
  world.crash("a");
  come_to("a", InstanceState::kFailed);
  EXPECT_LE(*world.view("a").instance->retry_at, world.now()) << "an answer ends the count";
}

TEST_F(Failure, ACrashLoopBacksOffAlsoForWhoWaits) {
  world.truth("a").slots = 1;
  std::vector<RequestId> all;
  for (int i = 0; i < 8; ++i) all.push_back(world.request("a"));
  for (int crashes = 0; crashes < 4; ++crashes) {
    come_to("a", InstanceState::kReady);
    world.crash("a");
  }
  world.run_for(ms(100));
  EXPECT_EQ(world.state("a"), InstanceState::kFailed);
  int rejected = 0;
  for (const RequestId r : all) rejected += world.rejected(r) && world.reason(r) == "worker_died";
  EXPECT_EQ(rejected, 4) << "four were served by the four lives";
  EXPECT_EQ(world.loads("a"), 4);
}

TEST_F(Failure, ADeathWhileItDrainsIsTheEndThatWasWanted) {
  make_ready("a");
  world.request("a");
  const JobId job = world.unload("a");
  world.crash("a");
  world.run_for(sec(1));
  EXPECT_TRUE(world.of(job).done && !world.of(job).error);
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(Failure, ADeathWhileItLoadsIsAFailedLoad) {
  world.truth("a").fates = {LoadFate::kDies};
  const RequestId r = world.request("a");
  world.run_for(sec(3));
  EXPECT_EQ(world.reason(r), "worker_died");
  EXPECT_EQ(world.state("a"), InstanceState::kFailed);
  EXPECT_EQ(world.view("a").instance->cause, EndCause::kLoadFailed);
}

TEST_F(Failure, AReleaseAfterTheCrashIsAccountedOnce) {
  make_ready("a");
  const RequestId running = world.request("a");
  world.crash("a");
  come_to("a", InstanceState::kFailed);
  make_ready("a");
  EXPECT_EQ(world.fate(running), RequestFate::kEnded) << "its lease ended by itself";
  EXPECT_EQ(world.view("a").instance->active, 0);
}

// ---- releases

TEST_F(Failure, MemoryThatClingsIsReportedWithItsHolders) {
  make_ready("a");
  world.truth("a").releases = {ReleaseFate::kClings};
  const JobId job = world.unload("a");
  world.run_for(sec(4));
  EXPECT_FALSE(world.of(job).done) << "it is waited for";
  world.run_for(sec(3));
  ASSERT_TRUE(world.of(job).done);
  const ReleaseReport& report = *world.of(job).result.release;
  EXPECT_FALSE(report.proved());
  EXPECT_EQ(report.residual, gib(7));
  EXPECT_EQ(report.freed, Bytes());
  ASSERT_EQ(report.holders.size(), 1U);
  EXPECT_EQ(report.holders[0].name, "llm-worker");
  EXPECT_GE(report.took, sec(5));
}

TEST_F(Failure, WhatDidNotComeBackIsNotPromisedAgain) {
  make_ready("a");
  world.truth("a").releases = {ReleaseFate::kClings};
  const RequestId r = world.request("b");
  world.run_for(sec(20));
  EXPECT_EQ(world.out_of_memory(), 0);
  EXPECT_EQ(world.reason(r), "insufficient_memory");
  EXPECT_EQ(world.loads("b"), 0) << "no load into memory that is not there";
}

TEST_F(Failure, AMeasurementThatNeverAnswersIsNotWaitedForForEver) {
  make_ready("a");
  world.truth("a").releases = {ReleaseFate::kUnanswered};
  const JobId job = world.unload("a");
  world.run_for(sec(7));
  ASSERT_TRUE(world.of(job).done);
  EXPECT_FALSE(world.of(job).result.release->proved());
  EXPECT_EQ(world.of(job).result.release->freed, Bytes()) << "nothing is claimed that was not measured";
  EXPECT_EQ(world.of(job).result.release->method, ReleaseReport::kNotMeasured);
}

TEST_F(Failure, AMeasurementThatFailsProvesNothingAndIsTakenAgain) {
  make_ready("a");
  world.truth("a").failed_measurements = 3;
  const JobId job = world.unload("a");
  come_to("a", InstanceState::kReclaiming);
  EXPECT_EQ(world.device_view("gpu").reserved, gib(7));
  world.run_for(sec(2));
  ASSERT_TRUE(world.of(job).done);
  EXPECT_TRUE(world.of(job).result.release->proved());
  EXPECT_EQ(world.of(job).result.release->freed, gib(7));
  EXPECT_EQ(world.told<MeasureRelease>().size(), 4U);
}

TEST_F(Failure, WhereNothingCanBeMeasuredNothingIsClaimed) {
  make_ready("a");
  world.truth("a").failed_measurements = 1'000'000;
  const JobId job = world.unload("a");
  world.run_for(sec(4));
  EXPECT_FALSE(world.of(job).done) << "it is waited for";
  const RequestId next = world.request("b");
  world.run_for(sec(2));
  ASSERT_TRUE(world.of(job).done);
  const ReleaseReport& report = *world.of(job).result.release;
  EXPECT_FALSE(report.proved());
  EXPECT_EQ(report.method, ReleaseReport::kNotMeasured);
  EXPECT_EQ(report.freed, Bytes());
  EXPECT_EQ(report.residual, gib(7)) << "not a byte less than it held";
  ASSERT_EQ(report.devices.size(), 1U);
  EXPECT_EQ(report.devices[0].residual, gib(7));
  EXPECT_EQ(world.loads("b"), 0) << "what may still be held is not promised";
  EXPECT_EQ(world.reason(next), "insufficient_memory");
  world.measure();
  const RequestId later = world.request("b", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(later), RequestFate::kEnded) << "until a measurement says more";
}

TEST_F(Failure, WhatWasMeasuredBeforeStandsWhereTheLastMeasurementFails) {
  make_ready("a");
  world.truth("a").releases = {ReleaseFate::kClings};
  const JobId job = world.unload("a");
  world.run_for(sec(1));
  world.truth("a").failed_measurements = 1'000'000;
  world.run_for(sec(6));
  ASSERT_TRUE(world.of(job).done);
  const ReleaseReport& report = *world.of(job).result.release;
  EXPECT_FALSE(report.proved());
  EXPECT_EQ(report.method, "process");
  EXPECT_EQ(report.holders.size(), 1U);
  EXPECT_GE(report.took, sec(5));
}

// FIELD 7: between exit and free there is a delay.
TEST_F(Failure, MeasuringGoesOnUntilItConverges) {
  world.truth("a").release_delay = sec(3);
  make_ready("a");
  const JobId job = world.unload("a");
  world.run_for(sec(3));
  EXPECT_FALSE(world.of(job).done);
  world.run_for(sec(1));
  EXPECT_TRUE(world.of(job).result.release->proved());
  EXPECT_LE(world.told<MeasureRelease>().size(), 30U) << "with growing gaps";
}

// FIELD 2: "Stopping…" for hours.
TEST_F(Failure, AWorkerThatDoesNotHearIsAskedAgain) {
  make_ready("a");
  world.truth("a").ignored_stops = 2;
  const JobId job = world.unload("a");
  world.run_for(minutes(1));
  EXPECT_TRUE(world.of(job).done);
  EXPECT_EQ(world.told<StopInstance>().size(), 3U);
  EXPECT_EQ(world.told<StopInstance>().back().grace, Duration()) << "and not politely";
}

TEST_F(Failure, ATimerThatFiresEarlyIsArmedAgain) {
  make_ready("a");
  const auto armed = world.told<ArmTimer>();
  world.tell(TimerFired{});
  ASSERT_EQ(world.told<ArmTimer>().size(), armed.size() + 1);
  EXPECT_EQ(world.told<ArmTimer>().back().at, armed.back().at);
}

// ---- configuration

TEST_F(Failure, ChangedOptionsReloadTheModelWhenItHasDrained) {
  make_ready("a");
  const RequestId running = world.request("a", sec(5));
  world.model("a").load.context = 8192;
  world.configure();
  const RequestId next = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(running), RequestFate::kGranted);
  EXPECT_EQ(world.fate(next), RequestFate::kWaiting);
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.fate(next), RequestFate::kEnded);
  EXPECT_EQ(world.told<StartLoad>().back().options.context, 8192);
  EXPECT_EQ(world.told<PredictFootprint>().size(), 2U) << "other options take other memory";
}

TEST_F(Failure, AnOutdatedInstanceTeachesNothing) {
  make_ready("a");
  world.model("a").load.context = 8192;
  const auto learned = world.told<RecordFootprint>().size();
  world.configure();
  world.run_for(sec(2));
  EXPECT_EQ(world.told<RecordFootprint>().size(), learned);
  EXPECT_FALSE(world.view("a").footprint);
}

TEST_F(Failure, ChangedOptionsRestartALoad) {
  const RequestId r = world.request("a", sec(1));
  world.run_for(ms(700));
  world.model("a").load.context = 8192;
  world.configure();
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded) << "who waits does not notice";
  EXPECT_EQ(world.loads("a"), 2);
}

TEST_F(Failure, ChangedPolicyReloadsNothing) {
  make_ready("a");
  world.model("a").policy.keep_alive = sec(100);
  world.model("a").sampling.temperature = 0.5;
  world.model("a").aliases = {"alias"};
  world.configure();
  world.run_for(sec(5));
  EXPECT_EQ(world.loads("a"), 1);
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(Failure, AModelThatLeavesTheConfigurationGoes) {
  make_ready("a");
  const RequestId running = world.request("a", sec(2));
  std::vector<RequestId> waiting;
  waiting.push_back(world.request("a"));
  waiting.push_back(world.request("a"));
  std::erase_if(world.models(), [](const Model& m) { return m.id == ModelId("a"); });
  world.configure();
  EXPECT_EQ(world.reason(waiting[1]), "model_not_found");
  EXPECT_EQ(world.reason(world.request("a")), "model_not_found");
  EXPECT_EQ(world.fate(running), RequestFate::kGranted);
  world.cancel(waiting[0]);
  world.run_for(sec(5));
  EXPECT_EQ(world.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world.snapshot().models.size(), 1U) << "and is forgotten";
}

TEST_F(Failure, AFailedModelThatIsMendedMayBeAskedForAtOnce) {
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").load_error.reason = "invalid_artifact";
  world.request("a");
  world.run_for(sec(3));
  world.model("a").artifact.fingerprint = "mended";
  world.configure();
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  const RequestId r = world.request("a", sec(1));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(r), RequestFate::kEnded);
}

TEST_F(Failure, ALowerMaxLoadedShedsTheLongestIdle) {
  World w;
  w.add_device("gpu", gib(30));
  for (const char* m : {"a", "b", "c"}) w.add_model(m, gib(4));
  w.configure();
  for (const char* m : {"a", "b", "c"}) {
    w.load(m);
    w.run_for(sec(10));
  }
  const RequestId running = w.request("a", sec(5));
  w.settings().residency.max_loaded = 1;
  w.configure();
  w.run_for(sec(3));
  EXPECT_EQ(w.state("a"), InstanceState::kReady) << "it serves";
  EXPECT_EQ(w.state("b"), InstanceState::kAbsent);
  EXPECT_EQ(w.state("c"), InstanceState::kAbsent);
  w.run_for(sec(3));
  EXPECT_EQ(w.fate(running), RequestFate::kEnded);
}

TEST_F(Failure, ALowerDeviceLimitSheds) {
  World w;
  w.add_device("gpu", gib(30));
  w.add_model("a", gib(8));
  w.add_model("b", gib(8));
  w.configure();
  w.load("a");
  w.run_for(sec(10));
  w.load("b");
  w.run_for(sec(10));
  w.devices()[0].limit = gib(10);
  w.configure();
  w.run_for(sec(3));
  EXPECT_EQ(w.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(w.state("b"), InstanceState::kReady);
}

// ---- the end

TEST_F(Failure, ShutdownFromEveryStateLeavesNothing) {
  using enum InstanceState;
  for (const InstanceState when : {kAbsent, kQueued, kReserved, kStandbyTaken, kLoading, kReady, kDraining,
                                   kStopping, kReclaiming, kFailed}) {
    World w;
    w.add_device("gpu", gib(10));
    w.add_model("a", gib(4));
    w.configure();
    JobId unload;
    if (when != kAbsent) {
      if (when == kFailed) w.truth("a").fates = {LoadFate::kFails};
      w.load("a");
      if (when == kDraining || when == kStopping || when == kReclaiming) {
        ASSERT_TRUE(w.run_until_true([&] { return w.state("a") == kReady; }));
        w.request("a", when == kDraining ? sec(3) : ms(1));
        unload = w.unload("a");
      }
      ASSERT_TRUE(w.run_until_true([&] { return w.state("a") == when; })) << to_string(when);
    }
    const RequestId waiting = w.request("a");
    w.shut_down(sec(5));
    EXPECT_EQ(w.reason(w.request("a")), "shutting_down");
    EXPECT_EQ(w.of(w.load("a")).error->reason, "shutting_down");
    w.run_for(sec(20));
    EXPECT_TRUE(w.shutdown_finished()) << to_string(when);
    EXPECT_EQ(w.workers(), 0);
    EXPECT_NE(w.fate(waiting), RequestFate::kWaiting);
    if (unload) {
      EXPECT_TRUE(w.of(unload).done);
    }
  }
}

TEST_F(Failure, ShutdownLetsAnswersRunUntilItsDeadline) {
  make_ready("a");
  const RequestId quick = world.request("a", sec(3));
  const RequestId endless = world.request("a");
  world.shut_down(sec(5));
  world.run_for(sec(4));
  EXPECT_EQ(world.fate(quick), RequestFate::kEnded);
  EXPECT_EQ(world.fate(endless), RequestFate::kGranted);
  EXPECT_FALSE(world.shutdown_finished());
  world.run_for(sec(2));
  EXPECT_TRUE(world.of(endless).cut);
  world.run_for(sec(1));
  EXPECT_TRUE(world.shutdown_finished());
}

TEST_F(Failure, ASecondShutdownMayOnlyHasten) {
  make_ready("a");
  world.request("a");
  world.shut_down(sec(60));
  world.shut_down(sec(2));
  world.run_for(sec(4));
  EXPECT_TRUE(world.shutdown_finished());
}

TEST_F(Failure, ALoadThatFailsDuringShutdownDoesNotKeepItFromEnding) {
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").stop_time = ms(300);
  world.request("a");
  come_to("a", InstanceState::kStopping);
  world.shut_down(sec(1));
  world.run_for(sec(5));
  EXPECT_TRUE(world.shutdown_finished());
}

}  // namespace
}  // namespace lm::core
