#include "runtime/remote_devices.h"

#include <algorithm>

#include <fmt/format.h>

namespace lm::runtime {

void RemoteDevices::name(const std::vector<std::string>& servers) {
  std::vector<Server> fresh;
  for (const std::string& address : servers) {
    const auto known = std::ranges::find(servers_, address, &Server::address);
    fresh.push_back(known != servers_.end() ? *known : Server{.address = address, .seen = {}});
  }
  servers_ = std::move(fresh);
}

DeviceId RemoteDevices::id_of(std::size_t server, std::size_t number) const {
  std::size_t id = server;
  if (number > 0) {
    id = servers_.size() + number - 1;
    for (std::size_t s = 0; s < server; ++s) id += std::max<std::size_t>(1, servers_[s].seen.size()) - 1;
  }
  return DeviceId(fmt::format("rpc{}", id));
}

Task<bool> RemoteDevices::look(std::set<DeviceId> in_use) {
  std::vector<std::string> free;
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    bool busy = false;
    for (std::size_t n = 0; n < std::max<std::size_t>(1, servers_[s].seen.size()); ++n)
      busy |= in_use.contains(id_of(s, n));
    if (!busy) free.push_back(servers_[s].address);
  }
  if (free.empty()) co_return false;
  const auto found = co_await look_(free);
  bool changed = false;
  for (Server& server : servers_) {
    if (std::ranges::find(free, server.address) == free.end()) continue;
    const Server before = server;
    if (!found) {
      server.trouble = found.error().message;
    } else if (const auto missing =
                   std::ranges::find(found->missing, server.address, &backend::SeenDevices::Missing::server);
               missing != found->missing.end()) {
      server.trouble = missing->why;
    } else {
      server.trouble.clear();
      server.seen.clear();
      for (const backend::SeenDevice& seen : found->devices) {
        if (seen.device.server == server.address) server.seen.push_back(seen);
      }
      if (server.seen.empty()) server.trouble = "was not told of";
    }
    changed |= server.trouble != before.trouble || server.seen != before.seen;
  }
  co_return changed;
}

std::vector<Device> RemoteDevices::devices() const {
  std::vector<Device> all;
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    const Server& server = servers_[s];
    for (std::size_t n = 0; n < std::max<std::size_t>(1, server.seen.size()); ++n) {
      Device device{.id = {}, .kind = DeviceKind::kRpc, .name = "RPC server " + server.address};
      if (n < server.seen.size()) {
        device = server.seen[n].device;
        device.headroom = device.capacity - server.seen[n].free;
      }
      device.id = id_of(s, n);
      device.server = server.address;
      device.usable = server.trouble.empty();
      all.push_back(std::move(device));
    }
  }
  std::ranges::sort(all, {}, [](const Device& d) { return std::stoi(d.id.str().substr(3)); });
  return all;
}

std::vector<DeviceReading> RemoteDevices::readings() const {
  std::vector<DeviceReading> all;
  for (std::size_t s = 0; s < servers_.size(); ++s) {
    const Server& server = servers_[s];
    for (std::size_t n = 0; n < std::max<std::size_t>(1, server.seen.size()); ++n) {
      DeviceReading reading;
      reading.device = id_of(s, n);
      if (n < server.seen.size()) {
        reading.capacity = server.seen[n].device.capacity;
        reading.free = server.seen[n].free;
      }
      reading.unknown =
          server.trouble.empty()
              ? "what others use of it, and what its processes hold: it is behind an RPC server, and its "
                "figures are the engine's from when it was last looked at with nothing of ours there"
              : fmt::format("everything: {} {}", server.address, server.trouble);
      all.push_back(std::move(reading));
    }
  }
  return all;
}

std::vector<std::string> RemoteDevices::troubles() const {
  std::vector<std::string> all;
  for (const Server& server : servers_) {
    if (!server.trouble.empty()) all.push_back(server.address + " " + server.trouble);
  }
  return all;
}

}  // namespace lm::runtime
