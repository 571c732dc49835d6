// What a worker was told to load.
#pragma once

#include <vector>

#include "domain/device.h"
#include "domain/ids.h"
#include "domain/model.h"

namespace lm::backend {

struct LoadOrder {
  InstanceId instance;
  Generation generation;
  Model model;
  LoadOptions options;
  std::vector<Device> devices{};  // those of options.shares
};

}  // namespace lm::backend
