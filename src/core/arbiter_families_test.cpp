// One family at a time: what is released for whom, what fails and what stays true.
#include "core/arbiter_world.h"

namespace lm::core::testing {
namespace {

using ::testing::Test;

// A card of 24 GiB; a local chat model, a local embedding model, an Ollama on this machine and a remote
// provider.
class Families : public Test {
 protected:
  Families() : world_(Settings{}) {
    world_.add_device("gpu", gib(24));
    world_.add_model("qwen", gib(8));
    world_.add_model("other", gib(6));
    world_.add_model("embed", gib(1)).kind = ModelKind::kEmbedding;
    world_.add_upstream("ollama", Family::kOllama);
    world_.add_remote_model("ollama_llama", "ollama", gib(5));
    world_.add_remote_model("ollama_phi", "ollama", gib(3));
    world_.add_remote_model("ollama_minilm", "ollama", gib(1)).kind = ModelKind::kEmbedding;
    world_.add_upstream("cloud", Family::kOpenai, false);
    world_.add_remote_model("openai_gpt", "cloud");
    world_.configure();
  }

  void have_local() {
    const RequestId r = world_.request("qwen", sec(0.1));
    ASSERT_TRUE(world_.run_until_true([&] { return world_.fate(r) == RequestFate::kEnded; }));
  }
  RequestId ask(const std::string& model, double service = 0.1) {
    return world_.request(model, sec(service));
  }
  bool served(RequestId r) {
    return world_.run_until_true([&] { return world_.fate(r) == RequestFate::kEnded; });
  }
  std::vector<Switch> switches(SwitchStage stage) const {
    std::vector<Switch> found;
    for (const PublishSwitch& told : world_.told<PublishSwitch>()) {
      if (told.change.stage == stage) found.push_back(told.change);
    }
    return found;
  }

  World world_;
};

TEST_F(Families, LocalGoesBeforeOllamaIsLoadedAndTheReleaseIsProved) {
  have_local();
  const RequestId r = ask("ollama_llama");
  EXPECT_EQ(world_.upstream("ollama").loads, 0) << "not before the release is measured";
  ASSERT_TRUE(served(r));
  EXPECT_FALSE(world_.has_worker("qwen"));
  EXPECT_EQ(world_.upstream("ollama").loads, 1);
  ASSERT_EQ(switches(SwitchStage::kDone).size(), 1U);
  const Switch done = switches(SwitchStage::kDone).front();
  EXPECT_EQ(done.from, Family::kLocal);
  EXPECT_EQ(done.to, Family::kOllama);
  EXPECT_EQ(done.to_model, ModelId("ollama_llama"));
  ASSERT_EQ(done.released.size(), 1U);
  EXPECT_EQ(done.released.front().model, ModelId("qwen"));
  EXPECT_TRUE(done.release->proved());
  EXPECT_EQ(done.release->freed, gib(8));
  EXPECT_EQ(done.fit_would_have_kept, gib(8)) << "both would have fitted into 24 GiB";
  EXPECT_EQ(world_.snapshot().family, Family::kOllama);
}

TEST_F(Families, TheStagesOfASwitchAreToldInTheirOrder) {
  have_local();
  ASSERT_TRUE(served(ask("ollama_llama")));
  std::vector<SwitchStage> stages;
  for (const PublishSwitch& told : world_.told<PublishSwitch>()) stages.push_back(told.change.stage);
  EXPECT_EQ(stages, (std::vector{SwitchStage::kBegan, SwitchStage::kReleased, SwitchStage::kLoading,
                                 SwitchStage::kDone}));
}

TEST_F(Families, OllamaGivesEverythingBackBeforeLocalIsLoadedAgain) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const RequestId r = ask("qwen");
  EXPECT_EQ(world_.loads("qwen"), 0);
  ASSERT_TRUE(served(r));
  EXPECT_EQ(world_.upstream("ollama").evictions, 1);
  EXPECT_TRUE(world_.upstream("ollama").held.empty());
  const Switch back = switches(SwitchStage::kDone).back();
  EXPECT_EQ(back.from, Family::kOllama);
  EXPECT_EQ(back.to, Family::kLocal);
  EXPECT_EQ(back.released.front().model, ModelId("ollama"));
  EXPECT_EQ(back.release->freed, gib(5));
}

TEST_F(Families, WithinAFamilyNothingIsSwitched) {
  have_local();
  ASSERT_TRUE(served(ask("other")));
  EXPECT_TRUE(world_.has_worker("qwen"));
  ASSERT_TRUE(served(ask("ollama_llama")));
  const std::size_t told = world_.told<PublishSwitch>().size();
  ASSERT_TRUE(served(ask("ollama_phi")));
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
}

// The room of the model that answers goes to the other one of its family, who asked first: the change to
// Ollama begins after that, instead of beginning, being cancelled and beginning again.
TEST_F(Families, RoomMadeWithinAFamilyIsNoSwitchAlsoWhereAnotherFamilyWaits) {
  world_.add_model("long", gib(16));
  world_.add_model("wide", gib(16));
  world_.configure();
  const RequestId running = ask("long", 5);
  world_.run_for(sec(2));
  ASSERT_EQ(world_.fate(running), RequestFate::kGranted);
  const RequestId next = ask("wide");
  world_.run_for(ms(100));
  const RequestId elsewhere = ask("ollama_llama");
  ASSERT_TRUE(served(elsewhere));
  EXPECT_EQ(world_.fate(next), RequestFate::kEnded);
  for (const PublishSwitch& told : world_.told<PublishSwitch>()) EXPECT_NE(told.change.from, told.change.to);
  EXPECT_TRUE(switches(SwitchStage::kCancelled).empty()) << "its request waited all the time";
  ASSERT_EQ(switches(SwitchStage::kDone).size(), 1U);
  EXPECT_EQ(switches(SwitchStage::kDone).front().to, Family::kOllama);
}

TEST_F(Families, FromAModelElsewhereToAnotherOneOfItsFamilyNothingIsSwitched) {
  world_.add_upstream("other_cloud", Family::kOpenai, false);
  world_.add_remote_model("other_gpt", "other_cloud");
  world_.configure();
  const JobId first = world_.choose("openai_gpt");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(first).done; }));
  const std::size_t told = world_.told<PublishSwitch>().size();
  const JobId second = world_.choose("other_gpt");
  ASSERT_TRUE(world_.of(second).done);
  EXPECT_FALSE(world_.of(second).error);
  EXPECT_TRUE(world_.of(second).result.changed);
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.snapshot().selected, ModelId("other_gpt"));
}

