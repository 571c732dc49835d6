// Where the engine says that a model's bytes are.
#pragma once

#include <vector>

#include "domain/footprint.h"

struct llama_context;

namespace lm::worker {

// Host first, then the cards; devices that hold nothing are left out. `would_map`: of a simulated load, which
// cannot map, but whose weights in plain host memory would be mapped.
std::vector<DeviceMemory> memory_report(const llama_context* context, bool would_map = false);

}  // namespace lm::worker
