#include "core/ledger.h"

#include <algorithm>

namespace lm::core {

bool Need::covers(const Need& shortage) const {
  if (places < shortage.places) return false;
  return std::ranges::all_of(shortage.bytes,
                             [this](const auto& entry) { return bytes.on(entry.first) >= entry.second; });
}

bool Need::takes_of(const Need& shortage) const {
  return (shortage.places > 0 && places > 0) ||
         std::ranges::any_of(shortage.bytes,
                             [this](const auto& entry) { return bytes.on(entry.first) > Bytes(); });
}

Need Need::beyond(const Need& coming) const {
  Need left{.bytes = {}, .places = std::max(0, places - coming.places)};
  for (const auto& [device, amount] : bytes)
    left.bytes.set(device, std::max(Bytes(), amount - coming.bytes.on(device)));
  return left;
}

Need Need::where(const Need& need) const {
  Need there{.bytes = {}, .places = need.places > 0 ? places : 0};
  for (const auto& [device, amount] : need.bytes) there.bytes.set(device, bytes.on(device));
  return there;
}

Ledger::Ledger(std::span<const Device> devices, const DeviceBytes& external, std::optional<int> max_loaded)
    : devices_(devices.begin(), devices.end()),
      external_(external),
      max_loaded_(max_loaded),
      any_server_(std::ranges::any_of(devices, [](const Device& d) { return !d.server.empty(); })) {}

DeviceBytes Ledger::whole(const DeviceBytes& bytes) const {
  if (!any_server_) return bytes;
  DeviceBytes all = bytes;
  for (const auto& [id, amount] : bytes) {
    const auto device = std::ranges::find(devices_, id, &Device::id);
    if (device == devices_.end() || device->server.empty() || amount <= Bytes()) continue;
    for (const Device& other : devices_) {
      if (other.server == device->server) all.set(other.id, std::max(all.on(other.id), ceiling(other.id)));
    }
  }
  return all;
}

void Ledger::charge(const Charge& charge) {
  reserved_ += charge.reserved;
  charged_ += whole(DeviceBytes::max(charge.reserved, charge.held));
  places_ += charge.places;
}

Bytes Ledger::ceiling(const DeviceId& id) const {
  const auto device = std::ranges::find(devices_, id, &Device::id);
  if (device == devices_.end()) return Bytes();
  const Bytes physical = device->capacity - device->headroom - external_.on(id);
  return std::max(Bytes(), device->limit ? std::min(*device->limit, physical) : physical);
}

Bytes Ledger::available(const DeviceId& device) const {
  return ceiling(device) - charged_.on(device);
}

Need Ledger::shortage(const Need& need) const {
  Need missing;
  for (const auto& [device, bytes] : need.bytes) {
    const Bytes available_bytes = available(device);
    if (bytes > available_bytes) missing.bytes.set(device, bytes - available_bytes);
  }
  if (max_loaded_ && need.places > 0) missing.places = std::max(0, places_ + need.places - *max_loaded_);
  return missing;
}

}  // namespace lm::core