TEST_F(Families, FromAModelHereToOneOfItsFamilyElsewhereNothingIsSwitched) {
  world_.add_upstream("router", Family::kOpenai);
  world_.add_remote_model("router_big", "router", gib(5));
  world_.configure();
  ASSERT_TRUE(served(ask("router_big")));
  const std::size_t told = world_.told<PublishSwitch>().size();
  const JobId job = world_.choose("openai_gpt");
  ASSERT_TRUE(world_.of(job).done);
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.snapshot().selected, ModelId("openai_gpt"));
  EXPECT_TRUE(world_.snapshot().remote_selected);
}

// ---- a choice within a family that fails

TEST_F(Families, WhereAChoiceWithinAFamilyFailsThePreviousOneIsSelectedAgain) {
  have_local();
  world_.truth("other").fates = {LoadFate::kFails};
  const JobId job = world_.choose("other");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  ASSERT_TRUE(world_.of(job).error);
  EXPECT_NE(world_.of(job).error->message.find("local (qwen) is selected again"), std::string::npos)
      << world_.of(job).error->message;
  EXPECT_EQ(world_.snapshot().selected, ModelId("qwen"));
  EXPECT_TRUE(world_.told<PublishSwitch>().empty());
}

TEST_F(Families, WhereAServerDoesNotStartThePreviousOneIsSelectedAgain) {
  world_.add_upstream("router", Family::kOpenai);
  world_.add_remote_model("router_big", "router", gib(5));
  world_.add_upstream("broken", Family::kOpenai);
  world_.add_remote_model("broken_big", "broken", gib(5));
  world_.configure();
  ASSERT_TRUE(served(ask("router_big")));
  world_.upstream("broken").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "it ended with 1", .reason = "command_failed"};
  const JobId job = world_.choose("broken_big");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  ASSERT_TRUE(world_.of(job).error);
  EXPECT_NE(world_.of(job).error->message.find("(router_big) is selected again"), std::string::npos)
      << world_.of(job).error->message;
  EXPECT_EQ(world_.snapshot().selected, ModelId("router_big"));
}

// One chosen over the one that fails falls back to what was there before both.
TEST_F(Families, OfTwoChoicesThatFailNeitherIsSelected) {
  have_local();
  world_.add_model("third", gib(2));
  world_.configure();
  world_.truth("other").fates = {LoadFate::kFails};
  world_.truth("third").fates = {LoadFate::kFails};
  const JobId first = world_.choose("other");
  const JobId second = world_.choose("third");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(first).done && world_.of(second).done; }));
  world_.run_for(sec(1));
  EXPECT_EQ(world_.snapshot().selected, ModelId("qwen"));
}

// What is chosen is loaded, also where another model of its upstream has the devices already.
TEST_F(Families, AnExplicitChoiceWithinAnUpstreamLoadsIt) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.see("ollama");
  const std::size_t told = world_.told<PublishSwitch>().size();
  const JobId job = world_.choose("ollama_phi");
  EXPECT_FALSE(world_.of(job).done) << "not before it is there";
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  EXPECT_FALSE(world_.of(job).error);
  EXPECT_TRUE(world_.of(job).result.changed);
  EXPECT_EQ(world_.told<LoadAtUpstream>().size(), 1U);
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told) << "no change of families";
  EXPECT_EQ(world_.snapshot().selected, ModelId("ollama_phi"));
  const JobId again = world_.choose("ollama_phi");
  EXPECT_TRUE(world_.of(again).done);
  EXPECT_FALSE(world_.of(again).result.changed);
}

TEST_F(Families, AnExplicitChoiceWithinAnUpstreamEndsWhateverItSays) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.see("ollama");
  world_.upstream("ollama").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "no such file", .reason = "load_failed"};
  const JobId refused = world_.choose("ollama_phi");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(refused).done; }));
  ASSERT_TRUE(world_.of(refused).error);
  EXPECT_EQ(world_.of(refused).error->reason, "load_failed");
  EXPECT_EQ(world_.snapshot().selected, ModelId("ollama_llama"));
  // One that never answers: its deadline ends the wait.
  world_.upstream("ollama").answers = false;
  const JobId silent = world_.choose("ollama_phi");
  world_.run_for(minutes(120));
  ASSERT_TRUE(world_.of(silent).done);
  EXPECT_EQ(world_.of(silent).error->reason, "wait_expired");
}

