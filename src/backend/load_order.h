// What a worker was told to load.
#pragma once

#include "domain/ids.h"
#include "domain/model.h"

namespace lm::backend {

struct LoadOrder {
  InstanceId instance;
  Generation generation;
  Model model;
  LoadOptions options;
};

}  // namespace lm::backend
