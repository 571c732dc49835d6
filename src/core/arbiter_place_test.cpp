// Models on several devices: where loads go, what they are charged, and who goes for them.
#include <gmock/gmock.h>

#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// `layers` of a GiB each, the output among them.
Extent in_layers(int layers, Bytes scratch = Bytes()) {
  Extent extent;
  extent.layers.resize(static_cast<std::size_t>(layers), {.weights = gib(1), .cache = Bytes()});
  extent.scratch = scratch;
  return extent;
}

struct Several : ::testing::Test {
  void cards(const std::vector<Bytes>& capacities) {
    for (std::size_t i = 0; i < capacities.size(); ++i)
      world.add_device("cuda" + std::to_string(i), capacities[i]);
  }
  // Each behind an RPC server of its own.
  void servers(const std::vector<Bytes>& capacities) {
    for (std::size_t i = 0; i < capacities.size(); ++i) {
      world.add_device("rpc" + std::to_string(i), capacities[i]);
      world.devices().back().kind = DeviceKind::kRpc;
      world.devices().back().server = "host:" + std::to_string(i);
    }
  }
  Model& model(const std::string& id, int layers, Bytes scratch = Bytes()) {
    Model& added = world.add_model(id, DeviceBytes{{DeviceId("cuda0"), gib(layers)}});
    world.truth(id).extent = in_layers(layers, scratch);
    return added;
  }
  RequestId served(const std::string& id) {
    const RequestId request = world.request(id, sec(1));
    world.run_for(sec(5));
    EXPECT_EQ(world.fate(request), RequestFate::kEnded) << id << ": " << world.reason(request);
    return request;
  }
  std::vector<std::string> where(const std::string& id) {
    std::vector<std::string> devices;
    const ModelView view = world.view(id);
    if (!view.instance) return devices;
    for (const LayerShare& share : view.instance->shares)
      devices.push_back(share.device.str() +
                        (share.layers > 0 ? ":" + std::to_string(share.layers) : std::string()));
    return devices;
  }
  Bytes reserved(const std::string& device) { return world.device_view(device).reserved; }
  // Its worker says that a device is gone, and dies of it.
  void lose(const std::string& id, const std::string& device) {
    const InstanceView view = *world.view(id).instance;
    world.end_with(view.id, Error{.code = ErrorCode::kUnavailable,
                                  .message = device + " is gone",
                                  .reason = "device_lost",
                                  .fields = {{"device", device}},
                                  .retry_after = {}});
  }
  World world;
};

TEST_F(Several, EachGoesWhereMostIsFree) {
  cards({gib(8), gib(10)});
  for (const char* id : {"a", "b", "c"}) model(id, 4);
  world.configure();
  served("a");
  EXPECT_THAT(where("a"), ElementsAre("cuda1"));
  served("b");
  EXPECT_THAT(where("b"), ElementsAre("cuda0"));
  served("c");
  EXPECT_THAT(where("c"), ElementsAre("cuda1")) << "6 GiB are left there and 4 here";
  EXPECT_EQ(reserved("cuda0"), gib(4));
  EXPECT_EQ(reserved("cuda1"), gib(8));
  EXPECT_EQ(world.out_of_memory(), 0);
}

// It used to be refused and tried again at the same moment, for ever.
TEST_F(Several, APinWaitsForTheOnlyDeviceThatItMayHave) {
  servers({gib(8), gib(8)});
  Model& pinned = model("a", 2);
  pinned.load.device = "rpc0";
  pinned.policy.pinned = true;
  world.configure();
  world.run_for(sec(5));
  ASSERT_TRUE(world.has_worker("a"));
  lose("a", "rpc0");
  world.run_for(sec(60));
  EXPECT_FALSE(world.has_worker("a"));
  const RequestId asked = world.request("a", sec(1));
  world.run_for(sec(1));
  EXPECT_TRUE(world.rejected(asked));
  EXPECT_EQ(world.reason(asked), "device_lost");
  world.configure();  // it is there again
  world.run_for(sec(10));
  EXPECT_TRUE(world.has_worker("a"));
}

