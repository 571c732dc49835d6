// What a load would take of the host and of a card, by arithmetic on the metadata. A first reservation: what
// is measured replaces it.
#pragma once

#include <optional>
#include <vector>

#include "artifact.h"
#include "domain/footprint.h"
#include "domain/model.h"
#include "load_options.h"

namespace lm::worker {

// Never less than the key-value cache and, without mmap, the weights. Other architectures than attention are
// estimated as if they had it, which is too much rather than too little.
DeviceMemory predict_on_host(const Artifact& artifact, const Artifact* projector,
                             const EffectiveOptions& options);

// A card, and how many of the model's layers go there, counted from the last, the output among them; empty:
// all.
struct CardShare {
  DeviceId device;
  std::optional<int> layers;
};

// The card that the options name, "cuda0"; empty where they name none, or leave all layers on the host.
std::optional<CardShare> card_of(const LoadOptions& options);

// The same layer by layer, for devices of whichever kind: an RPC server's takes no context of its own.
Extent extent_of(const Artifact& artifact, const Artifact* projector, const EffectiveOptions& options);

// Host and card. The table of token embeddings stays on the host, and lies on the card a second time where
// the output is made from it.
std::vector<DeviceMemory> predict_on_card(const Artifact& artifact, const Artifact* projector,
                                          const EffectiveOptions& options, const CardShare& card);

}  // namespace lm::worker
