#include "memory_report.h"

#include <algorithm>
#include <ggml-backend.h>
#include <llama-ext.h>
#include <string_view>

#include "engine_log.h"

namespace lm::worker {

std::vector<DeviceMemory> memory_report(const llama_context* context, bool would_map) {
  std::vector<DeviceMemory> out = {
      DeviceMemory{.device = host_device(), .weights = {}, .mapped = {}, .context = {}, .compute = {}}};
  for (const auto& [type, bytes] : llama_get_memory_breakdown(context)) {
    const auto amount = [](std::size_t n) { return Bytes(static_cast<std::int64_t>(n)); };
    DeviceId device = host_device();
    // Pinned host memory belongs to a card's buffer type, but it is the host's.
    if (!ggml_backend_buft_is_host(type)) {
      if (auto* owner = ggml_backend_buft_get_device(type))
        device = DeviceId(device_name(ggml_backend_dev_name(owner)));
    }
    auto found = std::ranges::find(out, device, &DeviceMemory::device);
    if (found == out.end())
      found = out.insert(
          out.end(),
          DeviceMemory{.device = device, .weights = {}, .mapped = {}, .context = {}, .compute = {}});
    const std::string_view name = ggml_backend_buft_name(type);
    const bool mapped = name.ends_with("_Mapped") || (would_map && name == "CPU");
    (mapped ? found->mapped : found->weights) += amount(bytes.model);
    found->context += amount(bytes.context);
    found->compute += amount(bytes.compute);
  }
  std::erase_if(
      out, [](const DeviceMemory& m) { return m.weights + m.mapped + m.context + m.compute == Bytes(0); });
  return out;
}

}  // namespace lm::worker