TEST_F(Several, WhatAnOwnerReservesIsLeftFree) {
  cards({gib(8)});
  model("a", 3);
  Model& x = model("x", 5);
  x.placement.reserve = {{DeviceId("all"), gib(2)}};
  Model& large = model("large", 7);
  large.placement.reserve = {{DeviceId("all"), gib(2)}};
  world.configure();
  served("a");
  const RequestId refused = world.request("large", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(refused), "insufficient_memory") << "7 of 8 with 2 to be left";
  served("x");
  EXPECT_FALSE(world.has_worker("a")) << "beside it nothing would be left";
}

// A server's device is charged whole, so the reserve asked for more than there is: it was refused for ever,
// and as a pin it sent away whoever came.
TEST_F(Several, WhatAnOwnerReservesIsLeftFreeOnAServersDeviceToo) {
  servers({gib(8)});
  Model& x = model("x", 5);
  x.placement.reserve = {{DeviceId("all"), gib(2)}};
  Model& large = model("large", 7);
  large.placement.reserve = {{DeviceId("all"), gib(2)}};
  world.configure();
  const RequestId refused = world.request("large", sec(1));
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(refused), "insufficient_memory") << "7 of 8 with 2 to be left";
  served("x");
}

TEST_F(Several, WhatFitsOnNoneIsCut) {
  cards({gib(8), gib(8)});
  model("big", 12);
  world.configure();
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("cuda0:6", "cuda1:6"));
  EXPECT_EQ(reserved("cuda0"), gib(6));
  EXPECT_EQ(reserved("cuda1"), gib(6));
  const auto orders = world.told<StartLoad>();
  ASSERT_EQ(orders.size(), 1u);
  EXPECT_EQ(orders[0].options.shares.size(), 2u);
  EXPECT_EQ(orders[0].reservation.total(), gib(12));
  const JobId unload = world.unload("big");
  world.run_for(sec(5));
  EXPECT_TRUE(world.of(unload).done);
  EXPECT_EQ(world.of(unload).result.release->freed, gib(12));
  EXPECT_EQ(reserved("cuda0") + reserved("cuda1"), Bytes());
}

TEST_F(Several, WhereItLiesIsLookedAtAndSaid) {
  cards({gib(8), gib(8)});
  model("big", 12);
  model("liar", 2);
  world.configure();
  served("big");
  const auto said = [&](const std::string& id) {
    std::string all;
    for (const RecordDecision& d : world.told<RecordDecision>()) {
      if (d.decision.model == ModelId(id) && d.decision.kind == DecisionKind::kLoad)
        all += d.decision.why + "\n";
    }
    return all;
  };
  EXPECT_THAT(said("big"), HasSubstr("it lies where it was placed: 6.00 GB on cuda0, 6.00 GB on cuda1"));
  world.truth("liar").lands_on = DeviceId("cuda1");
  served("liar");
  ASSERT_THAT(where("liar"), ElementsAre("cuda0"));
  EXPECT_THAT(said("liar"), HasSubstr("it does not lie where it was placed: 2.00 GB on cuda1"));
}

TEST_F(Several, WhatWasLearnedInOnePieceIsLookedAtAgainWhenItMustBeCut) {
  cards({gib(12), gib(8)});
  model("big", 12);
  model("small", 4);
  world.truth("big").tells_layers_when_asked = true;
  world.configure();
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("cuda0"));
  world.unload("big");
  world.run_for(sec(5));
  world.load("small");
  world.run_for(sec(5));
  world.pin("small");
  EXPECT_THAT(where("small"), ElementsAre("cuda0"));
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("cuda0:6", "cuda1:6"));
  EXPECT_EQ(world.told<PredictFootprint>().back().layers, true);
}

TEST_F(Several, ASecondTimeItIsChargedWhatItWasMeasuredToTake) {
  cards({gib(8), gib(8)});
  model("big", 12);
  world.truth("big").extent->scratch = mib(200);
  world.truth("big").predicted_extent = in_layers(12);  // it does not know of the scratch
  world.configure();
  served("big");
  EXPECT_EQ(world.told<StartLoad>().back().reservation.total(), gib(12));
  world.unload("big");
  world.run_for(sec(5));
  served("big");
  EXPECT_EQ(world.told<StartLoad>().back().reservation.total(), gib(12) + mib(400));
  EXPECT_THAT(where("big"), ElementsAre("cuda0:6", "cuda1:6"));
}

