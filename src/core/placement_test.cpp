#include "core/placement.h"

#include <cstdlib>
#include <numeric>
#include <random>
#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::core {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// ---- what a model takes

// So many equal layers of `layer`, and an output of the same size.
Extent model_of(int layers, Bytes layer, Bytes scratch = Bytes()) {
  Extent extent;
  extent.layers.resize(static_cast<std::size_t>(layers) + 1, {.weights = layer, .cache = Bytes()});
  extent.scratch = scratch;
  extent.host = mib(10);
  return extent;
}

std::vector<Room> rooms_of(const std::vector<Bytes>& free) {
  std::vector<Room> rooms;
  for (std::size_t i = 0; i < free.size(); ++i)
    rooms.push_back({.device = DeviceId("cuda" + std::to_string(i)), .free = free[i]});
  return rooms;
}

std::vector<std::string> devices_of(const std::optional<Placement>& placement) {
  std::vector<std::string> names;
  if (!placement) return names;
  for (const LayerShare& share : placement->shares) names.push_back(share.device.str());
  return names;
}

std::vector<int> layers_of(const std::optional<Placement>& placement) {
  std::vector<int> layers;
  if (!placement) return layers;
  for (const LayerShare& share : placement->shares) layers.push_back(share.layers);
  return layers;
}

Bytes on(const std::optional<Placement>& placement, const std::string& device) {
  return placement ? placement->bytes.on(DeviceId(device)) : Bytes(-1);
}

// ---- all that are as good

std::vector<std::vector<std::string>> all_of(const std::vector<Placement>& placements) {
  std::vector<std::vector<std::string>> names;
  for (const Placement& placement : placements) names.push_back(devices_of(placement));
  return names;
}

TEST(Places, AreAllThatTheLayoutDoesNotTellApart) {
  const Extent model = model_of(5, gib(1));
  EXPECT_THAT(all_of(places({.extent = model}, rooms_of({gib(6), gib(9), gib(5), gib(7)}))),
              ElementsAre(ElementsAre("cuda1"), ElementsAre("cuda3"), ElementsAre("cuda0")))
      << "the most free first, and none where it does not fit";
}

TEST(Places, AScreensCardIsNotAsGood) {
  const Extent model = model_of(5, gib(1));
  auto rooms = rooms_of({gib(9), gib(7), gib(8)});
  rooms[0].display = true;
  EXPECT_THAT(all_of(places({.extent = model}, rooms)),
              ElementsAre(ElementsAre("cuda2"), ElementsAre("cuda1")));
  rooms[1].free = rooms[2].free = gib(1);
  EXPECT_THAT(all_of(places({.extent = model}, rooms)), ElementsAre(ElementsAre("cuda0")));
}

TEST(Places, AnEmbeddingModelsOwnDeviceIsBetterThanOneThatItShares) {
  const Extent model = model_of(1, gib(1));
  auto rooms = rooms_of({gib(9), gib(7), gib(8)});
  rooms[0].occupied = true;
  EXPECT_THAT(all_of(places({.extent = model, .kind = ModelKind::kEmbedding}, rooms)),
              ElementsAre(ElementsAre("cuda1"), ElementsAre("cuda2")))
      << "the smallest that will do first";
  EXPECT_EQ(places({.extent = model}, rooms).size(), 3u) << "nothing to a generation model";
}

TEST(Places, OfSetsTheFewestAndTheLargestFirst) {
  const Extent model = model_of(9, gib(1));
  EXPECT_THAT(all_of(places({.extent = model}, rooms_of({gib(6), gib(5), gib(7), gib(3)}))),
              ElementsAre(ElementsAre("cuda0", "cuda2"), ElementsAre("cuda1", "cuda2"),
                          ElementsAre("cuda2", "cuda3"), ElementsAre("cuda0", "cuda1")));
}

TEST(Places, ASetWithoutTheScreenIsBetterThanOneWithIt) {
  const Extent model = model_of(9, gib(1));
  auto rooms = rooms_of({gib(9), gib(6), gib(6)});
  rooms[0].display = true;
  EXPECT_THAT(all_of(places({.extent = model}, rooms)), ElementsAre(ElementsAre("cuda1", "cuda2")));
}

