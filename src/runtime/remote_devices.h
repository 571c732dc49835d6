// Devices behind RPC servers: no probe of ours reaches them, so they are what the engine said of them when it
// last looked. It is asked in a worker that is thrown away after.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "backend/workers.h"
#include "base/result.h"
#include "base/task.h"
#include "domain/device.h"

namespace lm::runtime {

// One thread. Decides nothing.
class RemoteDevices {
 public:
  using Look = std::function<Task<Result<backend::SeenDevices>>(std::vector<std::string> servers)>;

  explicit RemoteDevices(Look look) : look_(std::move(look)) {}

  // The servers that the configuration names. Those that are new were not looked at yet.
  void name(const std::vector<std::string>& servers);

  // Looks at those that none of `in_use` is behind: a server has one client, and would keep a second one
  // waiting. Bounded by the worker's own limits. Whether anything changed.
  Task<bool> look(std::set<DeviceId> in_use);

  // In the order of the configuration. One whose server was not seen has no capacity and is not usable. What
  // others had of it is its headroom.
  std::vector<Device> devices() const;
  // The last look, and what is not known.
  std::vector<DeviceReading> readings() const;
  // The servers that do not serve, with the reason: "10.0.0.7:50052 does not answer".
  std::vector<std::string> troubles() const;
  bool any() const { return !servers_.empty(); }

 private:
  struct Server {
    std::string address;
    std::vector<backend::SeenDevice> seen;          // keeps its last ones while it is away
    std::string trouble = "was not looked at yet";  // empty: it serves
  };
  // "rpc0" is the first server's first device; those that a server has beside its first are numbered after
  // all the servers.
  DeviceId id_of(std::size_t server, std::size_t number) const;

  Look look_;
  std::vector<Server> servers_;
};

}  // namespace lm::runtime