TEST_F(Several, OneThatLiesOnTwoMakesRoomOnBoth) {
  cards({gib(8), gib(8)});
  model("big", 12);
  model("a", 7);
  model("b", 7);
  world.configure();
  served("big");
  served("a");
  EXPECT_EQ(world.state("big"), InstanceState::kAbsent);
  EXPECT_THAT(where("a"), ElementsAre("cuda0"));
  served("b");
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "there is room beside it";
  EXPECT_THAT(where("b"), ElementsAre("cuda1"));
  served("big");
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.state("b"), InstanceState::kAbsent);
  EXPECT_THAT(where("big"), ElementsAre("cuda0:6", "cuda1:6"));
  EXPECT_EQ(world.out_of_memory(), 0);
}

TEST_F(Several, WhatIsPinnedIsGoneAround) {
  cards({gib(8), gib(8), gib(8)});
  model("pinned", 6).policy.pinned = true;
  model("a", 7);
  model("big", 12);
  world.configure();
  world.run_for(sec(5));
  ASSERT_THAT(where("pinned"), ElementsAre("cuda0"));
  served("a");
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("cuda1:6", "cuda2:6"));
  EXPECT_EQ(world.state("pinned"), InstanceState::kReady);
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
}

TEST_F(Several, AReserveIsLeftFreeAndTooManyDevicesAreNotTaken) {
  cards({gib(8), gib(8)});
  model("big", 12).placement.reserve = {{DeviceId("all"), gib(1)}, {DeviceId("cuda1"), gib(3)}};
  model("one", 12).placement.max_devices = 1;
  model("other", 2).placement.devices = {DeviceId("cuda1")};
  world.configure();
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("cuda0:7", "cuda1:5"));
  const RequestId refused = world.request("one");
  world.run_for(sec(1));
  EXPECT_EQ(world.reason(refused), "insufficient_memory");
  EXPECT_THAT(world.of(refused).error->message, HasSubstr("needs 12.00 GB on cuda"));
  served("other");
  EXPECT_THAT(where("other"), ElementsAre("cuda1"));
}

TEST_F(Several, WhoInsistsGetsWhatThereIs) {
  cards({gib(8), gib(8)});
  model("big", 20);
  world.configure();
  const JobId job = world.load("big", true);
  world.run_for(ms(50));
  EXPECT_THAT(where("big"), ElementsAre("cuda0:10", "cuda1:10"));
  EXPECT_EQ(reserved("cuda0"), gib(8)) << "not more than there is";
  world.run_for(sec(5));
  EXPECT_EQ(world.of(job).error->reason, "insufficient_memory") << "it was out of memory indeed";
}

TEST_F(Several, TheGuidesRuleLooksAtLayersFirst) {
  cards({gib(8), gib(8), gib(8), gib(8), gib(8)});
  model("llm", 4).placement.layout = Layout::kGuideFromFive;
  model("embedding", 1).placement.layout = Layout::kGuideFromFive;
  world.model("embedding").kind = ModelKind::kEmbedding;
  world.configure();
  served("llm");
  EXPECT_THAT(where("llm"), ElementsAre("cuda0:1", "cuda1:1", "cuda2:1", "cuda3:1"));
  EXPECT_TRUE(world.told<PredictFootprint>().front().layers);
  served("embedding");
  EXPECT_THAT(where("embedding"), ElementsAre("cuda4"));
}

TEST_F(Several, AnotherWishIsAnotherLoad) {
  cards({gib(8), gib(8)});
  model("a", 4);
  world.configure();
  served("a");
  ASSERT_THAT(where("a"), ElementsAre("cuda0"));
  world.model("a").placement.devices = {DeviceId("cuda1")};
  world.configure();
  world.run_for(sec(5));
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  served("a");
  EXPECT_THAT(where("a"), ElementsAre("cuda1"));
}

TEST_F(Several, WithoutADeviceItIsTheHost) {
  world.add_device(host_device().str(), gib(16));
  world.add_device("cuda0", gib(8));
  world.devices().back().usable = false;
  world.add_model("a", DeviceBytes{{host_device(), gib(2)}});
  world.configure();
  served("a");
  EXPECT_THAT(where("a"), ElementsAre());
  EXPECT_EQ(reserved("host"), gib(2));
}

// ---- devices that serve one at a time