TEST(Places, AModelInOnePieceIsNotCut) {
  Extent piece;
  piece.layers.push_back({.weights = gib(6), .cache = Bytes()});
  EXPECT_TRUE(places({.extent = piece, .max_devices = 1}, rooms_of({gib(5), gib(5)})).empty());
  EXPECT_EQ(places({.extent = piece, .max_devices = 1}, rooms_of({gib(6), gib(6)})).size(), 2u);
}

TEST(Places, TheGuidesRuleNamesOne) {
  const Extent model = model_of(7, gib(1));
  const auto rooms = rooms_of({gib(8), gib(8), gib(8), gib(8), gib(8)});
  const auto found = places({.extent = model, .layout = Layout::kGuide}, rooms);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found.front().shares.size(), 4u);
}

TEST(Places, TheFirstIsThePlace) {
  std::mt19937_64 random(7);
  const auto some = [&](int n) { return static_cast<int>(random() % static_cast<std::uint64_t>(n)); };
  for (int round = 0; round < 500; ++round) {
    Extent model = model_of(1 + some(8), mib(200 + some(900)), mib(some(300)));
    model.device_context = mib(some(300));
    auto rooms = rooms_of({});
    for (int i = 0, n = 1 + some(7); i < n; ++i) {
      rooms.push_back({.device = DeviceId("cuda" + std::to_string(i)), .free = mib(some(6000))});
      rooms.back().display = some(5) == 0;
      rooms.back().occupied = some(3) == 0;
    }
    const PlacementCase asked{.extent = model,
                              .kind = some(4) == 0 ? ModelKind::kEmbedding : ModelKind::kGeneration,
                              .layout = some(3) == 0 ? Layout::kGuide : Layout::kCompact,
                              .max_devices = some(3) == 0 ? std::optional<int>(1 + some(3)) : std::nullopt};
    const std::vector<Placement> all = places(asked, rooms);
    const auto first = place(asked, rooms);
    ASSERT_EQ(first.has_value(), !all.empty()) << round;
    if (all.empty()) continue;
    EXPECT_EQ(*first, all.front());
    std::set<std::vector<std::string>> seen;
    for (const Placement& placement : all) {
      EXPECT_EQ(placement.shares.size(), first->shares.size()) << "the fewest devices";
      EXPECT_TRUE(seen.insert(devices_of(placement)).second) << "each once";
      for (const Room& room : rooms) EXPECT_LE(placement.bytes.on(room.device), room.free) << round;
    }
  }
}

// ---- compact

TEST(Compact, OneDeviceIfItFitsTheBiggestFreeFirst) {
  const Extent model = model_of(9, gib(1));
  const auto placement = place({.extent = model}, rooms_of({gib(12), gib(20), gib(11)}));
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda1"));
  EXPECT_THAT(layers_of(placement), ElementsAre(0)) << "all of them";
  EXPECT_EQ(on(placement, "cuda1"), gib(10));
  EXPECT_EQ(on(placement, "host"), mib(10));
}

TEST(Compact, OfEquallyFreeOnesTheFirstOnTheBus) {
  const Extent model = model_of(9, gib(1));
  EXPECT_THAT(devices_of(place({.extent = model}, rooms_of({gib(12), gib(12)}))), ElementsAre("cuda0"));
}

TEST(Compact, TheScreensCardIsTheLast) {
  const Extent model = model_of(9, gib(1));
  auto rooms = rooms_of({gib(24), gib(12)});
  rooms[0].display = true;
  EXPECT_THAT(devices_of(place({.extent = model}, rooms)), ElementsAre("cuda1"));
  rooms[1].free = gib(9);
  EXPECT_THAT(devices_of(place({.extent = model}, rooms)), ElementsAre("cuda0"))
      << "one card is better than two, even if a screen hangs on it";
}

TEST(Compact, OfAsManyThoseWithoutAScreen) {
  const Extent model = model_of(9, gib(1));
  auto rooms = rooms_of({gib(9), gib(6), gib(6)});
  rooms[0].display = true;
  EXPECT_THAT(devices_of(place({.extent = model}, rooms)), ElementsAre("cuda1", "cuda2"));
  rooms[2].free = gib(3);
  EXPECT_THAT(devices_of(place({.extent = model}, rooms)), ElementsAre("cuda0", "cuda1"))
      << "two with it rather than three";
}

TEST(Compact, SeveralWhenItMustDividedByWhatIsFree) {
  const Extent model = model_of(11, gib(1));
  const auto placement = place({.extent = model}, rooms_of({gib(6), gib(3), gib(9)}));
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda0", "cuda2")) << "the fewest, in the order of the bus";
  EXPECT_THAT(layers_of(placement), ElementsAre(5, 7));
  EXPECT_EQ(on(placement, "cuda0"), gib(5));
  EXPECT_EQ(on(placement, "cuda2"), gib(7));
}