TEST_F(Families, AnEmbeddingModelNeverStartsASwitch) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const std::size_t told = world_.told<PublishSwitch>().size();
  ASSERT_TRUE(served(ask("embed")));
  ASSERT_TRUE(served(ask("ollama_minilm")));
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.upstream("ollama").evictions, 0);
  EXPECT_TRUE(world_.has_worker("embed"));
}

TEST_F(Families, ALocalEmbeddingModelStaysWhenItsFamilyGoes) {
  have_local();
  ASSERT_TRUE(served(ask("embed")));
  ASSERT_TRUE(served(ask("ollama_llama")));
  EXPECT_TRUE(world_.has_worker("embed"));
  EXPECT_FALSE(world_.has_worker("qwen"));
}

TEST_F(Families, ARemoteRequestWaitsForNothingAndLocalGoesAfterTheLinger) {
  have_local();
  const RequestId r = ask("openai_gpt");
  EXPECT_EQ(world_.fate(r), RequestFate::kGranted) << "in the very step";
  world_.run_for(sec(29));
  EXPECT_TRUE(world_.has_worker("qwen"));
  world_.run_for(sec(3));
  EXPECT_FALSE(world_.has_worker("qwen"));
  ASSERT_EQ(switches(SwitchStage::kDone).size(), 1U);
  EXPECT_TRUE(switches(SwitchStage::kDone).front().to_remote);
  EXPECT_EQ(switches(SwitchStage::kDone).front().release->freed, gib(8));
}

TEST_F(Families, ASwitchBackWithinTheLingerCancelsAnUnloadThatHasNotBegun) {
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(20));
  ASSERT_TRUE(served(ask("qwen")));
  world_.run_for(sec(60));
  EXPECT_TRUE(world_.has_worker("qwen"));
  EXPECT_EQ(world_.loads("qwen"), 1);
  EXPECT_TRUE(world_.told<PublishSwitch>().empty());
}

// What was chosen elsewhere while one family at a time was the rule counts for nothing once it was not.
TEST_F(Families, AChoiceElsewhereEndsWithTheRuleItWasMadeUnder) {
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(5));
  world_.settings().residency.mode = ResidencyMode::kFit;
  world_.configure();
  world_.run_for(sec(20));
  world_.settings().residency.mode = ResidencyMode::kExclusive;
  world_.configure();
  world_.run_for(sec(60));
  EXPECT_TRUE(world_.has_worker("qwen")) << "nobody chose anything since";
  EXPECT_TRUE(switches(SwitchStage::kBegan).empty());
}

TEST_F(Families, AChoiceElsewhereEndsWithItsModel) {
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(5));
  std::erase_if(world_.models(), [](const Model& m) { return m.id == ModelId("openai_gpt"); });
  world_.configure();
  world_.run_for(sec(60));
  EXPECT_TRUE(world_.has_worker("qwen"));
  world_.add_remote_model("openai_gpt", "cloud");
  world_.configure();
  world_.run_for(sec(60));
  EXPECT_TRUE(world_.has_worker("qwen")) << "it is there again, and nobody asked for it";
}

TEST_F(Families, AChoiceElsewhereEndsWhereItsUpstreamTurnsOutToShareOurDevices) {
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(5));
  world_.upstream("cloud").upstream.shares_devices = true;
  world_.configure();
  world_.run_for(sec(60));
  EXPECT_TRUE(world_.has_worker("qwen")) << "the linger is of those that need nothing of ours";
}

TEST_F(Families, OfTwoChosenElsewhereTheLaterIsSelected) {
  world_.add_remote_model("openai_mini", "cloud");
  world_.configure();
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(20));
  ask("openai_mini");
  world_.run_for(sec(15));
  EXPECT_FALSE(world_.has_worker("qwen")) << "the linger counts from the first";
  EXPECT_EQ(world_.snapshot().selected, ModelId("openai_mini"));
  EXPECT_TRUE(world_.snapshot().remote_selected);
}

TEST_F(Families, MixedTrafficUnloadsLocalAtMostOncePerLinger) {
  have_local();
  for (int i = 0; i < 600; ++i) {
    ask("openai_gpt");
    if (i % 3 == 0) ask("qwen");
    world_.run_for(sec(1));
  }
  EXPECT_EQ(world_.loads("qwen"), 1);
}

// One provider elsewhere and a server of the same family here.
TEST_F(Families, FromAModelElsewhereToOneOfItsFamilyHereNothingIsSwitched) {
  world_.add_upstream("router", Family::kOpenai);
  world_.add_remote_model("router_big", "router", gib(5));
  world_.configure();
  ASSERT_TRUE(served(ask("openai_gpt")));
  const JobId job = world_.choose("openai_gpt");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  const std::size_t told = world_.told<PublishSwitch>().size();
  ASSERT_TRUE(served(ask("router_big")));
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.snapshot().selected, ModelId("router_big"));
}

TEST_F(Families, ComingBackFromRemoteOnlyLoads) {
  have_local();
  ask("openai_gpt");
  world_.run_for(sec(40));
  ASSERT_TRUE(served(ask("qwen")));
  const Switch back = switches(SwitchStage::kDone).back();
  EXPECT_EQ(back.to, Family::kLocal);
  EXPECT_TRUE(back.released.empty());
  EXPECT_EQ(world_.loads("qwen"), 2);
}