TEST_F(Several, AnRpcServerHasOneModelAtATime) {
  servers({gib(8)});
  model("a", 2);
  model("b", 2);
  world.configure();
  served("a");
  EXPECT_EQ(reserved("rpc0"), gib(2)) << "what it takes";
  EXPECT_EQ(world.device_view("rpc0").available, Bytes()) << "and nobody else has the rest";
  served("b");
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent);
  EXPECT_EQ(world.loads(), 2);
}

TEST_F(Several, TwoServersHaveTwo) {
  servers({gib(8), gib(8)});
  model("a", 2);
  model("b", 2);
  world.configure();
  served("a");
  served("b");
  EXPECT_THAT(where("a"), ElementsAre("rpc0"));
  EXPECT_THAT(where("b"), ElementsAre("rpc1"));
}

TEST_F(Several, AllDevicesOfAServerGoTogether) {
  servers({gib(8), gib(8)});
  for (Device& device : world.devices()) device.server = "host:1";
  model("a", 2);
  model("b", 2);
  world.configure();
  served("a");
  served("b");
  EXPECT_EQ(world.state("a"), InstanceState::kAbsent) << "b would wait for the server for ever";
}

// ---- devices that go away

TEST_F(Several, ALostDeviceIsNotUsedUntilItIsSeenAgain) {
  servers({gib(8), gib(8), gib(8)});
  model("big", 12);
  model("a", 2);
  world.configure();
  served("a");
  ASSERT_THAT(where("a"), ElementsAre("rpc0"));
  served("big");
  ASSERT_THAT(where("big"), ElementsAre("rpc1:6", "rpc2:6"));
  const RequestId running = world.request("big");
  ASSERT_TRUE(world.granted(running));
  lose("big", "rpc2");
  world.run_for(sec(1));
  EXPECT_EQ(world.view("big").instance->error->reason, "device_lost");
  EXPECT_FALSE(world.device_view("rpc2").device.usable);
  EXPECT_EQ(world.state("a"), InstanceState::kReady) << "others are untouched";
  served("big");
  EXPECT_THAT(where("big"), ElementsAre("rpc0:6", "rpc1:6")) << "on what is left";
  world.unload("big");
  world.run_for(sec(5));
  world.configure();  // it was looked at again
  EXPECT_TRUE(world.device_view("rpc2").device.usable);
  served("a");
  served("big");
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
}

TEST_F(Several, WhoMayUseNoOtherIsToldThatItIsGone) {
  servers({gib(8), gib(8)});
  model("a", 2).load.device = "rpc0";
  world.configure();
  served("a");
  lose("a", "rpc0");
  world.run_for(sec(1));
  const RequestId refused = world.request("a");
  world.run_for(sec(1));
  EXPECT_EQ(world.reason(refused), "device_lost");
  EXPECT_EQ(world.of(refused).error->code, ErrorCode::kUnavailable);
  world.configure();
  served("a");
}

TEST_F(Several, WithTheLastDeviceGoneItIsPredictedForTheHost) {
  world.add_device(host_device().str(), gib(16));
  servers({gib(8)});
  model("a", 2);
  world.configure();
  served("a");
  ASSERT_THAT(where("a"), ElementsAre("rpc0"));
  lose("a", "rpc0");
  world.run_for(sec(1));
  world.truth("a").bytes = {{host_device(), gib(2)}};
  const std::size_t asked = world.told<PredictFootprint>().size();
  served("a");
  EXPECT_EQ(world.told<PredictFootprint>().size(), asked + 1);
  EXPECT_EQ(world.told<StartLoad>().back().options.shares.size(), 0u);
  EXPECT_EQ(reserved("host"), gib(2));
}

TEST_F(Several, ALoadThatFindsItsDeviceGoneIsTriedElsewhere) {
  servers({gib(8), gib(8)});
  model("a", 2);
  world.truth("a").fates = {LoadFate::kFails};
  world.truth("a").load_error = {.code = ErrorCode::kUnavailable,
                                 .message = "rpc0 is gone",
                                 .reason = "device_lost",
                                 .fields = {{"device", "rpc0"}}};
  world.configure();
  const RequestId told = world.request("a");
  world.run_for(sec(5));
  EXPECT_EQ(world.reason(told), "device_lost");
  served("a");
  EXPECT_THAT(where("a"), ElementsAre("rpc1"));
}

}  // namespace
}  // namespace lm::core
