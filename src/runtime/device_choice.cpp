#include "runtime/device_choice.h"

#include <algorithm>
#include <vector>

#include <fmt/format.h>

namespace lm::runtime {

DeviceChoice choose_device(const LoadOptions& wanted, std::span<const Device> devices,
                           std::string_view engine) {
  const std::string& wish = wanted.device;
  const std::string_view variant = engine.substr(engine.rfind(' ') + 1);
  if (wish == "host" || wish == "cpu") return {.device = wish, .warning = {}};

  std::vector<const Device*> cards;
  if (variant == "cuda") {
    for (const Device& device : devices) {
      if (device.kind == DeviceKind::kCuda) cards.push_back(&device);
    }
  }
  if (cards.empty()) {
    // Another variant's devices are known to the engine alone.
    if (variant != "cpu" && variant != "cuda") return {.device = wish, .warning = {}};
    if (wish == "auto") return {.device = "auto", .warning = {}};
    const bool there =
        std::ranges::any_of(devices, [](const Device& d) { return d.kind == DeviceKind::kCuda; });
    return {
        .device = "auto",
        .warning = there ? fmt::format("device {} cannot be used by the engine that was built ({}); it runs "
                                       "on the host; scripts/bootstrap --gpu cuda builds the other one",
                                       wish, variant)
                         : fmt::format("device {} is not there; it runs on the host", wish)};
  }
  if (wanted.gpu_layers == 0) return {.device = "host", .warning = {}};

  const auto named = std::ranges::find(cards, wish, [](const Device* d) { return d->id.str(); });
  if (named != cards.end()) return {.device = wish, .warning = {}};
  const auto free_of_screens = std::ranges::find(cards, false, &Device::display);
  DeviceChoice choice{.device = (free_of_screens != cards.end() ? *free_of_screens : cards.front())->id.str(),
                      .warning = {}};
  if (wish != "auto" && wish != "cuda")
    choice.warning = fmt::format("device {} is not there; it runs on {}", wish, choice.device);
  return choice;
}

}  // namespace lm::runtime
