#include "runtime/memory_sampler.h"

#include <algorithm>
#include <utility>

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
// A device's numbers move a little by themselves.
constexpr Bytes kSlack = mib(64);

// What of `expected` a device has not given back.
Bytes lacking(Bytes expected, Bytes given_back) {
  const Bytes slack = std::max(kSlack, Bytes(expected.count() / 50));
  const Bytes missing = expected - given_back;
  return missing > slack ? missing : Bytes();
}

}  // namespace

struct SamplingTimer {
  explicit SamplingTimer(const boost::asio::any_io_executor& executor) : timer(executor) {}
  boost::asio::steady_timer timer;
  bool stopped = false;
  bool hurried = false;  // a load begins: soon again, whatever the last pause was
};

MemorySampler::MemorySampler(boost::asio::any_io_executor executor, probe::Probe& probe, Post post)
    : executor_(std::move(executor)),
      probe_(probe),
      post_(std::move(post)),
      timer_(std::make_shared<SamplingTimer>(executor_)) {}

void MemorySampler::sample_if_older(Duration age) {
  if (std::chrono::steady_clock::now() - sampled_at_ > age) sample();
}

void MemorySampler::sample() {
  sampled_at_ = std::chrono::steady_clock::now();
  probe::Request request;
  std::map<int, InstanceId> by_pid;
  if (workers_ != nullptr) {
    for (const auto& running : workers_->running()) {
      request.processes.push_back(running.process);
      by_pid.emplace(running.process.pid, running.instance);
      seen_[running.instance].process = running.process;
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
  for (const auto& [pid, instance] : by_pid) note_running(seen_[instance]);  // it may die by itself
  event.devices = std::move(reading->devices);
  post_(std::move(event));
}

DeviceBytes MemorySampler::free_now() const {
  DeviceBytes free;
  for (const DeviceReading& reading : readings_) free.set(reading.device, reading.free);
  return free;
}

void MemorySampler::note_running(Seen& seen) const {
  if (seen.stopping) return;  // it has given back a part already
  seen.free_before_stop = free_now();
  seen.untold.clear();
  for (const DeviceReading& reading : readings_) {
    if (!reading.per_process) seen.untold.insert(reading.device);
  }
}

void MemorySampler::load_begins(InstanceId instance) {
  seen_[instance].free_before_load = free_now();
  timer_->hurried = true;
  timer_->timer.cancel();
}

void MemorySampler::stop_begins(InstanceId instance) {
  sample();
  Seen& seen = seen_[instance];
  note_running(seen);
  seen.stopping = true;
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
    const bool changed = std::ranges::any_of(readings_, [&](const DeviceReading& r) {
      const Bytes difference = r.free - last.on(r.device);
      return difference > kNoticeable || Bytes() - difference > kNoticeable;
    });
    pause = changed || std::exchange(timer->hurried, false) ? kShortest : std::min(pause * 2, kLongest);
    last = free_now();
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

probe::Reading MemorySampler::read(std::vector<os::ProcessIdentity> processes) {
  auto reading = probe_.read({.processes = std::move(processes), .holders = 0});
  if (reading) return *std::move(reading);
  log::warning("memory could not be measured: {}", reading.error().message);
  return {};
}

ReleaseMeasured MemorySampler::measure_release(InstanceId instance, Generation generation,
                                               const DeviceBytes& expected) {
  ReleaseMeasured event{.instance = instance,
                        .generation = generation,
                        .residual = {},
                        .holders = {},
                        .devices = {},
                        .method = "process"};
  const Seen& seen = seen_[instance];
  probe::Request request;
  if (seen.process) request.processes.push_back(*seen.process);
  auto reading = probe_.read(request);
  if (!reading) {
    log::warning("a release could not be measured: {}", reading.error().message);
    event.method = ReleaseReport::kNotMeasured;
    return event;
  }
  for (const ProcessReading& process : reading->processes) event.residual += process.held;
  for (const DeviceReading& device : reading->devices) {
    const Bytes held = expected.on(device.device);
    const bool told = device.per_process && !seen.untold.contains(device.device);
    if (told || held == Bytes()) continue;
    event.method = "device";
    Bytes residual = lacking(held, device.free - seen.free_before_stop.on(device.device));
    if (seen.free_before_load) {
      const Bytes grown = seen.free_before_load->on(device.device) - device.free;
      residual = std::min(residual, lacking(held, held - grown));
    }
    event.residual.set(device.device, std::min(residual, held));
  }
  // What it held behind an RPC server nobody here can measure.
  for (const auto& [device, bytes] : expected) {
    if (std::ranges::find(reading->devices, device, &DeviceReading::device) == reading->devices.end())
      event.complete = false;
  }
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
