#include "probe/host_probe.h"

#include "probe/holders.h"
#include "probe/host_memory.h"
#include "probe/process_memory.h"

namespace lm::probe {

Result<std::vector<Device>> HostProbe::devices() {
  LM_TRY(const HostMemory memory, read_host_memory(root_));
  return std::vector{Device{.id = host_device(),
                            .kind = DeviceKind::kHost,
                            .name = "host memory",
                            .capacity = memory.capacity,
                            .headroom = {},
                            .limit = {}}};
}

Result<Reading> HostProbe::read(const Request& request) {
  LM_TRY(const HostMemory memory, read_host_memory(root_));
  Reading reading;
  DeviceReading host{.device = host_device(),
                     .capacity = memory.capacity,
                     .free = memory.free,
                     .holders = {},
                     .per_process = true};
  if (request.holders > 0) {
    LM_TRY(host.holders, read_host_holders(request.holders, root_));
  }
  reading.devices.push_back(std::move(host));

  for (const auto& process : request.processes) {
    const auto used = read_process_memory(process, root_);
    if (!used && used.error().code == ErrorCode::kNotFound) continue;
    if (!used) return fail(used.error());
    reading.processes.push_back(
        {.pid = process.pid, .held = {{host_device(), used->held()}}, .reclaimable = used->reclaimable});
  }
  return reading;
}

}  // namespace lm::probe
