#include "core/ledger.h"

#include <random>

#include <gtest/gtest.h>

namespace lm::core {
namespace {

const DeviceId kGpu("gpu");
const DeviceId kHost("host");

Device device(DeviceId id, Bytes capacity, Bytes headroom = {}, std::optional<Bytes> limit = {}) {
  return {.id = std::move(id),
          .kind = DeviceKind::kCuda,
          .capacity = capacity,
          .headroom = headroom,
          .limit = limit};
}

TEST(Ledger, AvailableIsCapacityLessHeadroomOthersAndCharges) {
  const std::vector<Device> devices = {device(kGpu, gib(10), gib(1))};
  Ledger ledger(devices, {{kGpu, gib(2)}}, {});
  EXPECT_EQ(ledger.ceiling(kGpu), gib(7));
  EXPECT_EQ(ledger.available(kGpu), gib(7));
  ledger.charge({.reserved = {{kGpu, gib(3)}}, .held = {{kGpu, gib(2)}}, .places = 1});
  EXPECT_EQ(ledger.available(kGpu), gib(4));
  EXPECT_EQ(ledger.reserved(kGpu), gib(3));
}

TEST(Ledger, ChargesWhatIsHeldBeyondThePromise) {
  const std::vector<Device> devices = {device(kGpu, gib(10))};
  Ledger ledger(devices, {}, {});
  ledger.charge({.reserved = {{kGpu, gib(3)}}, .held = {{kGpu, gib(5)}}});
  EXPECT_EQ(ledger.reserved(kGpu), gib(3));
  EXPECT_EQ(ledger.available(kGpu), gib(5));
}

TEST(Ledger, ALimitBindsBelowPhysicsOnly) {
  const std::vector<Device> devices = {device(kGpu, gib(10), {}, gib(4)),
                                       device(kHost, gib(10), {}, gib(40))};
  const Ledger ledger(devices, {{kGpu, gib(3)}, {kHost, gib(3)}}, {});
  EXPECT_EQ(ledger.ceiling(kGpu), gib(4)) << "others do not use up our own limit";
  EXPECT_EQ(ledger.ceiling(kHost), gib(7)) << "nor does a limit make memory";
}

TEST(Ledger, OthersMayTakeWhatWasPromised) {
  const std::vector<Device> devices = {device(kGpu, gib(10))};
  Ledger ledger(devices, {{kGpu, gib(12)}}, {});
  EXPECT_EQ(ledger.ceiling(kGpu), Bytes());
  ledger.charge({.reserved = {{kGpu, gib(4)}}, .held = {}});
  EXPECT_EQ(ledger.available(kGpu), Bytes() - gib(4));
  EXPECT_EQ(ledger.shortage({.bytes = {{kGpu, gib(1)}}}).bytes.on(kGpu), gib(5));
}

TEST(Ledger, AnUnknownDeviceHasNothing) {
  const std::vector<Device> devices = {device(kGpu, gib(10))};
  const Ledger ledger(devices, {}, {});
  EXPECT_EQ(ledger.available(kHost), Bytes());
  EXPECT_EQ(ledger.shortage({.bytes = {{kHost, Bytes(1)}}}).bytes.on(kHost), Bytes(1));
}

TEST(Ledger, ShortageIsPerDeviceAndEmptyWhereItFits) {
  const std::vector<Device> devices = {device(kGpu, gib(10)), device(kHost, gib(4))};
  Ledger ledger(devices, {}, {});
  EXPECT_TRUE(ledger.shortage({.bytes = {{kGpu, gib(10)}, {kHost, gib(4)}}}).empty());
  const Need need = {.bytes = {{kGpu, gib(3)}, {kHost, gib(6)}}, .places = 1};
  const Need missing = ledger.shortage(need);
  EXPECT_EQ(missing.bytes, (DeviceBytes{{kHost, gib(2)}}));
  EXPECT_EQ(missing.places, 0) << "no max_loaded: places are free";
}

TEST(Ledger, PlacesCountOnlyForWhoTakesOne) {
  const std::vector<Device> devices = {device(kGpu, gib(10))};
  Ledger ledger(devices, {}, 2);
  ledger.charge({.reserved = {}, .held = {}, .places = 1});
  EXPECT_EQ(ledger.shortage({.bytes = {}, .places = 1}).places, 0);
  ledger.charge({.reserved = {}, .held = {}, .places = 1});
  EXPECT_EQ(ledger.shortage({.bytes = {}, .places = 1}).places, 1);
  EXPECT_EQ(ledger.shortage({.bytes = {}, .places = 0}).places, 0) << "an embedding model takes none";
}

TEST(Need, CoversEveryDeviceAndPlaces) {
  const Need much = {.bytes = {{kGpu, gib(4)}, {kHost, gib(1)}}, .places = 1};
  EXPECT_TRUE(much.covers({}));
  EXPECT_TRUE(much.covers({.bytes = {{kGpu, gib(4)}}, .places = 1}));
  EXPECT_FALSE(much.covers({.bytes = {{kGpu, gib(4)}, {kHost, gib(2)}}}));
  EXPECT_FALSE(much.covers({.bytes = {}, .places = 2}));
  EXPECT_FALSE(much.covers({.bytes = {{DeviceId("gpu1"), Bytes(1)}}}));
}

// Against arithmetic done by hand, on random books.
TEST(Need, HelpsWhereSomethingLacks) {
  const DeviceId a("a"), b("b");
  const Need charge{.bytes = {{a, gib(2)}}, .places = 1};
  EXPECT_TRUE(charge.takes_of({.bytes = {{a, gib(5)}}, .places = 0}));
  EXPECT_FALSE(charge.takes_of({.bytes = {{b, gib(5)}}, .places = 0})) << "another device";
  EXPECT_TRUE(charge.takes_of({.bytes = {{b, gib(5)}}, .places = 1})) << "a place";
  EXPECT_FALSE((Need{.bytes = {{a, gib(2)}}, .places = 0}).takes_of({.bytes = {}, .places = 1}));
  EXPECT_FALSE(charge.takes_of({})) << "nothing lacks";
}

TEST(Need, WhatIsComingIsNotMissed) {
  const DeviceId a("a"), b("b");
  const Need shortage{.bytes = {{a, gib(3)}, {b, gib(1)}}, .places = 2};
  const Need left = shortage.beyond({.bytes = {{a, gib(1)}, {b, gib(4)}}, .places = 1});
  EXPECT_EQ(left.bytes, (DeviceBytes{{a, gib(2)}})) << "too much of one is nothing of the other";
  EXPECT_EQ(left.places, 1);
  EXPECT_TRUE(shortage.beyond(shortage).empty());
  EXPECT_EQ(shortage.beyond({}).bytes, shortage.bytes);
  EXPECT_EQ(shortage.beyond({.bytes = {}, .places = 5}).places, 0);
}

TEST(Need, IsLookedAtWhereSomethingIsTaken) {
  const DeviceId a("a"), b("b");
  const Need shortage{.bytes = {{a, gib(3)}, {b, gib(1)}}, .places = 2};
  const Need on_b = shortage.where({.bytes = {{b, mib(1)}}, .places = 0});
  EXPECT_EQ(on_b.bytes, (DeviceBytes{{b, gib(1)}}));
  EXPECT_EQ(on_b.places, 0);
  EXPECT_EQ(shortage.where({.bytes = {}, .places = 1}).places, 2);
  EXPECT_TRUE(shortage.where({}).empty());
}

TEST(Ledger, AgreesWithPlainArithmetic) {
  std::mt19937_64 random(7);
  const auto upto = [&](std::int64_t n) {
    return Bytes(static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(n + 1)));
  };
  for (int round = 0; round < 2000; ++round) {
    const Bytes capacity = upto(1000), headroom = upto(100), external = upto(300);
    std::optional<Bytes> limit;
    if (random() % 2) limit = upto(1000);
    const std::vector<Device> devices = {device(kGpu, capacity, headroom, limit)};
    Ledger ledger(devices, {{kGpu, external}}, {});
    std::int64_t charged = 0;
    for (std::uint64_t i = random() % 4; i > 0; --i) {
      const Bytes reserved = upto(200), held = upto(200);
      ledger.charge({.reserved = {{kGpu, reserved}}, .held = {{kGpu, held}}});
      charged += std::max(reserved, held).count();
    }
    std::int64_t most = capacity.count() - headroom.count() - external.count();
    if (limit) most = std::min(most, limit->count());
    most = std::max<std::int64_t>(0, most);
    ASSERT_EQ(ledger.available(kGpu).count(), most - charged);
    const Bytes want = upto(500);
    const bool fits = want.count() <= most - charged;
    ASSERT_EQ(ledger.shortage({.bytes = {{kGpu, want}}}).empty(), fits || want == Bytes());
  }
}

TEST(Ledger, BehindAServerAllGoesToOne) {
  const std::vector<Device> devices = {
      {.id = DeviceId("rpc0"), .capacity = gib(8), .headroom = gib(1), .server = "a:1"},
      {.id = DeviceId("rpc1"), .capacity = gib(4), .server = "a:1", .number = 1},
      {.id = DeviceId("rpc2"), .capacity = gib(4), .server = "b:1"},
      {.id = DeviceId("cuda0"), .capacity = gib(4)}};
  Ledger books(devices, {}, {});
  EXPECT_EQ(books.whole({{DeviceId("cuda0"), gib(1)}}), (DeviceBytes{{DeviceId("cuda0"), gib(1)}}));
  EXPECT_EQ(books.whole({{DeviceId("rpc1"), gib(1)}}),
            (DeviceBytes{{DeviceId("rpc0"), gib(7)}, {DeviceId("rpc1"), gib(4)}}));
  EXPECT_EQ(books.whole({{DeviceId("rpc0"), gib(9)}}).on(DeviceId("rpc0")), gib(9)) << "never less";
  books.charge({.reserved = {{DeviceId("rpc1"), gib(1)}}, .held = {}, .places = 0});
  EXPECT_EQ(books.available(DeviceId("rpc0")), Bytes());
  EXPECT_EQ(books.available(DeviceId("rpc1")), Bytes());
  EXPECT_EQ(books.available(DeviceId("rpc2")), gib(4));
  EXPECT_EQ(books.available(DeviceId("cuda0")), gib(4));
  EXPECT_EQ(books.reserved(DeviceId("rpc1")), gib(1)) << "what was promised is told as it is";
}

}  // namespace
}  // namespace lm::core