TEST(Compact, WhatIsTooMuchForOneGoesToTheNext) {
  // By free bytes the last would get two layers of 3 GiB and its scratch for the output.
  Extent model = model_of(3, gib(3));
  model.output_scratch = gib(3);
  const auto placement = place({.extent = model}, rooms_of({gib(9), gib(6)}));
  EXPECT_THAT(layers_of(placement), ElementsAre(3, 1));
  EXPECT_EQ(on(placement, "cuda0"), gib(9));
  EXPECT_EQ(on(placement, "cuda1"), gib(6));
}

TEST(Compact, UnevenLayersFindTheOrderInWhichTheyFit) {
  Extent model;
  for (const int g : {6, 6, 1}) model.layers.push_back({.weights = gib(g), .cache = Bytes()});
  const auto placement = place({.extent = model}, rooms_of({gib(1), gib(12)}));
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda1", "cuda0"));
  EXPECT_THAT(layers_of(placement), ElementsAre(2, 1));
}

TEST(Compact, NeverMoreThanAllowed) {
  const Extent model = model_of(11, gib(1));
  const auto rooms = rooms_of({gib(5), gib(5), gib(5)});
  EXPECT_EQ(place({.extent = model}, rooms)->shares.size(), 3u);
  EXPECT_FALSE(place({.extent = model, .max_devices = 2}, rooms));
  EXPECT_FALSE(place({.extent = model, .max_devices = 1}, rooms));
}

TEST(Compact, NowhereIsAnAnswer) {
  const Extent model = model_of(3, gib(4));
  EXPECT_FALSE(place({.extent = model}, rooms_of({gib(8), gib(4)})));
  EXPECT_FALSE(place({.extent = model}, rooms_of({gib(3), gib(3), gib(3), gib(3), gib(3)})))
      << "a layer is not cut";
  EXPECT_FALSE(place({.extent = model}, {}));
}

TEST(Compact, EveryDeviceCostsItsScratchAndItsContext) {
  Extent model = model_of(3, gib(1), mib(100));
  model.last_scratch = mib(100);
  model.device_context = mib(500);
  model.output_scratch = mib(50);
  model.first = mib(25);
  model.host_with_cards = mib(3);
  const auto two = place({.extent = model}, rooms_of({mib(2700), mib(2700)}));
  EXPECT_EQ(on(two, "cuda0"), gib(2) + mib(625));
  EXPECT_EQ(on(two, "cuda1"), gib(2) + mib(600)) << "the output's scratch is less than its layers'";
  EXPECT_EQ(on(two, "host"), mib(13));
  auto behind = rooms_of({mib(2700), mib(2700)});
  for (Room& room : behind) room.bare = true;
  const auto remote = place({.extent = model}, behind);
  EXPECT_EQ(on(remote, "cuda0"), gib(2) + mib(125)) << "an RPC server's device has no context of ours";
  EXPECT_EQ(on(remote, "host"), mib(10));
}

TEST(Compact, WhatIsCutTakesCopiesOfWhatItsPartsRead) {
  Extent model = model_of(3, gib(1), mib(100));
  model.inputs = mib(20);
  model.pipelined = mib(70);
  model.output_scratch = mib(110);
  model.last_scratch = mib(115);
  model.host_pipelined = mib(5);
  const auto one = place({.extent = model}, rooms_of({gib(8)}));
  EXPECT_EQ(on(one, "cuda0"), gib(4) + mib(130)) << "the larger scratch, and one of what is read";
  EXPECT_EQ(on(one, "host"), mib(10));
  const auto two = place({.extent = model}, rooms_of({mib(2900), mib(2900)}));
  EXPECT_EQ(on(two, "cuda0"), gib(2) + mib(190));
  EXPECT_EQ(on(two, "cuda1"), gib(2) + mib(205)) << "of the last layer only what has an output";
  EXPECT_EQ(on(two, "host"), mib(15));
  const auto output = place({.extent = model}, rooms_of({mib(3400), mib(1200)}));
  EXPECT_THAT(layers_of(output), ElementsAre(3, 1));
  EXPECT_EQ(on(output, "cuda1"), gib(1) + mib(110)) << "the output alone reads no masks";
  const auto rows = place({.extent = model, .split = Split::kRow}, rooms_of({mib(2900), mib(2900)}));
  EXPECT_EQ(on(rows, "cuda0"), gib(2) + mib(120)) << "rows are not pipelined";
  const auto part = place({.extent = model, .gpu_layers = 3}, rooms_of({mib(1900), mib(2900)}));
  EXPECT_EQ(on(part, "cuda0"), gib(1) + mib(120)) << "nor is what lies on the host in part";
  const auto rooms = rooms_of({mib(2900), mib(2900)});
  const auto account = account_of({.extent = model}, two->shares, rooms);
  EXPECT_EQ(account[1].compute, mib(190));
  EXPECT_EQ(account[2].compute, mib(205));
  EXPECT_EQ(account[0].compute, mib(15));
}

