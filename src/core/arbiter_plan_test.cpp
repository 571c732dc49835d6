// What a load would come to: the same as it then does, and nothing begins.
#include <gmock/gmock.h>

#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Extent in_layers(int layers, Bytes cache = Bytes(), Bytes scratch = Bytes()) {
  Extent extent;
  extent.layers.resize(static_cast<std::size_t>(layers), {.weights = gib(1), .cache = cache});
  extent.scratch = scratch;
  extent.host = mib(50);
  return extent;
}

struct Planned : ::testing::Test {
  Planned() {
    world.add_device(host_device().str(), gib(16));
    world.add_device("cuda0", gib(8));
    world.add_device("cuda1", gib(8));
    add("a", in_layers(6));
    add("b", in_layers(6));
    add("big", in_layers(12, mib(10), mib(100)));
    add("huge", in_layers(20));
    world.configure();
  }
  void add(const std::string& id, const Extent& extent) {
    Bytes all;
    for (const auto& layer : extent.layers) all += layer.weights + layer.cache;
    world.add_model(id, DeviceBytes{{DeviceId("cuda0"), all}, {host_device(), extent.host}});
    world.truth(id).extent = extent;
  }
  LoadPlan plan(const std::string& id, LoadOptions options = {}) {
    return world.plan(id, options, {.parts = {}, .extent = world.truth(id).extent});
  }
  static std::vector<std::string> where(const LoadPlan& plan) {
    std::vector<std::string> devices;
    for (const LayerShare& share : plan.shares) devices.push_back(share.device.str());
    return devices;
  }
  static LoadPlan::Row row(const LoadPlan& plan, const std::string& device) {
    for (const LoadPlan::Row& each : plan.rows) {
      if (each.parts.device == DeviceId(device)) return each;
    }
    ADD_FAILURE() << "no row of " << device;
    return {};
  }
  void load(const std::string& id) {
    world.load(id);
    world.run_for(sec(5));
    ASSERT_EQ(world.state(id), InstanceState::kReady);
  }
  World world;
};

TEST_F(Planned, FitsAndBeginsNothing) {
  const std::uint64_t steps = world.steps();
  const LoadPlan found = plan("a");
  EXPECT_EQ(found.verdict, PlanVerdict::kFits);
  EXPECT_THAT(where(found), ElementsAre("cuda0"));
  EXPECT_EQ(row(found, "cuda0").needed, gib(6));
  EXPECT_EQ(row(found, "cuda0").free, gib(8));
  EXPECT_EQ(found.rows.front().parts.device, host_device()) << "the host first";
  EXPECT_EQ(row(found, "host").needed, mib(50));
  EXPECT_THAT(found.evicts, IsEmpty());
  EXPECT_EQ(found.device, DeviceId("cuda0"));
  EXPECT_EQ(found.limit, "cuda0: 2.00 GB would be left");
  EXPECT_EQ(world.steps(), steps);
  EXPECT_EQ(world.loads(), 0);
}

TEST_F(Planned, TellsThePartsOfEachDevice) {
  const LoadPlan found = plan("big");
  EXPECT_THAT(where(found), ElementsAre("cuda0", "cuda1"));
  for (const char* device : {"cuda0", "cuda1"}) {
    EXPECT_EQ(row(found, device).parts.weights, gib(6));
    EXPECT_EQ(row(found, device).parts.context, mib(60));
    EXPECT_EQ(row(found, device).parts.compute, mib(100));
    EXPECT_EQ(row(found, device).needed, gib(6) + mib(160));
  }
  EXPECT_EQ(row(found, "host").parts.compute, mib(50));
}

TEST_F(Planned, ItIsWhatThenHappens) {
  for (const char* id : {"big", "a"}) {
    const LoadPlan found = plan(id);
    load(id);
    std::vector<LayerShare> placed = world.view(id).instance->shares;
    EXPECT_EQ(found.shares, placed);
    for (const LoadPlan::Row& each : found.rows)
      EXPECT_EQ(world.told<StartLoad>().back().reservation.on(each.parts.device), each.needed);
    world.unload(id);
    world.run_for(sec(5));
  }
}

