#include "domain/device.h"

#include <algorithm>

#include "base/assert.h"

namespace lm {

std::string_view to_string(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::kHost:
      return "host";
    case DeviceKind::kCuda:
      return "cuda";
    case DeviceKind::kRocm:
      return "rocm";
    case DeviceKind::kVulkan:
      return "vulkan";
    case DeviceKind::kRpc:
      return "rpc";
    case DeviceKind::kOther:
      return "other";
  }
  LM_ASSERT(false, "a DeviceKind outside its enumerators");
}

const DeviceId& host_device() {
  static const DeviceId kHost("host");
  return kHost;
}

DeviceBytes::DeviceBytes(std::initializer_list<std::pair<DeviceId, Bytes>> entries) {
  for (const auto& [device, bytes] : entries) add(device, bytes);
}

Bytes DeviceBytes::on(const DeviceId& device) const {
  const auto it = std::ranges::lower_bound(entries_, device, {}, &std::pair<DeviceId, Bytes>::first);
  return it != entries_.end() && it->first == device ? it->second : Bytes();
}

void DeviceBytes::set(const DeviceId& device, Bytes bytes) {
  const auto it = std::ranges::lower_bound(entries_, device, {}, &std::pair<DeviceId, Bytes>::first);
  const bool found = it != entries_.end() && it->first == device;
  if (bytes == Bytes()) {
    if (found) entries_.erase(it);
  } else if (found) {
    it->second = bytes;
  } else {
    entries_.emplace(it, device, bytes);
  }
}

Bytes DeviceBytes::total() const {
  Bytes sum;
  for (const auto& [device, bytes] : entries_) sum += bytes;
  return sum;
}

DeviceBytes& DeviceBytes::operator+=(const DeviceBytes& other) {
  for (const auto& [device, bytes] : other) add(device, bytes);
  return *this;
}

DeviceBytes& DeviceBytes::operator-=(const DeviceBytes& other) {
  for (const auto& [device, bytes] : other) add(device, Bytes() - bytes);
  return *this;
}

DeviceBytes DeviceBytes::max(const DeviceBytes& a, const DeviceBytes& b) {
  DeviceBytes result = a;
  for (const auto& [device, bytes] : b) result.set(device, std::max(result.on(device), bytes));
  return result;
}

}  // namespace lm