TEST(Compact, OnlyTheLastLayersLeaveTheHostWhereTheOwnerSaysSo) {
  Extent model = model_of(3, gib(1));
  for (auto& layer : model.layers) layer.cache = mib(1);
  model.host_scratch = mib(100);
  const auto half = place({.extent = model, .gpu_layers = 2}, rooms_of({gib(8)}));
  EXPECT_EQ(on(half, "cuda0"), gib(2) + mib(2));
  EXPECT_EQ(on(half, "host"), mib(10 + 2 + 100)) << "their weights are mapped";
  model.mapped = false;
  EXPECT_EQ(on(place({.extent = model, .gpu_layers = 2}, rooms_of({gib(8)})), "host"), gib(2) + mib(112));
  EXPECT_EQ(on(place({.extent = model, .gpu_layers = 99}, rooms_of({gib(8)})), "cuda0"), gib(4) + mib(4));
}

TEST(Compact, WhatWasMeasuredCountsMoreThanArithmetic) {
  const Extent model = model_of(3, gib(1));
  const std::vector<Experience> known = {
      {.layers = {0}, .bytes = {gib(5)}, .host = mib(77)},
      {.layers = {2, 2}, .bytes = {mib(2100), mib(2200)}, .host = mib(78)}};
  const auto one = place({.extent = model, .known = known}, rooms_of({gib(8)}));
  EXPECT_EQ(on(one, "cuda0"), gib(5));
  EXPECT_EQ(on(one, "host"), mib(77));
  const auto two = place({.extent = model, .known = known}, rooms_of({mib(4500), mib(4500)}));
  EXPECT_EQ(on(two, "cuda0"), mib(2100)) << "by arithmetic it would fit on one";
  EXPECT_EQ(on(two, "cuda1"), mib(2200));
}

TEST(Compact, AnEmbeddingModelHasADeviceOfItsOwnWhereThereIsOne) {
  const Extent model = model_of(1, mib(100));
  auto rooms = rooms_of({gib(20), gib(24), gib(8)});
  rooms[0].occupied = true;
  EXPECT_THAT(devices_of(place({.extent = model, .kind = ModelKind::kEmbedding}, rooms)),
              ElementsAre("cuda2"))
      << "the smallest that will do: the large one is for text";
  rooms[1].occupied = rooms[2].occupied = true;
  EXPECT_THAT(devices_of(place({.extent = model, .kind = ModelKind::kRerank}, rooms)), ElementsAre("cuda1"))
      << "shared, the one with the most room";
  rooms[0].occupied = false;
  rooms[0].display = true;
  EXPECT_THAT(devices_of(place({.extent = model, .kind = ModelKind::kEmbedding}, rooms)),
              ElementsAre("cuda1"));
}

// ---- guide

std::optional<Placement> by_guide(const Extent& extent, ModelKind kind, const std::vector<Bytes>& free,
                                  Layout layout = Layout::kGuide) {
  return place({.extent = extent, .kind = kind, .layout = layout}, rooms_of(free));
}

TEST(Guide, TextOverTheFirstFourAndEmbeddingsOnTheFifth) {
  const Extent text = model_of(11, gib(1));
  const Extent embeddings = model_of(1, mib(100));
  const std::vector<Bytes> five(5, gib(24));
  const auto placement = by_guide(text, ModelKind::kGeneration, five);
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda0", "cuda1", "cuda2", "cuda3"));
  EXPECT_THAT(layers_of(placement), ElementsAre(3, 3, 3, 3));
  EXPECT_THAT(devices_of(by_guide(embeddings, ModelKind::kEmbedding, five)), ElementsAre("cuda4"));
  EXPECT_THAT(devices_of(by_guide(embeddings, ModelKind::kEmbedding, std::vector<Bytes>(8, gib(24)))),
              ElementsAre("cuda4"));
}

