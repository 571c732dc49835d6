#include "runtime/memory_sampler.h"

#include <vector>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using ::testing::SizeIs;

const DeviceId kCard("cuda0");
const InstanceId kOurs(7);

// A machine as the test says it is.
class FakeProbe final : public probe::Probe {
 public:
  Result<std::vector<Device>> devices() override { return std::vector<Device>(); }
  Result<probe::Reading> read(const probe::Request& request) override {
    probe::Reading reading{
        .devices =
            {{.device = kCard, .capacity = gib(80), .free = free, .holders = {}, .per_process = per_process}},
        .processes = {}};
    if (request.holders > 0) reading.devices[0].holders.push_back({4711, "somebody", gib(80) - free});
    return reading;
  }

  Bytes free = gib(80);
  bool per_process = false;
};

class Release : public ::testing::Test {
 protected:
  void load(Bytes bytes) {
    sampler.sample();
    sampler.load_begins(kOurs);
    probe.free -= bytes;
    sampler.stop_begins(kOurs);
  }
  ReleaseMeasured measure(Bytes expected) {
    return sampler.measure_release(kOurs, Generation(1), {{kCard, expected}});
  }

  boost::asio::io_context io;
  FakeProbe probe;
  std::vector<Event> events;
  MemorySampler sampler{io.get_executor(), probe,
                        [this](Event event) { events.push_back(std::move(event)); }};
};

TEST_F(Release, IsProvedByTheDeviceWhenItHasEverythingBack) {
  load(gib(6));
  const auto clinging = measure(gib(6));
  EXPECT_EQ(clinging.method, "device");
  EXPECT_EQ(clinging.residual.on(kCard), gib(6));
  ASSERT_THAT(clinging.holders, SizeIs(1));
  probe.free += gib(2);
  EXPECT_EQ(measure(gib(6)).residual.on(kCard), gib(4)) << "a part is back";
  probe.free += gib(4);
  EXPECT_TRUE(measure(gib(6)).residual.empty());
}

TEST_F(Release, ALittleIsWithinTheDevicesOwnMoves) {
  load(gib(6));
  probe.free += gib(6) - mib(100);
  EXPECT_TRUE(measure(gib(6)).residual.empty()) << "2 % of 6 GiB";
  load(mib(200));
  probe.free += mib(100);
  EXPECT_EQ(measure(mib(200)).residual.on(kCard), mib(100));
}

// A load that failed was charged more than it took.
TEST_F(Release, WhatWasNeverTakenNeedNotComeBack) {
  load(gib(1));
  probe.free += gib(1);
  EXPECT_TRUE(measure(gib(30)).residual.empty());
}

TEST_F(Release, AStrangerWhoTookMemoryMeanwhileDoesNotHideOurs) {
  load(gib(6));
  probe.free -= gib(3);
  EXPECT_EQ(measure(gib(6)).residual.on(kCard), gib(6));
}

TEST_F(Release, SamplesDuringTheEndDoNotMoveTheBaseline) {
  load(gib(6));
  probe.free += gib(3);
  sampler.sample();
  EXPECT_EQ(measure(gib(6)).residual.on(kCard), gib(3));
  probe.free += gib(3);
  EXPECT_TRUE(measure(gib(6)).residual.empty());
}

TEST_F(Release, WhereTheDriverTellsTheProcessAloneCounts) {
  probe.per_process = true;
  load(gib(6));
  const auto told = measure(gib(6));
  EXPECT_EQ(told.method, "process");
  EXPECT_TRUE(told.residual.empty());
}

}  // namespace
}  // namespace lm::runtime