TEST_F(Families, AnExplicitChoiceOfARemoteModelReleasesLocalAtOnce) {
  have_local();
  const JobId job = world_.choose("openai_gpt");
  world_.run_for(sec(1));
  ASSERT_TRUE(world_.of(job).done);
  EXPECT_FALSE(world_.of(job).error);
  EXPECT_FALSE(world_.has_worker("qwen"));
  ASSERT_TRUE(world_.of(job).result.release);
  EXPECT_EQ(world_.of(job).result.release->freed, gib(8));
  const JobId again = world_.choose("openai_gpt");
  EXPECT_TRUE(world_.of(again).done);
  EXPECT_FALSE(world_.of(again).result.changed) << "what is active does nothing";
}

// Local requests that keep coming choose local again, after what was chosen has happened and was told.
TEST_F(Families, AnExplicitRemoteChoiceIsNotOvertakenByLocalTraffic) {
  have_local();
  std::vector<RequestId> asked;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 4; ++i) asked.push_back(ask(i % 2 == 0 ? "qwen" : "other"));
    const JobId job = world_.choose("openai_gpt");
    ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
    EXPECT_FALSE(world_.of(job).error) << round;
    world_.run_for(ms(500));
  }
  for (const RequestId r : asked) EXPECT_TRUE(served(r));
  // What was on its way back to local was overtaken by the explicit choice, never the other way round.
  for (const Switch& change : switches(SwitchStage::kCancelled)) EXPECT_FALSE(change.to_remote);
}

TEST_F(Families, AnExplicitChoiceReportsWhatWasReleased) {
  have_local();
  const JobId job = world_.choose("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  ASSERT_TRUE(world_.of(job).result.switched);
  EXPECT_EQ(world_.of(job).result.switched->stage, SwitchStage::kDone);
  EXPECT_EQ(world_.of(job).result.release->freed, gib(8));
  const JobId again = world_.choose("ollama_llama");
  EXPECT_TRUE(world_.of(again).done);
  EXPECT_FALSE(world_.of(again).result.changed);
}

TEST_F(Families, RunningAnswersEndBeforeTheirFamilyGoes) {
  have_local();
  const RequestId running = ask("qwen", 20);
  const RequestId next = ask("ollama_llama");
  ASSERT_TRUE(served(next));
  EXPECT_EQ(world_.fate(running), RequestFate::kEnded);
  EXPECT_FALSE(world_.of(running).cut);
  EXPECT_GE(world_.of(next).answered, world_.of(running).arrived + sec(20));
}

TEST_F(Families, NeitherFamilyStarvesTheOther) {
  Duration worst{};
  std::vector<RequestId> asked;
  for (int i = 0; i < 2000; ++i) {
    asked.push_back(ask(i % 10 == 0 ? "ollama_llama" : "qwen", 0.15));
    world_.run_for(sec(0.2));
  }
  world_.run_for(sec(200));
  for (const RequestId r : asked) {
    ASSERT_EQ(world_.fate(r), RequestFate::kEnded);
    worst = std::max(worst, world_.of(r).answered - world_.of(r).arrived);
  }
  EXPECT_LT(worst, sec(90));
}

// ---- what goes wrong

TEST_F(Families, AnUnreachableUpstreamFailsBeforeAnythingIsUnloaded) {
  have_local();
  world_.model("ollama_llama").problem = Error{
      .code = ErrorCode::kUnavailable, .message = "cannot be reached", .reason = "upstream_unreachable"};
  world_.configure();
  const RequestId r = ask("ollama_llama");
  EXPECT_TRUE(world_.rejected(r));
  EXPECT_EQ(world_.reason(r), "upstream_unreachable");
  EXPECT_EQ(world_.state("qwen"), InstanceState::kReady);
  const JobId job = world_.choose("ollama_llama");
  EXPECT_TRUE(world_.of(job).error);
  EXPECT_EQ(world_.state("qwen"), InstanceState::kReady);
}

TEST_F(Families, WhereTheNewFamilyFailsTheOldIsSelectedAgain) {
  have_local();
  world_.upstream("ollama").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "ollama says no", .reason = "bad_upstream"};
  const JobId job = world_.choose("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  ASSERT_TRUE(world_.of(job).error);
  EXPECT_NE(world_.of(job).error->message.find("local (qwen) is selected again"), std::string::npos)
      << world_.of(job).error->message;
  EXPECT_EQ(world_.snapshot().family, Family::kLocal);
  ASSERT_EQ(switches(SwitchStage::kFailed).size(), 1U);
  world_.upstream("ollama").load_error.reset();
  ASSERT_TRUE(served(ask("qwen"))) << "the next request reloads it";
  EXPECT_EQ(world_.loads("qwen"), 2);
}

// ---- a load that its upstream refuses

TEST_F(Families, WhatAnUpstreamCouldNotLoadIsNotTriedAgainAtOnce) {
  have_local();
  world_.upstream("ollama").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "ollama says no", .reason = "bad_upstream"};
  const RequestId first = ask("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(first); }));
  const std::size_t told = world_.told<PublishSwitch>().size();
  const std::size_t ordered = world_.told<StartLoad>().size();
  const RequestId again = ask("ollama_llama");
  ASSERT_TRUE(world_.rejected(again)) << "in the very step";
  EXPECT_EQ(world_.reason(again), "bad_upstream");
  EXPECT_GT(world_.of(again).error->retry_after.value_or(Duration()), Duration());
  EXPECT_EQ(world_.of(again).error->message, "ollama says no") << "nothing was released for this one";
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.told<StartLoad>().size(), ordered);
  const Snapshot now = world_.snapshot();
  const auto view =
      std::ranges::find(now.models, ModelId("ollama_llama"), [](const ModelView& v) { return v.model.id; });
  EXPECT_EQ(view->state, PublishedState::kFailed);
  ASSERT_TRUE(view->error);
  EXPECT_EQ(view->error->reason, "bad_upstream");
  world_.upstream("ollama").load_error.reset();
  ASSERT_TRUE(served(ask("ollama_phi"))) << "another one of its models has done nothing";
  ASSERT_TRUE(served(ask("ollama_llama"))) << "its server has the devices: it may answer itself";
}