TEST(Guide, WithFewerTheEmbeddingsHaveTheLast) {
  const Extent text = model_of(11, gib(1));
  const Extent embeddings = model_of(1, mib(100));
  EXPECT_THAT(devices_of(by_guide(text, ModelKind::kGeneration, std::vector<Bytes>(4, gib(24)))),
              ElementsAre("cuda0", "cuda1", "cuda2"));
  EXPECT_THAT(devices_of(by_guide(embeddings, ModelKind::kEmbedding, std::vector<Bytes>(4, gib(24)))),
              ElementsAre("cuda3"));
  EXPECT_THAT(devices_of(by_guide(text, ModelKind::kGeneration, std::vector<Bytes>(2, gib(24)))),
              ElementsAre("cuda0"));
  EXPECT_THAT(devices_of(by_guide(embeddings, ModelKind::kEmbedding, std::vector<Bytes>(2, gib(24)))),
              ElementsAre("cuda1"));
  EXPECT_THAT(devices_of(by_guide(text, ModelKind::kGeneration, {gib(24)})), ElementsAre("cuda0"));
  EXPECT_THAT(devices_of(by_guide(embeddings, ModelKind::kEmbedding, {gib(24)})), ElementsAre("cuda0"))
      << "with one it is shared";
}

TEST(Guide, DividedByWhatIsFree) {
  const Extent text = model_of(23, gib(1));
  EXPECT_THAT(
      layers_of(by_guide(text, ModelKind::kGeneration, {gib(40), gib(20), gib(10), gib(10), gib(24)})),
      ElementsAre(12, 6, 3, 3));
}

TEST(Guide, AFullOneIsLeftOut) {
  const Extent text = model_of(11, gib(1));
  const auto placement =
      by_guide(text, ModelKind::kGeneration, {gib(24), mib(100), gib(24), gib(24), gib(24)});
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda0", "cuda2", "cuda3"));
}

TEST(Guide, WhereItDoesNotFitItGoesWhereItDoes) {
  const Extent text = model_of(11, gib(1));
  EXPECT_THAT(devices_of(by_guide(text, ModelKind::kGeneration, {gib(2), gib(2), gib(2), gib(2), gib(24)})),
              ElementsAre("cuda4"));
  EXPECT_THAT(devices_of(by_guide(text, ModelKind::kEmbedding, {gib(24), gib(2)})), ElementsAre("cuda0"));
}

TEST(Guide, IsTheRuleFromFiveOnWhereTheOwnerSaysNothing) {
  const Extent text = model_of(11, gib(1));
  const auto kDefault = Layout::kGuideFromFive;
  EXPECT_EQ(by_guide(text, ModelKind::kGeneration, std::vector<Bytes>(5, gib(24)), kDefault)->shares.size(),
            4u);
  EXPECT_EQ(by_guide(text, ModelKind::kGeneration, std::vector<Bytes>(4, gib(24)), kDefault)->shares.size(),
            1u);
  EXPECT_TRUE(spreads(kDefault, ModelKind::kGeneration, 5));
  EXPECT_FALSE(spreads(kDefault, ModelKind::kGeneration, 4));
  EXPECT_TRUE(spreads(Layout::kGuide, ModelKind::kGeneration, 3));
  EXPECT_FALSE(spreads(Layout::kGuide, ModelKind::kGeneration, 2)) << "the second is for embeddings";
  EXPECT_FALSE(spreads(Layout::kGuide, ModelKind::kEmbedding, 5));
  EXPECT_FALSE(spreads(Layout::kCompact, ModelKind::kGeneration, 5));
}

TEST(Guide, KeepsToTheMostDevices) {
  const Extent text = model_of(11, gib(1));
  const auto placement = place({.extent = text, .layout = Layout::kGuide, .max_devices = 2},
                               rooms_of(std::vector<Bytes>(5, gib(24))));
  EXPECT_THAT(devices_of(placement), ElementsAre("cuda0", "cuda1"));
}

// ---- where it does not fit

