// What a release's measurement says where the probe fails, and where something is still held.
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "runtime/memory_sampler.h"

namespace lm::runtime {
namespace {

class FakeProbe : public probe::Probe {
 public:
  Result<std::vector<Device>> devices() override { return std::vector<Device>(); }
  Result<probe::Reading> read(const probe::Request& request) override {
    if (broken) return fail(ErrorCode::kInternal, "/proc/meminfo cannot be read", "io_error");
    probe::Reading reading;
    reading.devices.push_back(
        {.device = host_device(), .capacity = gib(8), .free = gib(5), .holders = {}, .per_process = true});
    if (request.holders > 0) reading.devices[0].holders.push_back({4711, "llm-worker", gib(3)});
    return reading;
  }
  bool broken = false;
};

struct Sampler : ::testing::Test {
  boost::asio::io_context context;
  FakeProbe probe;
  std::vector<Event> told;
  MemorySampler sampler{context.get_executor(), probe,
                        [this](Event event) { told.push_back(std::move(event)); }};
};

TEST_F(Sampler, AFailedMeasurementIsNoMeasurementAndNoResidual) {
  probe.broken = true;
  const ReleaseMeasured measured = sampler.measure_release(InstanceId(7), Generation(3), {});
  EXPECT_EQ(measured.instance, InstanceId(7));
  EXPECT_EQ(measured.generation, Generation(3));
  EXPECT_EQ(measured.method, ReleaseReport::kNotMeasured);
  EXPECT_TRUE(measured.residual.empty());
  EXPECT_TRUE(measured.devices.empty());
  sampler.sample();
  EXPECT_TRUE(told.empty()) << "and nothing is told of the machine";
}

TEST_F(Sampler, AMeasurementNamesItsMethodAndTheDevices) {
  const ReleaseMeasured measured = sampler.measure_release(InstanceId(7), Generation(3), {});
  EXPECT_EQ(measured.method, "process");
  EXPECT_TRUE(measured.residual.empty());
  ASSERT_EQ(measured.devices.size(), 1U);
  EXPECT_EQ(measured.devices[0].free, gib(5));
  EXPECT_EQ(sampler.readings().size(), 1U);
}

}  // namespace
}  // namespace lm::runtime
