// What a load would come to, without beginning it.
#include <algorithm>

#include <fmt/format.h>

#include "core/arbiter.h"
#include "core/eviction.h"

namespace lm::core {

LoadPlan Arbiter::plan(const ModelId& id, const LoadOptions& options, const Forecast& forecast) const {
  LoadPlan plan;
  const auto found = entries_.find(id);
  if (found == entries_.end()) return plan;
  const Entry& entry = found->second;
  const Ledger books = ledger();
  const Need ever = room_ever();
  const PlacementWish& wish = entry.model.placement;
  std::vector<Device> there = devices_;
  for (Device& device : there) device.usable = device.usable && !lost_.contains(device.id);
  const Candidates places = candidates(options, wish, there);

  Need need{.bytes = {}, .places = entry.model.kind == ModelKind::kGeneration ? 1 : 0};
  std::vector<DeviceMemory> parts = forecast.parts;
  if (!places.devices.empty() && forecast.extent) {
    const bool known = options == entry.model.load && !entry.known.empty();
    const PlacementCase model{.extent = *forecast.extent,
                              .kind = entry.model.kind,
                              .layout = wish.layout,
                              .max_devices = wish.max_devices,
                              .gpu_layers = options.gpu_layers,
                              .known = known ? std::span<const Experience>(entry.known)
                                             : std::span<const Experience>(forecast.known),
                              .split = options.split};
    const std::vector<Room> now = rooms_for(entry, places.devices, books, {});
    const std::vector<Room> most = rooms_for(entry, places.devices, books, ever.bytes);
    auto placement = place(model, now);
    if (!placement) placement = soonest_place(entry, model, places.devices, round_for(entry));
    if (!placement) placement = place(model, most);
    if (!placement) placement = place_anyway(model, most);
    plan.shares = placement->shares;
    need.bytes = placement->bytes;
    parts = account_of(model, plan.shares, now);
    const PlacementCase unknown{.extent = *forecast.extent,
                                .kind = entry.model.kind,
                                .layout = wish.layout,
                                .max_devices = wish.max_devices,
                                .gpu_layers = options.gpu_layers,
                                .split = options.split};
    DeviceBytes by_arithmetic;
    for (const DeviceMemory& part : account_of(unknown, plan.shares, now))
      by_arithmetic.add(part.device, part.weights + part.context + part.compute);
    if (by_arithmetic != need.bytes) plan.source = FootprintSource::kMeasured;
  } else {
    for (const DeviceMemory& part : parts)
      need.bytes.add(part.device, part.weights + part.context + part.compute);
    if (options == entry.model.load && entry.learned && entry.learned_for_host &&
        entry.learned->source == FootprintSource::kMeasured) {
      need.bytes = entry.learned->bytes;
      plan.source = FootprintSource::kMeasured;
    }
  }

  Need whole{.bytes = books.whole(need.bytes), .places = need.places};
  for (const LayerShare& share : plan.shares)
    whole.bytes.add(share.device, reserve_on(entry.model.placement, share.device));
  const Need shortage = books.shortage(whole);
  plan.verdict = shortage.empty()        ? PlanVerdict::kFits
                 : ever.covers(shortage) ? PlanVerdict::kFitsAfterOthers
                                         : PlanVerdict::kDoesNotFit;
  if (plan.verdict == PlanVerdict::kFitsAfterOthers) {
    std::vector<const Entry*> candidates;
    std::vector<Victim> victims;
    for (const auto& [other, resident] : entries_) {
      if (!evictable(resident)) continue;
      candidates.push_back(&resident);
      victims.push_back({.frees = charge_of(resident), .cost = cost_of_losing(resident)});
    }
    if (const auto chosen = cheapest_set(shortage, victims)) {
      for (const std::size_t i : *chosen) plan.evicts.push_back(told_as(*candidates[i]));
    }
  }
  std::optional<Bytes> least_left;
  for (const auto& [device, bytes] : need.bytes) {
    LoadPlan::Row row;
    row.parts.device = device;
    const auto part = std::ranges::find(parts, device, &DeviceMemory::device);
    if (part != parts.end()) row.parts = *part;
    row.needed = bytes;
    row.free = books.available(device);
    row.credit = ever.bytes.on(device);
    const Bytes left = row.free + row.credit - bytes;
    if (!least_left || left < *least_left) {
      least_left = left;
      plan.device = device;
      plan.limit = left < Bytes() ? fmt::format("{}: it lacks {}", device.str(), to_string(Bytes() - left))
                                  : fmt::format("{}: {} would be left", device.str(), to_string(left));
    }
    if (device == host_device()) {
      plan.rows.insert(plan.rows.begin(), std::move(row));
    } else {
      plan.rows.push_back(std::move(row));
    }
  }
  if (shortage.places > 0) {
    plan.limit = "residency.max_loaded";
    plan.device.reset();
  }
  return plan;
}

}  // namespace lm::core