TEST(Anyway, TellsWhatItWouldTake) {
  const Extent model = model_of(11, gib(1));
  const Placement one = place_anyway({.extent = model, .max_devices = 1}, rooms_of({gib(2), gib(4)}));
  EXPECT_THAT(devices_of(one), ElementsAre("cuda1"));
  EXPECT_EQ(on(one, "cuda1"), gib(12));
  const Placement all = place_anyway({.extent = model}, rooms_of({gib(2), gib(4)}));
  EXPECT_THAT(layers_of(all), ElementsAre(4, 8));
  const Placement guide =
      place_anyway({.extent = model, .layout = Layout::kGuide}, rooms_of(std::vector<Bytes>(5, mib(1))));
  EXPECT_EQ(guide.shares.size(), 4u);
  const Placement few =
      place_anyway({.extent = model_of(1, gib(1))}, rooms_of(std::vector<Bytes>(5, mib(1))));
  EXPECT_EQ(few.shares.size(), 2u) << "no device without a layer";
  const Placement nothing = place_anyway({.extent = model}, rooms_of({Bytes(), Bytes()}));
  EXPECT_THAT(layers_of(nothing), ElementsAre(6, 6)) << "nothing is free anywhere";
}

// ---- the owner's word

Device host() {
  return {.id = host_device(), .kind = DeviceKind::kHost};
}
Device card(const std::string& id, bool usable = true) {
  return {.id = DeviceId(id), .kind = DeviceKind::kCuda, .usable = usable};
}
Device remote(const std::string& id, bool usable = true) {
  return {.id = DeviceId(id), .kind = DeviceKind::kRpc, .usable = usable, .server = "somewhere:50052"};
}
Candidates wish(const std::string& device, const std::vector<Device>& devices,
                std::vector<DeviceId> only = {}, std::optional<int> layers = {}) {
  return candidates({.gpu_layers = layers, .device = device}, {.devices = std::move(only)}, devices,
                    "0.5.0 cpu");
}
std::vector<std::string> names_of(const Candidates& found) {
  std::vector<std::string> names;
  for (const DeviceId& id : found.devices) names.push_back(id.str());
  return names;
}

TEST(TheOwnersWord, WithoutACardItIsTheHost) {
  EXPECT_THAT(names_of(wish("auto", {host()})), ElementsAre());
  EXPECT_FALSE(wish("auto", {host()}).warning);
  EXPECT_EQ(wish("cuda", {host()}).warning, "device cuda is not there; it runs on the host");
  EXPECT_TRUE(wish("cuda0", {host()}).warning);
  EXPECT_FALSE(wish("cpu", {host()}).warning);
}

TEST(TheOwnersWord, AutoIsEverythingThatTheEngineCanUse) {
  EXPECT_THAT(names_of(wish("auto", {host(), card("cuda0"), card("cuda1", false), remote("rpc0")})),
              ElementsAre("cuda0", "rpc0"));
  EXPECT_THAT(names_of(wish("auto", {host(), remote("rpc0", false)})), ElementsAre());
  EXPECT_FALSE(wish("auto", {host(), remote("rpc0", false)}).missed) << "the host is left";
}

TEST(TheOwnersWord, AKindAndADeviceByName) {
  const std::vector<Device> all = {host(), card("cuda0"), card("cuda1"), remote("rpc0")};
  EXPECT_THAT(names_of(wish("cuda", all)), ElementsAre("cuda0", "cuda1"));
  EXPECT_THAT(names_of(wish("rpc", all)), ElementsAre("rpc0"));
  EXPECT_THAT(names_of(wish("cuda1", all)), ElementsAre("cuda1"));
  EXPECT_THAT(names_of(wish("host", all)), ElementsAre());
  EXPECT_THAT(names_of(wish("cpu", all)), ElementsAre());
  EXPECT_THAT(names_of(wish("auto", all, {}, 0)), ElementsAre()) << "no layers elsewhere is the host";
  EXPECT_THAT(names_of(wish("auto", all, {}, 3)), ElementsAre("cuda0", "cuda1", "rpc0"));
}

TEST(TheOwnersWord, TheOnlyDevicesItMayUse) {
  const std::vector<Device> all = {host(), card("cuda0"), card("cuda1"), remote("rpc0")};
  EXPECT_THAT(names_of(wish("auto", all, {DeviceId("cuda1"), DeviceId("rpc0")})),
              ElementsAre("cuda1", "rpc0"));
  EXPECT_THAT(names_of(wish("auto", all, {DeviceId("rpc")})), ElementsAre("rpc0"));
  EXPECT_THAT(names_of(wish("cuda", all, {DeviceId("cuda1"), DeviceId("rpc0")})), ElementsAre("cuda1"));
  EXPECT_THAT(names_of(wish("auto", all, {host_device()})), ElementsAre());
  const Candidates gone = wish("auto", all, {DeviceId("cuda7")});
  EXPECT_THAT(names_of(gone), ElementsAre()) << "no other one instead";
  EXPECT_EQ(gone.warning, "device cuda7 is not there; it runs on the host");
}

