// Where a model goes: which devices, and how many of its layers on each. Pure functions over what is free.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "domain/device.h"
#include "domain/footprint.h"
#include "domain/model.h"

namespace lm::core {

// A device as placement sees it.
struct Room {
  DeviceId device;
  Bytes free;             // what the load may take of it
  bool display = false;   // a screen hangs on it
  bool occupied = false;  // another model of ours is there
  bool bare = false;      // the engine takes nothing of it for itself: it is behind an RPC server
};

// A model that asks for a place.
struct PlacementCase {
  const Extent& extent;
  ModelKind kind = ModelKind::kGeneration;
  Layout layout = Layout::kCompact;
  std::optional<int> max_devices{};
  std::optional<int> gpu_layers{};  // only the last so many layers leave the host, the output among them
  std::span<const Experience> known{};
  Split split = Split::kLayer;
};

struct Placement {
  std::vector<LayerShare> shares;  // never empty; a single one has no number of layers
  DeviceBytes bytes;               // host included
  bool operator==(const Placement&) const = default;
};

// `rooms`: the devices that may be used, in the order of the bus. Nothing where it does not fit on any, or
// not on any `max_devices` of them. What it takes of the host is not looked at.
//  compact: the fewest devices; of as many, those without a screen, then those with the most free. A model
//  for embeddings goes where nothing of ours is, if it can, and there to the smallest that will do.
//  guide: text over the first four, divided by what is free, embeddings on the fifth; with fewer devices
//  embeddings have the last and text the others, and one is shared. Where that does not fit: compact.
std::optional<Placement> place(const PlacementCase& model, std::span<const Room> rooms);

// All the places that the layout does not tell apart but by what is free: the first is place()'s. Where they
// have to be made free, one may be had for less than another. Not more than `most`; of more than six devices
// not every set is looked at.
std::vector<Placement> places(const PlacementCase& model, std::span<const Room> rooms, std::size_t most = 64);

// The same where it does not fit: for the figures of a refusal, and for somebody who insists. `rooms` has at
// least one.
Placement place_anyway(const PlacementCase& model, std::span<const Room> rooms);

// What `shares` of it take, part by part, by arithmetic; `rooms` has their devices. The host first.
std::vector<DeviceMemory> account_of(const PlacementCase& model, std::span<const LayerShare> shares,
                                     std::span<const Room> rooms);

// Whether the layout cuts it over several of so many devices although it fits on one.
bool spreads(Layout layout, ModelKind kind, std::size_t devices);

// The devices that the owner's word allows.
struct Candidates {
  std::vector<DeviceId> devices;         // in the order of the bus; empty: the host
  std::optional<DeviceId> missed;        // the only one that it may have, which is not there at the moment
  std::optional<std::string> warning{};  // where the wish cannot be granted; without the model's name
};
// `engine`: for the warning: with the variant that was built as its last word.
Candidates candidates(const LoadOptions& options, const PlacementWish& wish, std::span<const Device> devices,
                      std::string_view engine = {});

// What is to be left free of a device by the owner's word on one model.
Bytes reserve_on(const PlacementWish& wish, const DeviceId& device);

}  // namespace lm::core
