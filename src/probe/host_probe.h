// The host's memory as a device.
#pragma once

#include <filesystem>

#include "probe/probe.h"

namespace lm::probe {

class HostProbe final : public Probe {
 public:
  // `root` stands for "/", so that recorded trees can be read.
  explicit HostProbe(std::filesystem::path root = "/") : root_(std::move(root)) {}

  Result<std::vector<Device>> devices() override;
  Result<Reading> read(const Request& request) override;

 private:
  std::filesystem::path root_;
};

}  // namespace lm::probe