TEST(TheOwnersWord, ADeviceThatIsNotThereIsReplacedAndSaid) {
  const Candidates one = wish("cuda7", {host(), card("cuda0")});
  EXPECT_THAT(names_of(one), ElementsAre("cuda0"));
  EXPECT_EQ(one.warning, "device cuda7 is not there; it runs on cuda0");
  EXPECT_THAT(wish("cuda7", {host(), card("cuda0"), card("cuda1")}).warning.value(),
              HasSubstr("another one"));
}

TEST(TheOwnersWord, AnEngineThatCannotUseItLeavesIt) {
  const Candidates found = wish("cuda", {host(), card("cuda0", false)});
  EXPECT_THAT(names_of(found), ElementsAre());
  EXPECT_EQ(found.warning,
            "device cuda cannot be used by the engine that was built (cpu); it runs on the host; "
            "scripts/bootstrap --gpu cuda builds the other one");
  EXPECT_FALSE(wish("auto", {host(), card("cuda0", false)}).warning);
}

TEST(TheOwnersWord, OneThatIsAwayIsMissedAndNotReplaced) {
  const std::vector<Device> all = {host(), remote("rpc0", false), card("cuda0")};
  EXPECT_EQ(wish("rpc0", all).missed, DeviceId("rpc0"));
  EXPECT_EQ(wish("auto", all, {DeviceId("rpc0")}).missed, DeviceId("rpc0"));
  EXPECT_FALSE(wish("auto", all).missed);
}

TEST(TheOwnersWord, AReserveOnEachOrOnAll) {
  PlacementWish some{.reserve = {{DeviceId("all"), gib(1)}, {DeviceId("cuda1"), gib(3)}}};
  EXPECT_EQ(reserve_on(some, DeviceId("cuda0")), gib(1));
  EXPECT_EQ(reserve_on(some, DeviceId("cuda1")), gib(3));
  EXPECT_EQ(reserve_on({}, DeviceId("cuda1")), Bytes());
}

// ---- any model on any machine

struct Dice {
  std::mt19937_64 random;
  int upto(int most) { return std::uniform_int_distribution<int>(0, most)(random); }
};

// Whether it fits on these, in this order: as full as possible from the front is as good as it gets.
bool fits_in_order(const Extent& extent, std::size_t begin, const std::vector<Room>& rooms) {
  std::size_t next = begin;
  for (std::size_t i = 0; i < rooms.size(); ++i) {
    const bool last = i + 1 == rooms.size();
    const bool output_alone = last && next + 1 == extent.layers.size();
    const bool last_alone = last && next + 2 == extent.layers.size();
    Bytes scratch = last ? extent.output_scratch : Bytes();
    if (!output_alone)
      scratch = std::max(scratch, last_alone ? extent.last_scratch : extent.scratch) + extent.inputs;
    if (!output_alone && rooms.size() > 1 && begin == 0) scratch += extent.pipelined;
    Bytes left = rooms[i].free - scratch - (rooms[i].bare ? Bytes() : extent.device_context) -
                 (i == 0 ? extent.first : Bytes());
    std::size_t count = 0;
    while (next + (rooms.size() - i - 1) < extent.layers.size()) {
      const Bytes layer = extent.layers[next].weights + extent.layers[next].cache;
      if (layer > left) break;
      left -= layer;
      ++next;
      ++count;
    }
    if (count == 0 || left < Bytes()) return false;
  }
  return next == extent.layers.size();
}

bool fits_on_any(const Extent& extent, std::size_t begin, const std::vector<Room>& rooms, std::size_t count) {
  for (unsigned set = 0; set < (1U << rooms.size()); ++set) {
    if (static_cast<std::size_t>(__builtin_popcount(set)) != count) continue;
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < rooms.size(); ++i) {
      if ((set >> i & 1U) != 0) order.push_back(i);
    }
    do {
      std::vector<Room> chosen;
      for (const std::size_t i : order) chosen.push_back(rooms[i]);
      if (fits_in_order(extent, begin, chosen)) return true;
    } while (std::next_permutation(order.begin(), order.end()));
  }
  return false;
}