TEST_F(Planned, GivesCreditForWhatWouldGo) {
  load("a");
  load("b");
  const LoadPlan found = plan("big");
  EXPECT_EQ(found.verdict, PlanVerdict::kFitsAfterOthers);
  EXPECT_THAT(found.evicts, ElementsAre(ModelId("a"), ModelId("b")));
  EXPECT_EQ(row(found, "cuda0").free, gib(2));
  EXPECT_EQ(row(found, "cuda0").credit, gib(6));
  EXPECT_EQ(world.state("a"), InstanceState::kReady);
  world.pin("a");
  const LoadPlan pinned = plan("big");
  EXPECT_EQ(pinned.verdict, PlanVerdict::kDoesNotFit);
  EXPECT_THAT(pinned.evicts, IsEmpty());
  EXPECT_THAT(pinned.limit, HasSubstr("it lacks"));
}

TEST_F(Planned, WhatNeverFitsNamesTheLimit) {
  const LoadPlan found = plan("huge");
  EXPECT_EQ(found.verdict, PlanVerdict::kDoesNotFit);
  EXPECT_EQ(found.limit, "cuda0: it lacks 2.00 GB");
  EXPECT_EQ(found.device, DeviceId("cuda0"));
  world.settings().residency.max_loaded = 1;
  world.configure();
  world.pin("a");
  world.run_for(sec(5));
  EXPECT_EQ(plan("b").limit, "residency.max_loaded");
}

TEST_F(Planned, TheSecondTimeItIsWhatWasMeasured) {
  world.truth("a").predicted_extent = in_layers(5);
  load("a");
  world.unload("a");
  world.run_for(sec(5));
  const LoadPlan again = world.plan("a", {}, {.parts = {}, .extent = in_layers(5)});
  EXPECT_EQ(again.source, FootprintSource::kMeasured);
  EXPECT_EQ(row(again, "cuda0").needed, gib(6));
  EXPECT_EQ(row(again, "cuda0").parts.weights, gib(5)) << "its parts are arithmetic";
  const LoadPlan other = world.plan("a", {.context = 99}, {.parts = {}, .extent = in_layers(5)});
  EXPECT_EQ(other.source, FootprintSource::kPredicted) << "with other options it was never seen";
}

TEST_F(Planned, OnTheHostByItsParts) {
  const LoadPlan found = world.plan(
      "a", {.device = "host"},
      {.parts = {{.device = host_device(), .mapped = gib(30), .context = gib(1), .compute = mib(100)}},
       .extent = in_layers(6)});
  EXPECT_THAT(where(found), IsEmpty());
  EXPECT_EQ(row(found, "host").needed, gib(1) + mib(100)) << "what is mapped is not charged";
  EXPECT_EQ(row(found, "host").parts.mapped, gib(30));
  EXPECT_EQ(found.verdict, PlanVerdict::kFits);
}

TEST_F(Planned, AnUnknownModelHasNone) {
  EXPECT_THAT(world.plan("nobody", {}, {}).rows, IsEmpty());
}

TEST_F(Planned, SaysTheIdleOnesCardAndNotTheBusyOnes) {
  add("c", in_layers(6));
  world.configure();
  load("a");
  load("b");
  for (const char* busy : {"a", "b"}) {
    const RequestId running = world.request(busy);
    ASSERT_TRUE(world.granted(running));
    const LoadPlan said = plan("c");
    EXPECT_THAT(where(said), ElementsAre(std::string(busy) == "a" ? "cuda1" : "cuda0"));
    EXPECT_THAT(said.evicts, ElementsAre(ModelId(std::string(busy) == "a" ? "b" : "a")));
    world.finish(running);
  }
}

}  // namespace
}  // namespace lm::core