TEST_F(Families, WhatFailsAtAnUpstreamUnloadsOthersMoreAndMoreRarely) {
  world_.upstream("ollama").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "ollama says no", .reason = "bad_upstream"};
  for (int i = 0; i < 120; ++i) {
    ask("qwen");
    ask("ollama_llama");
    world_.run_for(sec(1));
  }
  EXPECT_GE(switches(SwitchStage::kFailed).size(), 3U);
  EXPECT_LE(switches(SwitchStage::kFailed).size(), 8U);
}

TEST_F(Families, WhoInsistsHasAFailedLoadTriedAgainAndASuccessForgetsIt) {
  have_local();
  world_.upstream("ollama").load_error =
      Error{.code = ErrorCode::kUnavailable, .message = "ollama says no", .reason = "bad_upstream"};
  const RequestId first = ask("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(first); }));
  world_.upstream("ollama").load_error.reset();
  const JobId job = world_.choose("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  EXPECT_FALSE(world_.of(job).error);
  ASSERT_TRUE(served(ask("qwen")));
  ASSERT_TRUE(served(ask("ollama_llama")));
}

// Three wait at the seat of an upstream that is asked for one model after the other.
TEST_F(Families, WhoWaitsForAnotherModelOfAnUpstreamGetsThatOnesError) {
  have_local();
  world_.add_remote_model("ollama_tiny", "ollama", gib(1));
  world_.configure();
  UpstreamTruth& ollama = world_.upstream("ollama");
  ollama.load_errors["ollama_llama"] =
      Error{.code = ErrorCode::kUnavailable, .message = "llama is broken", .reason = "bad_upstream"};
  ollama.load_errors["ollama_phi"] =
      Error{.code = ErrorCode::kUnavailable, .message = "phi is broken", .reason = "bad_upstream"};
  const RequestId first = ask("ollama_llama");
  const RequestId second = ask("ollama_phi");
  const RequestId third = ask("ollama_tiny");
  const RequestId fourth = ask("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(first); }));
  EXPECT_TRUE(world_.rejected(fourth)) << "it waited for the same model";
  EXPECT_FALSE(world_.rejected(second));
  ASSERT_TRUE(served(third));
  EXPECT_TRUE(world_.rejected(second));
  for (const auto& [request, words] :
       {std::pair(first, "llama"), std::pair(fourth, "llama"), std::pair(second, "phi")})
    EXPECT_TRUE(world_.of(request).error->message.starts_with(std::string(words) + " is broken"))
        << world_.of(request).error->message;
  EXPECT_EQ(world_.snapshot().selected, ModelId("ollama_tiny"));
}

TEST_F(Families, AChoiceOfAnotherModelOfAnUpstreamThatLoadsOneIsLoadedToo) {
  const JobId one = world_.choose("ollama_llama");
  const JobId other = world_.choose("ollama_phi");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(one).done && world_.of(other).done; }));
  EXPECT_FALSE(world_.of(one).error);
  EXPECT_FALSE(world_.of(other).error);
  const auto& residents = world_.upstream("ollama").residents;
  EXPECT_TRUE(std::ranges::any_of(residents, [](const Resident& r) { return r.name == "ollama_phi"; }));
  EXPECT_EQ(world_.snapshot().selected, ModelId("ollama_phi"));
}

// Ollama goes on loading what nobody waits for any more.
TEST_F(Families, WhatWasCancelledWhileItLoadedIsNoChoice) {
  have_local();
  const RequestId left = ask("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.upstream("ollama").loads == 1; }));
  world_.run_for(ms(100));
  world_.cancel(left);
  world_.run_for(sec(5));
  ASSERT_EQ(world_.snapshot().family, Family::kLocal);
  const std::size_t told = world_.told<PublishSwitch>().size();
  const int evictions = world_.upstream("ollama").evictions;
  world_.intrude("ollama", "ollama_llama");
  world_.run_for(sec(5));
  EXPECT_EQ(world_.snapshot().family, Family::kLocal);
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told);
  EXPECT_EQ(world_.upstream("ollama").evictions, evictions + 1);
  EXPECT_TRUE(world_.upstream("ollama").held.empty());
  // Whoever loads it there after that means it.
  world_.intrude("ollama", "ollama_llama");
  world_.run_for(sec(5));
  EXPECT_EQ(world_.snapshot().family, Family::kOllama);
}

TEST_F(Families, AnUpstreamThatKeepsItsMemoryIsFoundOut) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").keeps_memory = true;
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  EXPECT_EQ(world_.reason(r), "upstream_not_released");
  EXPECT_EQ(world_.of(r).error->code, ErrorCode::kResourceExhausted);
  EXPECT_NE(world_.of(r).error->message.find("ollama runner (4711)"), std::string::npos);
  EXPECT_LE(world_.of(r).answered - world_.of(r).arrived, sec(45));
  EXPECT_EQ(world_.loads("qwen"), 0) << "never two families together";
  EXPECT_EQ(world_.snapshot().family, Family::kOllama) << "the previous selection is active again";
  // Until it gives it back nothing is loaded; then it goes on by itself.
  world_.run_for(sec(5));
  const RequestId again = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(again); }));
  world_.upstream("ollama").keeps_memory = false;
  world_.upstream("ollama").held = {};
  world_.see("ollama");
  ASSERT_TRUE(served(ask("qwen")));
}

