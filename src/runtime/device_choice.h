// Which device a model goes to, in words that the ledger and the worker understand alike.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "domain/device.h"
#include "domain/model.h"

namespace lm::runtime {

struct DeviceChoice {
  std::string device;                  // "cuda0", "host", or "auto" where only the engine knows its devices
  std::optional<std::string> warning;  // where the wish cannot be granted; without the model's name
};

// `engine`: as backend::Workers::engine() says it, with the variant as the last word. A model goes to one
// card: the one that is named, else the first without a screen, else the first. What fits where is not looked
// at here.
DeviceChoice choose_device(const LoadOptions& wanted, std::span<const Device> devices,
                           std::string_view engine);

}  // namespace lm::runtime
