#include "probe/machine_probe.h"

#include <algorithm>

#include "probe/amdgpu_probe.h"
#include "probe/nvml_probe.h"

namespace lm::probe {

MachineProbe::MachineProbe(Options options) : host_(options.root) {
  if (!options.nvml.empty()) {
    auto opened =
        NvmlProbe::open({.library = options.nvml, .visible = options.visible_cuda, .root = options.root});
    if (opened) {
      cards_.push_back(std::move(*opened));
    } else if (opened.error().code != ErrorCode::kNotFound) {
      troubles_.push_back(opened.error().message);
    }
  }
  if (auto amd = AmdgpuProbe::open(options.root)) cards_.push_back(std::move(amd));
}

Result<std::vector<Device>> MachineProbe::devices() {
  LM_TRY(std::vector<Device> all, host_.devices());
  for (const auto& probe : cards_) {
    LM_TRY(std::vector<Device> cards, probe->devices());
    std::ranges::move(cards, std::back_inserter(all));
  }
  return all;
}

Result<Reading> MachineProbe::read(const Request& request) {
  LM_TRY(Reading all, host_.read(request));
  for (const auto& probe : cards_) {
    LM_TRY(Reading cards, probe->read(request));
    add(all, std::move(cards));
  }
  return all;
}

void MachineProbe::add(Reading& all, Reading cards) {
  std::ranges::move(cards.devices, std::back_inserter(all.devices));
  for (ProcessReading& process : cards.processes) {
    const auto known = std::ranges::find(all.processes, process.pid, &ProcessReading::pid);
    if (known == all.processes.end()) {
      all.processes.push_back(std::move(process));
    } else {
      known->held += process.held;
    }
  }
}

}  // namespace lm::probe