// Its model is told to be on its way, as a model of ours is: else nobody sees what is waited for.
TEST_F(Families, AModelOfAnUpstreamThatIsWaitedForIsSeenToLoad) {
  have_local();
  const RequestId running = ask("qwen", 20);
  world_.run_for(ms(10));
  const RequestId next = ask("ollama_llama");
  world_.run_for(ms(10));
  ASSERT_EQ(world_.fate(running), RequestFate::kGranted);
  ASSERT_EQ(world_.fate(next), RequestFate::kWaiting);
  const auto state_of = [&](const std::string& model) {
    const Snapshot now = world_.snapshot();
    return std::ranges::find(now.models, ModelId(model), [](const ModelView& v) { return v.model.id; })
        ->state;
  };
  EXPECT_EQ(state_of("ollama_llama"), PublishedState::kLoading);
  EXPECT_EQ(state_of("ollama_phi"), PublishedState::kUnloaded);
  EXPECT_EQ(world_.snapshot().upstreams.back().instance->model, ModelId("ollama"));
}

TEST_F(Families, WhatAnUpstreamHadBeforeUsIsExpectedBack) {
  world_.intrude("ollama", "ollama_phi");
  ASSERT_TRUE(served(ask("qwen")));
  const ReleaseReport release = *switches(SwitchStage::kDone).back().release;
  EXPECT_EQ(release.freed, gib(3));
  EXPECT_EQ(release.expected, gib(3));
}

// Two that were together, of which one keeps its memory at once and the other takes its time to give it back.
TEST_F(Families, AFailedSwitchReportsEverybodyWhoWent) {
  world_.add_upstream("vllm", Family::kOllama);
  world_.add_remote_model("vllm_big", "vllm", gib(6));
  world_.configure();
  ASSERT_TRUE(served(ask("ollama_llama")));
  ASSERT_TRUE(served(ask("vllm_big")));
  world_.upstream("ollama").keeps_memory = true;
  world_.upstream("vllm").yield_time = sec(25);
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  EXPECT_EQ(world_.reason(r), "upstream_not_released");
  const Switch failed = switches(SwitchStage::kFailed).back();
  ASSERT_EQ(failed.released.size(), 2U);
  EXPECT_EQ(failed.release->freed, gib(6)) << "what did come back is told, too";
  EXPECT_EQ(failed.release->residual, gib(5));
}

// A plain llama-server: nobody can ask it. It stays beside, as it did before it was first used, instead of
// keeping everybody else out until somebody ends it.
TEST_F(Families, WhoHasNoWayToYieldKeepsNobodyOut) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").keeps_memory = true;
  world_.upstream("ollama").tells_residents = false;
  world_.upstream("ollama").residents.clear();
  world_.upstream("ollama").yield_error =
      Error{.code = ErrorCode::kFailedPrecondition, .message = "nobody can ask it", .reason = "cannot_yield"};
  ASSERT_TRUE(served(ask("qwen"))) << "19 GiB are free";
  EXPECT_EQ(switches(SwitchStage::kDone).back().released.back().report.outcome, ReleaseOutcome::kClings);
  EXPECT_EQ(switches(SwitchStage::kDone).back().fit_would_have_kept, Bytes()) << "it never went";
  ASSERT_TRUE(served(ask("ollama_llama")));
  ASSERT_TRUE(served(ask("qwen")));
}

TEST_F(Families, AnUpstreamThatIsSilentIsWaitedForToItsDeadline) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").answers = false;
  world_.upstream("ollama").keeps_memory = true;
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  EXPECT_EQ(world_.reason(r), "upstream_not_released");
  EXPECT_LE(world_.of(r).answered - world_.of(r).arrived, sec(60));
}

TEST_F(Families, AnUpstreamThatLiesInItsListIsBelievedTheMeasurement) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").keeps_listing = true;
  world_.upstream("ollama").yield_error =
      Error{.code = ErrorCode::kDeadlineExceeded, .message = "still lists llama", .reason = "still_resident"};
  ASSERT_TRUE(served(ask("qwen"))) << "its processes were seen to hold nothing";
}

TEST_F(Families, WithoutAMeasurementOfItsProcessesItsWordCounts) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").method = "device";
  world_.upstream("ollama").yield_error =
      Error{.code = ErrorCode::kDeadlineExceeded, .message = "still lists llama", .reason = "still_resident"};
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  EXPECT_EQ(world_.reason(r), "upstream_not_released");
}

// Neither proved nor stuck: nothing is claimed, nobody is blocked, and the card's own numbers decide.
TEST_F(Families, WhatCannotBeMeasuredIsNeitherClaimedNorWaitedFor) {
  world_.upstream("ollama").method = "none";
  world_.truth("ollama_llama").bytes = {};  // nor does it say what it takes
  ASSERT_TRUE(served(ask("ollama_llama")));
  const RequestId r = ask("qwen");
  ASSERT_TRUE(served(r));
  EXPECT_LE(world_.of(r).answered - world_.of(r).arrived, sec(5)) << "no measuring until a deadline";
  const ReleaseReport release = *switches(SwitchStage::kDone).back().release;
  EXPECT_EQ(release.outcome, ReleaseOutcome::kUnknown);
  EXPECT_FALSE(release.proved());
  EXPECT_EQ(release.freed, Bytes());
}