TEST(AnyPlacement, KeepsWhatIsPromised) {
  const char* given = std::getenv("LLM_MANAGER_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  SCOPED_TRACE("replay with LLM_MANAGER_SEED=" + std::to_string(seed));
  Dice dice{std::mt19937_64(seed)};
  int placed = 0;
  int split = 0;
  for (int round = 0; round < 20'000; ++round) {
    Extent extent;
    const int layers = 1 + dice.upto(11);
    const int unevenness = dice.upto(2) == 0 ? 400 : 0;
    for (int i = 0; i < layers; ++i)
      extent.layers.push_back({.weights = mib(200 + dice.upto(unevenness)), .cache = mib(dice.upto(50))});
    extent.scratch = mib(dice.upto(60));
    extent.output_scratch = mib(dice.upto(60));
    extent.last_scratch = Bytes(extent.scratch.count() / 2);
    extent.inputs = mib(dice.upto(30));
    extent.pipelined = mib(dice.upto(60));
    extent.first = mib(dice.upto(3) == 0 ? 100 : 0);
    extent.device_context = mib(dice.upto(100));
    std::vector<Room> rooms;
    const int devices = 1 + dice.upto(3);
    const bool bare = dice.upto(1) == 0;
    for (int i = 0; i < devices; ++i) {
      rooms.push_back({.device = DeviceId("cuda" + std::to_string(i)),
                       .free = mib(dice.upto(2500)),
                       .display = dice.upto(4) == 0,
                       .occupied = dice.upto(2) == 0,
                       .bare = bare});
    }
    PlacementCase model{.extent = extent,
                        .kind = static_cast<ModelKind>(dice.upto(2)),
                        .layout = static_cast<Layout>(dice.upto(2))};
    if (dice.upto(2) == 0) model.max_devices = 1 + dice.upto(3);
    if (dice.upto(3) == 0) model.gpu_layers = 1 + dice.upto(12);
    const auto on_devices = static_cast<std::size_t>(std::min(layers, model.gpu_layers.value_or(layers)));
    const std::size_t begin = extent.layers.size() - on_devices;
    const auto placement = place(model, rooms);

    SCOPED_TRACE("round " + std::to_string(round));
    const std::size_t most =
        std::min<std::size_t>(static_cast<std::size_t>(model.max_devices.value_or(devices)), rooms.size());
    if (!placement) {
      for (std::size_t count = 1; count <= most; ++count)
        ASSERT_FALSE(fits_on_any(extent, begin, rooms, count)) << "it fits on " << count;
      const Placement anyway = place_anyway(model, rooms);
      ASSERT_FALSE(anyway.shares.empty());
      continue;
    }
    ++placed;
    split += placement->shares.size() > 1 ? 1 : 0;
    ASSERT_LE(placement->shares.size(), most);
    std::set<DeviceId> seen;
    std::size_t sum = 0;
    Bytes taken;
    for (const LayerShare& share : placement->shares) {
      ASSERT_TRUE(seen.insert(share.device).second) << "each device once";
      const auto room = std::ranges::find(rooms, share.device, &Room::device);
      ASSERT_NE(room, rooms.end());
      ASSERT_LE(placement->bytes.on(share.device), room->free) << "what is to be left free is";
      ASSERT_TRUE(placement->shares.size() == 1 || share.layers > 0);
      sum += static_cast<std::size_t>(share.layers);
      taken += placement->bytes.on(share.device);
    }
    if (placement->shares.size() > 1) ASSERT_EQ(sum, on_devices) << "every layer lies somewhere";
    Bytes least;
    for (std::size_t i = begin; i < extent.layers.size(); ++i)
      least += extent.layers[i].weights + extent.layers[i].cache;
    ASSERT_GE(taken, least);
    ASSERT_EQ(placement->bytes.total(), taken + placement->bytes.on(host_device())) << "and nowhere else";
    // The guide's rule spreads on purpose.
    if (model.layout == Layout::kGuide) continue;
    for (std::size_t count = 1; count < placement->shares.size(); ++count)
      ASSERT_FALSE(fits_on_any(extent, begin, rooms, count)) << "it fits on fewer: " << count;
  }
  EXPECT_GT(placed, 5'000);
  EXPECT_GT(split, 1'000);
}

}  // namespace
}  // namespace lm::core
