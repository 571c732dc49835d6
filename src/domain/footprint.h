// What a model takes of each device: predicted before a load, measured after it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "domain/device.h"
#include "domain/model.h"

namespace lm {

enum class FootprintSource : std::uint8_t { kPredicted, kMeasured };
std::string_view to_string(FootprintSource source);

// Of a model that may lie on several devices its Extent says more.
struct Footprint {
  DeviceBytes bytes;
  FootprintSource source = FootprintSource::kPredicted;
  bool operator==(const Footprint&) const = default;
};

// What a model takes layer by layer, told before it is known where they go: what placement computes with.
struct Extent {
  struct Layer {
    Bytes weights;
    Bytes cache;
    bool operator==(const Layer&) const = default;
  };
  std::vector<Layer> layers;  // in order; the output is the last
  Bytes scratch;              // on every device that has layers beside the output
  Bytes inputs;               // there as well: what all layers read
  Bytes pipelined;        // beside both, where it is cut over devices and nothing stays on the host: copies
  Bytes last_scratch;     // instead of `scratch`, where of those layers only the last lies beside the output
  Bytes output_scratch;   // on the device of the output; where that has other layers, the larger of both
  Bytes first;            // on the first device: a projector
  Bytes device_context;   // taken by the engine itself of a card that it opens; not of an RPC server's
  Bytes host;             // on the host, wherever the layers are
  Bytes host_with_cards;  // beside that, where a card is opened
  Bytes host_scratch;     // beside that, where layers stay on the host
  Bytes host_pipelined;   // beside that, where the devices have `pipelined`
  bool mapped = true;     // the weights of those are read through a mapping and count for nothing
  bool operator==(const Extent&) const = default;
};

// What these numbers of layers were measured to take, whichever devices they were on.
struct Experience {
  std::vector<int> layers;  // of the shares; of a single one 0
  std::vector<Bytes> bytes;
  Bytes host;
  bool operator==(const Experience&) const = default;
};

// What a footprint depends on; two loads with equal keys take the same memory. `engine` is the worker's
// version and variant.
std::string footprint_key(const Artifact& artifact, const LoadOptions& options, std::string_view engine);

// What an Experience depends on, beside its numbers of layers: the same for all devices.
std::string experience_key(const Artifact& artifact, const LoadOptions& options, std::string_view engine);

// Of bytes that were measured where `shares` lie.
Experience experience_of(const std::vector<LayerShare>& shares, const DeviceBytes& bytes);

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
