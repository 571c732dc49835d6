// Everything of this machine that has a probe of its own: the host first, then its cards.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "probe/host_probe.h"
#include "probe/probe.h"

namespace lm::probe {

class MachineProbe final : public Probe {
 public:
  struct Options {
    std::filesystem::path root = "/";
    std::string nvml = "libnvidia-ml.so.1";     // empty: no cards of NVIDIA's
    std::optional<std::string> visible_cuda{};  // CUDA_VISIBLE_DEVICES
  };

  // Opens what is there. May take a second where a driver wakes up its cards.
  explicit MachineProbe(Options options);

  Result<std::vector<Device>> devices() override;
  // A process may be told of with what it holds on cards although it has ended: the driver still counts it.
  // Fails only where the host cannot be read.
  Result<Reading> read(const Request& request) override;

  // For people: drivers that are installed and do not work. Nothing where there is none.
  const std::vector<std::string>& troubles() const { return troubles_; }

 private:
  static void add(Reading& all, Reading cards);

  HostProbe host_;
  std::vector<std::unique_ptr<Probe>> cards_;  // one for each maker's driver that is there
  std::vector<std::string> troubles_;
};

}  // namespace lm::probe
