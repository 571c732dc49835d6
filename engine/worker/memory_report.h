// Where the engine says that a model's bytes are.
#pragma once

#include <vector>

#include "domain/footprint.h"

struct llama_context;

namespace lm::worker {

// Host first, then the cards; devices that hold nothing are left out.
std::vector<DeviceMemory> memory_report(const llama_context* context);

}  // namespace lm::worker
