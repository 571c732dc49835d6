#include "probe/host_memory.h"

#include <algorithm>

#include "os/file.h"
#include "probe/control_group.h"
#include "probe/status_text.h"

namespace lm::probe {

Result<HostMemory> read_host_memory(const std::filesystem::path& root) {
  LM_TRY(const std::string text, os::read_file(root / "proc/meminfo"));
  const auto total = bytes_of(text, "MemTotal");
  const auto available = bytes_of(text, "MemAvailable");
  if (!total || !available || *total <= Bytes()) {
    return fail(ErrorCode::kInternal, "/proc/meminfo tells no MemTotal or MemAvailable");
  }
  HostMemory memory{.machine_total = *total,
                    .machine_available = *available,
                    .swap_total = bytes_of(text, "SwapTotal").value_or(Bytes()),
                    .swap_used = {},
                    .capacity = *total,
                    .free = std::min(*available, *total),
                    .capacity_bound_by = {},
                    .free_bound_by = {}};
  memory.swap_used = memory.swap_total - bytes_of(text, "SwapFree").value_or(memory.swap_total);

  for (const auto& group : read_control_group_limits(root)) {
    if (group.limit < memory.capacity) {
      memory.capacity = group.limit;
      memory.capacity_bound_by = group.folder;
    }
    const Bytes unreclaimable = std::max(group.used - group.file_pages, Bytes());
    const Bytes free = std::max(group.limit - unreclaimable, Bytes());
    if (free < memory.free) {
      memory.free = free;
      memory.free_bound_by = group.folder;
    }
  }
  return memory;
}

}  // namespace lm::probe
