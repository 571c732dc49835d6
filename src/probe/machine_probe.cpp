#include "probe/machine_probe.h"

#include <algorithm>

namespace lm::probe {

MachineProbe::MachineProbe(Options options) : host_(options.root) {
  if (options.nvml.empty()) return;
  auto opened =
      NvmlProbe::open({.library = options.nvml, .visible = options.visible_cuda, .root = options.root});
  if (opened) {
    nvml_ = std::move(*opened);
  } else if (opened.error().code != ErrorCode::kNotFound) {
    troubles_.push_back(opened.error().message);
  }
}

Result<std::vector<Device>> MachineProbe::devices() {
  LM_TRY(std::vector<Device> all, host_.devices());
  if (nvml_) {
    LM_TRY(std::vector<Device> cards, nvml_->devices());
    std::ranges::move(cards, std::back_inserter(all));
  }
  return all;
}

Result<Reading> MachineProbe::read(const Request& request) {
  LM_TRY(Reading all, host_.read(request));
  if (!nvml_) return all;
  LM_TRY(Reading cards, nvml_->read(request));
  std::ranges::move(cards.devices, std::back_inserter(all.devices));
  for (ProcessReading& process : cards.processes) {
    const auto known = std::ranges::find(all.processes, process.pid, &ProcessReading::pid);
    if (known == all.processes.end()) {
      all.processes.push_back(std::move(process));
    } else {
      known->held += process.held;
    }
  }
  return all;
}

}  // namespace lm::probe