TEST_F(Families, WhatSaysNoAndCannotBeMeasuredIsStuck) {
  world_.upstream("ollama").method = "none";
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").yield_error =
      Error{.code = ErrorCode::kDeadlineExceeded, .message = "still lists llama", .reason = "still_resident"};
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  EXPECT_EQ(world_.reason(r), "upstream_not_released");
}

// Its list is empty at once; that is no measurement of what it was seen not to give back.
TEST_F(Families, ItsWordAloneDoesNotUnblockAnUpstream) {
  world_.upstream("ollama").method = "device";
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.upstream("ollama").keeps_memory = true;
  const RequestId r = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(r); }));
  world_.see("ollama");
  const RequestId again = ask("qwen");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.rejected(again); }));
  EXPECT_EQ(world_.reason(again), "upstream_not_released");
  EXPECT_EQ(world_.loads("qwen"), 0);
  // It is asked again when its time has come, and the device then tells.
  world_.upstream("ollama").keeps_memory = false;
  world_.upstream("ollama").held = {};
  world_.run_for(sec(61));
  ASSERT_TRUE(served(ask("qwen")));
}

TEST_F(Families, WhatSomebodyElseLoadedGoesToo) {
  world_.intrude("ollama", "ollama_phi");
  EXPECT_EQ(world_.snapshot().family, Family::kOllama);
  ASSERT_TRUE(served(ask("qwen")));
  EXPECT_EQ(world_.upstream("ollama").evictions, 1);
}

TEST_F(Families, AnIntruderIsSentAwayMoreAndMoreRarely) {
  have_local();
  ask("qwen", 3600);
  for (int i = 0; i < 300; ++i) {
    if (world_.upstream("ollama").residents.empty()) world_.intrude("ollama", "ollama_phi");
    world_.run_for(sec(1));
  }
  EXPECT_GE(world_.upstream("ollama").evictions, 4);
  EXPECT_LE(world_.upstream("ollama").evictions, 14);
  EXPECT_EQ(world_.loads("qwen"), 1) << "and nothing is taken from who is served";
}

TEST_F(Families, AnIntruderThatMeetsIdleModelsWasChosen) {
  have_local();
  world_.run_for(sec(31));
  world_.intrude("ollama", "ollama_phi");
  world_.run_for(sec(2));
  EXPECT_FALSE(world_.has_worker("qwen"));
  EXPECT_EQ(world_.snapshot().family, Family::kOllama);
  EXPECT_EQ(world_.upstream("ollama").evictions, 0);
}

TEST_F(Families, WhatItsUpstreamUnloadedHoldsNothingAnyMore) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  world_.run_for(sec(10));
  world_.upstream("ollama").residents.clear();
  world_.upstream("ollama").held = {};
  world_.see("ollama");
  world_.run_for(sec(1));
  EXPECT_FALSE(world_.snapshot().upstreams.front().instance);
  ASSERT_TRUE(served(ask("qwen")));
}

// Requests that come one after the other used to keep a dead server's seat taken for as long as they came.
TEST_F(Families, AServerThatHasEndedIsStartedAgainHoweverManyAsk) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const int loads = world_.upstream("ollama").loads;
  const RequestId broken = ask("ollama_llama", 3600);
  world_.run_for(ms(10));
  ASSERT_EQ(world_.fate(broken), RequestFate::kGranted);
  world_.upstream("ollama").runs = false;
  world_.upstream("ollama").residents.clear();
  world_.upstream("ollama").held = {};
  world_.see("ollama");
  std::vector<RequestId> asked;
  for (int i = 0; i < 5; ++i) {
    asked.push_back(ask("ollama_llama"));
    world_.run_for(sec(1));
  }
  EXPECT_EQ(world_.upstream("ollama").loads, loads + 1);
  for (const RequestId r : asked) EXPECT_TRUE(served(r));
  EXPECT_NE(world_.fate(broken), RequestFate::kGranted) << "its answer was not left to run for ever";
}

TEST_F(Families, NumbersOfSwitchesGoOnWhereAnEarlierDaemonEnded) {
  world_.tell(DesiredRestored{{}, {}, 41});
  have_local();
  ASSERT_TRUE(served(ask("ollama_llama")));
  EXPECT_EQ(switches(SwitchStage::kDone).back().id, 42U);
}

TEST_F(Families, AnIntruderIsSeenAsOne) {
  have_local();
  ask("qwen", 3600);
  EXPECT_FALSE(world_.snapshot().upstreams.front().intrudes);
  world_.intrude("ollama", "ollama_phi");
  EXPECT_TRUE(world_.snapshot().upstreams.front().intrudes);
}

TEST_F(Families, EverybodyLeavingCancelsTheSwitch) {
  have_local();
  const RequestId running = ask("qwen", 5);
  const RequestId r = ask("ollama_llama");
  world_.run_for(sec(5.2));
  EXPECT_TRUE(world_.snapshot().switching);
  world_.cancel(r);
  world_.run_for(sec(10));
  EXPECT_EQ(world_.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world_.snapshot().family, Family::kLocal);
  EXPECT_EQ(switches(SwitchStage::kCancelled).size(), 1U);
  ASSERT_TRUE(served(ask("qwen")));
}

TEST_F(Families, APinRestsWhileAnotherFamilyHasTheDevices) {
  world_.pin("qwen");
  world_.run_for(sec(5));
  ASSERT_TRUE(world_.has_worker("qwen"));
  ASSERT_TRUE(served(ask("ollama_llama")));
  EXPECT_FALSE(world_.has_worker("qwen"));
  world_.run_for(sec(300));
  EXPECT_FALSE(world_.has_worker("qwen"));
  ASSERT_TRUE(served(ask("other")));
  world_.run_for(sec(10));
  EXPECT_TRUE(world_.has_worker("qwen")) << "its family is back";
}

