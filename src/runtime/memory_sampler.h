// Measures devices and workers for the arbiter: at once when a decision is near, else now and then, rarer
// when nothing changes.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <set>
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

  // Measures now and posts MemoryMeasured. Under a millisecond for the host; a card's driver takes longer.
  void sample();
  // The same, unless the last time is not that long ago.
  void sample_if_older(Duration age);
  // What devices have free before an instance's load, by the last sample, and before its end, by one that is
  // taken now: what a release is judged by where the driver does not tell bytes per process.
  void load_begins(InstanceId instance);
  void stop_begins(InstanceId instance);
  // Until it is cancelled: every second while something changes, down to every ten.
  Task<> keep_sampling();
  void stop();

  // What one process holds; empty where it has ended.
  std::optional<ProcessReading> measure(os::ProcessIdentity process);
  // What these processes hold that still run, and what the devices have free; of anybody's processes.
  probe::Reading read(std::vector<os::ProcessIdentity> processes);
  // What can still be measured of a gone process, and the devices. On a device that tells bytes per process
  // the residual is the process's own ("process"). On others it is what the device lacks of `expected` since
  // the end began, or of what it had free before the load, whichever is less ("device"): somebody else who
  // takes memory meanwhile makes it too large, never too small. kNotMeasured where nothing can be.
  ReleaseMeasured measure_release(InstanceId instance, Generation generation, const DeviceBytes& expected);

  const std::vector<DeviceReading>& readings() const { return readings_; }

 private:
  boost::asio::any_io_executor executor_;
  probe::Probe& probe_;
  Post post_;
  const backend::Workers* workers_ = nullptr;
  // Of a worker, for the proof after its end.
  struct Seen {
    std::optional<os::ProcessIdentity> process;
    std::optional<DeviceBytes> free_before_load;
    DeviceBytes free_before_stop;
    std::set<DeviceId> untold;  // devices that did not tell bytes per process while it ran
    bool stopping = false;
  };
  DeviceBytes free_now() const;
  void note_running(Seen& seen) const;

  std::vector<DeviceReading> readings_;
  std::chrono::steady_clock::time_point sampled_at_;
  std::map<InstanceId, Seen> seen_;
  std::shared_ptr<struct SamplingTimer> timer_;
};

}  // namespace lm::runtime
