// Measures devices and workers for the arbiter: at once when a decision is near, else now and then, rarer
// when nothing changes.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "backend/workers.h"
#include "base/task.h"
#include "domain/event.h"
#include "probe/probe.h"

namespace lm::runtime {

// One thread. `probe` must outlive it.
class MemorySampler {
 public:
  using Post = std::function<void(Event)>;

  MemorySampler(boost::asio::any_io_executor executor, probe::Probe& probe, Post post);

  // Whose processes are measured; set once.
  void watch(const backend::Workers* workers) { workers_ = workers; }

  // Measures now and posts MemoryMeasured. Under a millisecond for the host.
  void sample();
  // Until it is cancelled: every second while something changes, down to every ten.
  Task<> keep_sampling();
  void stop();

  // What one process holds; empty where it has ended.
  std::optional<ProcessReading> measure(os::ProcessIdentity process);
  // What can still be measured of a gone process, and the devices.
  ReleaseMeasured measure_release(InstanceId instance, Generation generation);

  const std::vector<DeviceReading>& readings() const { return readings_; }

 private:
  boost::asio::any_io_executor executor_;
  probe::Probe& probe_;
  Post post_;
  const backend::Workers* workers_ = nullptr;
  std::vector<DeviceReading> readings_;
  std::map<InstanceId, os::ProcessIdentity> seen_;  // of workers, for the proof after their end
  std::shared_ptr<struct SamplingTimer> timer_;
};

}  // namespace lm::runtime
