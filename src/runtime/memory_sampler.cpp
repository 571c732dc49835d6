#include "runtime/memory_sampler.h"

#include <algorithm>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/log.h"

namespace lm::runtime {
namespace {

constexpr Duration kShortest = std::chrono::seconds(1);
constexpr Duration kLongest = std::chrono::seconds(10);
// A change that is worth looking at more closely.
constexpr Bytes kNoticeable = mib(16);
// Whose memory did not come back is told by the largest holders.
constexpr std::size_t kHolders = 5;

}  // namespace

struct SamplingTimer {
  explicit SamplingTimer(const boost::asio::any_io_executor& executor) : timer(executor) {}
  boost::asio::steady_timer timer;
  bool stopped = false;
};

MemorySampler::MemorySampler(boost::asio::any_io_executor executor, probe::Probe& probe, Post post)
    : executor_(std::move(executor)),
      probe_(probe),
      post_(std::move(post)),
      timer_(std::make_shared<SamplingTimer>(executor_)) {}

void MemorySampler::sample() {
  probe::Request request;
  std::map<int, InstanceId> by_pid;
  if (workers_ != nullptr) {
    for (const auto& running : workers_->running()) {
      request.processes.push_back(running.process);
      by_pid.emplace(running.process.pid, running.instance);
      seen_.insert_or_assign(running.instance, running.process);
    }
  }
  auto reading = probe_.read(request);
  if (!reading) {
    log::warning("memory could not be measured: {}", reading.error().message);
    return;
  }
  MemoryMeasured event;
  for (ProcessReading& process : reading->processes)
    event.instances.push_back({by_pid.at(process.pid), std::move(process.held), process.reclaimable});
  readings_ = reading->devices;
  event.devices = std::move(reading->devices);
  post_(std::move(event));
}

Task<> MemorySampler::keep_sampling() {
  const auto timer = timer_;
  Duration pause = kShortest;
  DeviceBytes last;
  while (!timer->stopped) {
    timer->timer.expires_after(pause);
    co_await timer->timer.async_wait(boost::asio::as_tuple(boost::asio::use_awaitable));
    if (timer->stopped) break;
    sample();
    DeviceBytes free;
    for (const DeviceReading& reading : readings_) free.set(reading.device, reading.free);
    const bool changed = std::ranges::any_of(readings_, [&](const DeviceReading& r) {
      const Bytes difference = r.free - last.on(r.device);
      return difference > kNoticeable || Bytes() - difference > kNoticeable;
    });
    pause = changed ? kShortest : std::min(pause * 2, kLongest);
    last = std::move(free);
  }
}

void MemorySampler::stop() {
  timer_->stopped = true;
  timer_->timer.cancel();
}

std::optional<ProcessReading> MemorySampler::measure(os::ProcessIdentity process) {
  auto reading = probe_.read({.processes = {process}, .holders = 0});
  if (!reading || reading->processes.empty()) return std::nullopt;
  return std::move(reading->processes.front());
}

ReleaseMeasured MemorySampler::measure_release(InstanceId instance, Generation generation) {
  ReleaseMeasured event{.instance = instance,
                        .generation = generation,
                        .residual = {},
                        .holders = {},
                        .devices = {},
                        .method = "process"};
  probe::Request request;
  if (const auto seen = seen_.find(instance); seen != seen_.end()) request.processes.push_back(seen->second);
  auto reading = probe_.read(request);
  if (!reading) {
    // Nothing measured is nothing proved: it stays charged until a measurement succeeds or the arbiter gives
    // up.
    log::warning("a release could not be measured: {}", reading.error().message);
    event.residual.set(host_device(), Bytes(1));
    return event;
  }
  for (const ProcessReading& process : reading->processes) event.residual += process.held;
  if (!event.residual.empty()) {
    if (auto with_holders = probe_.read({.processes = {}, .holders = kHolders})) {
      for (const DeviceReading& device : with_holders->devices) {
        if (event.residual.on(device.device) > Bytes())
          event.holders.insert(event.holders.end(), device.holders.begin(), device.holders.end());
      }
    }
  } else {
    seen_.erase(instance);
  }
  readings_ = reading->devices;
  event.devices = std::move(reading->devices);
  return event;
}

}  // namespace lm::runtime
