// What a load would take of host memory, by arithmetic on the metadata. A first reservation: what is measured
// replaces it.
#pragma once

#include "artifact.h"
#include "domain/footprint.h"
#include "domain/model.h"
#include "load_options.h"

namespace lm::worker {

// Never less than the key-value cache and, without mmap, the weights. Other architectures than attention are
// estimated as if they had it, which is too much rather than too little.
DeviceMemory predict_on_host(const Artifact& artifact, const Artifact* projector,
                             const EffectiveOptions& options);

}  // namespace lm::worker
