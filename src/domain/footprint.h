// What a model takes of each device: predicted before a load, measured after it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "domain/device.h"
#include "domain/model.h"

namespace lm {

enum class FootprintSource : std::uint8_t { kPredicted, kMeasured };
std::string_view to_string(FootprintSource source);

struct Footprint {
  DeviceBytes bytes;
  FootprintSource source = FootprintSource::kPredicted;
  bool operator==(const Footprint&) const = default;
};

// What a footprint depends on; two loads with equal keys take the same memory. `engine` is the worker's
// version and variant.
std::string footprint_key(const Artifact& artifact, const LoadOptions& options, std::string_view engine);

// The engine's own account of one device after a load.
struct DeviceMemory {
  DeviceId device;
  Bytes weights;  // in buffers of the engine's; mapped weights are `mapped`
  Bytes mapped;   // weights read through a mapping of the file: reclaimable
  Bytes context;  // KV cache and recurrent state
  Bytes compute;  // scratch of the graphs
  bool operator==(const DeviceMemory&) const = default;
};

}  // namespace lm
