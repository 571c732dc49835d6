// A place where bytes of models live, and what was measured there. Host memory is a device like any other.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "domain/ids.h"

namespace lm {

enum class DeviceKind : std::uint8_t { kHost, kCuda, kRocm, kVulkan, kRpc, kOther };
std::string_view to_string(DeviceKind kind);

// The host's device id.
const DeviceId& host_device();

// A process that holds memory of a device.
struct Holder {
  int pid = 0;
  std::string name;
  Bytes bytes;
  bool operator==(const Holder&) const = default;
};

// Bytes per device: a value with few entries, sorted by device, without entries of zero bytes.
class DeviceBytes {
 public:
  DeviceBytes() = default;
  DeviceBytes(std::initializer_list<std::pair<DeviceId, Bytes>> entries);

  Bytes on(const DeviceId& device) const;
  void set(const DeviceId& device, Bytes bytes);
  void add(const DeviceId& device, Bytes bytes) { set(device, on(device) + bytes); }
  Bytes total() const;
  bool empty() const { return entries_.empty(); }
  auto begin() const { return entries_.begin(); }
  auto end() const { return entries_.end(); }

  DeviceBytes& operator+=(const DeviceBytes& other);
  DeviceBytes& operator-=(const DeviceBytes& other);
  // The larger of both, device by device.
  static DeviceBytes max(const DeviceBytes& a, const DeviceBytes& b);
  bool operator==(const DeviceBytes&) const = default;

 private:
  std::vector<std::pair<DeviceId, Bytes>> entries_;
};

// What is true of a device for as long as the daemon runs, and what its owner configured.
struct Device {
  DeviceId id;
  DeviceKind kind = DeviceKind::kOther;
  std::string name;            // for people: "NVIDIA H200", "host memory"
  Bytes capacity;              // physical; on the host the tightest of RAM and cgroup limits
  Bytes headroom;              // never reserved: kept free for everybody else
  std::optional<Bytes> limit;  // the most that our instances may reserve together, by configuration
  std::string driver{};        // its version; empty where there is none of its own
  bool display = false;        // a screen hangs on it
  bool is_part = false;        // a part of a card that was divided (MIG)
  bool usable = true;          // by the engine that was built, and there at the last look
  // Of another machine's device, behind an RPC server: "10.0.0.7:50052", and which of that server's devices
  // it is. Such a server has one client at a time: all its devices go to one model.
  std::string server{};
  int number = 0;
  bool operator==(const Device&) const = default;
};

// One measurement of one device.
struct DeviceReading {
  DeviceId device;
  Bytes capacity;
  Bytes free;                   // what a new process could get; page cache counts as free
  std::vector<Holder> holders;  // largest first, as far as they can be told
  bool per_process = false;     // the driver tells bytes per process, so a release can be proved per process
  std::string unknown{};        // for people: what cannot be told, and why; empty: everything is told
  std::optional<int> utilization{};  // percent of the time in which it computed
  std::optional<int> celsius{};      // of the chip
  std::optional<int> milliwatts{};   // drawn by the whole card
};

// One measurement of one of our processes. What it *holds* cannot be taken back without ending it;
// reclaimable are its resident pages of mapped files, which the kernel drops when somebody needs the room.
struct ProcessReading {
  int pid = 0;
  DeviceBytes held;
  Bytes reclaimable;
};

}  // namespace lm