TEST_F(Families, UnloadOfAnUpstreamsModelReportsItsRelease) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const JobId job = world_.unload("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.of(job).done; }));
  ASSERT_TRUE(world_.of(job).result.release);
  EXPECT_EQ(world_.of(job).result.release->freed, gib(5));
  EXPECT_TRUE(world_.of(world_.unload("ollama_llama", true)).error) << "only local models are held";
  const JobId remote = world_.unload("openai_gpt");
  EXPECT_TRUE(world_.of(remote).done);
  EXPECT_FALSE(world_.of(remote).result.changed);
  EXPECT_TRUE(world_.of(world_.pin("ollama_llama")).error);
}

TEST_F(Families, UnloadAllIsAboutLocalModels) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const JobId job = world_.unload("");
  EXPECT_TRUE(world_.of(job).done);
  world_.run_for(sec(5));
  EXPECT_EQ(world_.upstream("ollama").evictions, 0);
}

TEST_F(Families, ShutdownLeavesOthersModelsAlone) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const RequestId running = ask("ollama_llama", 2);
  const RequestId remote = ask("openai_gpt", 3);
  world_.shut_down(sec(10));
  world_.run_for(sec(5));
  EXPECT_TRUE(world_.shutdown_finished());
  EXPECT_EQ(world_.fate(running), RequestFate::kEnded);
  EXPECT_EQ(world_.fate(remote), RequestFate::kEnded);
  EXPECT_EQ(world_.upstream("ollama").evictions, 0);
}

TEST_F(Families, ShutdownCutsARemoteAnswerAtItsDeadline) {
  const RequestId remote = ask("openai_gpt", 100);
  world_.shut_down(sec(10));
  world_.run_for(sec(11));
  EXPECT_TRUE(world_.of(remote).cut);
  EXPECT_TRUE(world_.shutdown_finished());
}

TEST_F(Families, InFitModeBothStayWhereBothFit) {
  world_.settings().residency.mode = ResidencyMode::kFit;
  world_.configure();
  have_local();
  ASSERT_TRUE(served(ask("ollama_llama")));
  EXPECT_TRUE(world_.has_worker("qwen"));
  EXPECT_TRUE(world_.told<PublishSwitch>().empty());
  // Only where the room is needed is the upstream asked to yield.
  world_.add_model("huge", gib(14));
  world_.configure();
  world_.measure();
  ASSERT_TRUE(served(ask("huge")));
  EXPECT_GE(world_.upstream("ollama").evictions + (world_.has_worker("qwen") ? 0 : 1), 1);
}

TEST_F(Families, BecomingExclusivePartsWhoIsTogether) {
  world_.settings().residency.mode = ResidencyMode::kFit;
  world_.configure();
  ASSERT_TRUE(served(ask("ollama_llama")));
  have_local();
  world_.settings().residency.mode = ResidencyMode::kExclusive;
  world_.configure();
  world_.run_for(sec(10));
  EXPECT_NE(world_.has_worker("qwen"), world_.snapshot().upstreams.back().instance.has_value());
}

// Another server than the one that holds the memory would be asked to give it back.
TEST_F(Families, AnUpstreamThatMovesLeavesWhatItHeldToStrangers) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  const RequestId running = ask("ollama_llama", 5);
  world_.run_for(ms(10));
  ASSERT_EQ(world_.fate(running), RequestFate::kGranted);
  UpstreamTruth& ollama = world_.upstream("ollama");
  world_.set_external("gpu", ollama.held.total());
  ollama.held = {};
  ollama.residents.clear();
  ollama.upstream.url = "http://elsewhere";
  std::erase_if(world_.models(), [](const Model& m) { return m.id.str() == "ollama_llama"; });
  world_.configure();
  EXPECT_EQ(world_.snapshot().selected, ModelId()) << "its model is gone";
  EXPECT_EQ(world_.device_view("gpu").external, gib(5)) << "also before it is measured";
  world_.measure();
  const std::size_t told = world_.told<PublishSwitch>().size();
  ASSERT_TRUE(served(ask("qwen")));
  EXPECT_EQ(ollama.evictions, 0);
  EXPECT_EQ(world_.told<PublishSwitch>().size(), told) << "nobody makes way";
  ASSERT_TRUE(served(ask("ollama_phi")));
  EXPECT_EQ(switches(SwitchStage::kDone).back().from, Family::kLocal);
}

TEST_F(Families, AnUpstreamThatMovesWhileItLoadsIsAskedAnew) {
  have_local();
  const RequestId r = ask("ollama_llama");
  ASSERT_TRUE(world_.run_until_true([&] { return world_.upstream("ollama").loads == 1; }));
  world_.upstream("ollama").upstream.url = "http://elsewhere";
  world_.configure();
  ASSERT_TRUE(served(r));
  EXPECT_EQ(world_.upstream("ollama").loads, 2);
}

TEST_F(Families, AnUpstreamTakenOutOfTheConfigurationIsForgotten) {
  ASSERT_TRUE(served(ask("ollama_llama")));
  std::erase_if(world_.models(),
                [](const Model& m) { return m.remote && m.remote->upstream.str() == "ollama"; });
  world_.remove_upstream("ollama");
  world_.configure();
  world_.run_for(sec(10));
  ASSERT_TRUE(served(ask("qwen")));
}

}  // namespace
}  // namespace lm::core::testing
