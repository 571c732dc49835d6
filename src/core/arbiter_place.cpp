// On which devices a load goes, and what is learned of it.
#include <algorithm>

#include <fmt/format.h>

#include "core/arbiter.h"

namespace lm::core {
namespace {

// More than this where nothing was to be is said.
constexpr Bytes kNoticeable = mib(16);

// A model that cannot be cut: all that it takes of a card in one piece.
Extent in_one_piece(const Footprint& footprint) {
  Extent extent;
  extent.host = footprint.bytes.on(host_device());
  extent.layers.push_back({.weights = footprint.bytes.total() - extent.host, .cache = {}});
  return extent;
}

int devices_of(const DeviceBytes& bytes) {
  return static_cast<int>(
      std::ranges::count_if(bytes, [](const auto& item) { return item.first != host_device(); }));
}

}  // namespace

Candidates Arbiter::candidates_of(const Entry& entry) const {
  if (entry.is_seat()) return {};
  if (lost_.empty()) return candidates(entry.model.load, entry.model.placement, devices_);
  std::vector<Device> there = devices_;
  for (Device& device : there) {
    if (lost_.contains(device.id)) device.usable = false;
  }
  return candidates(entry.model.load, entry.model.placement, there);
}

// By the device that it would most likely go to; what is said of one card holds for another.
void Arbiter::ask_footprint(Entry& entry, bool layers) {
  Instance& instance = *entry.instance;
  const Candidates places = candidates_of(entry);
  LoadOptions options = entry.model.load;
  instance.for_host = places.devices.empty();
  instance.layers_asked = layers;
  instance.footprint.reset();
  instance.since = now_;  // its prediction has the whole time for itself
  if (!places.devices.empty()) {
    const Ledger books = ledger();
    options.device =
        std::ranges::max(places.devices, {}, [&](const DeviceId& id) { return books.available(id); }).str();
  }
  emit(PredictFootprint{instance.id, instance.generation, entry.model.id, std::move(options), layers});
}

std::vector<Room> Arbiter::rooms_for(const Entry& entry, const std::vector<DeviceId>& devices,
                                     const Ledger& books, const DeviceBytes& more) const {
  std::vector<Room> rooms;
  for (const DeviceId& id : devices) {
    const Device& device = *std::ranges::find(devices_, id, &Device::id);
    const Bytes free = books.available(id) - reserve_on(entry.model.placement, id) + more.on(id);
    rooms.push_back({.device = id,
                     .free = std::max(Bytes(), free),
                     .display = device.display,
                     .occupied = books.reserved(id) > Bytes(),
                     .bare = !device.server.empty()});
  }
  return rooms;
}

bool Arbiter::choose_place(Entry& entry, const Ledger& books, const Need& spoken_for, const Need& ever) {
  Instance& instance = *entry.instance;
  if (entry.is_seat()) return true;
  const Candidates places = candidates_of(entry);
  if (places.missed) {
    Error error{.code = ErrorCode::kUnavailable,
                .message = fmt::format("{} may only use {}, which is not there at the moment",
                                       entry.model.id.str(), places.missed->str()),
                .reason = "device_lost",
                .fields = {{"device", places.missed->str()}},
                .retry_after = {}};
    refuse_for_now(entry, std::move(error));
    return false;
  }
  if (instance.for_host != places.devices.empty()) {
    ask_footprint(entry, false);
    return false;
  }
  const auto is_candidate = [&](const LayerShare& share) {
    return std::ranges::find(places.devices, share.device) != places.devices.end();
  };
  // The room that it waits for is on its way.
  if (instance.committed && instance.plan && std::ranges::all_of(instance.plan->shares, is_candidate))
    return true;
  instance.plan.reset();
  if (places.devices.empty()) return true;

  const PlacementWish& wish = entry.model.placement;
  const bool may_be_cut = places.devices.size() > 1 && wish.max_devices != 1;
  const bool may_ask = !entry.extent && may_be_cut && !instance.layers_asked;
  if ((spreads(wish.layout, entry.model.kind, places.devices.size()) ||
       devices_of(instance.footprint->bytes) > 1) &&
      may_ask) {
    ask_footprint(entry, true);
    return false;
  }
  const Extent piece = in_one_piece(*instance.footprint);
  const PlacementCase model{.extent = entry.extent ? *entry.extent : piece,
                            .kind = entry.model.kind,
                            .layout = wish.layout,
                            .max_devices = entry.extent ? wish.max_devices : 1,
                            .gpu_layers = entry.extent ? entry.model.load.gpu_layers : std::nullopt,
                            .known = entry.known,
                            .split = entry.model.load.split};
  DeviceBytes less;
  less -= spoken_for.bytes;
  const std::vector<Room> now = rooms_for(entry, places.devices, books, less);
  instance.plan = place(model, now);
  if (!instance.plan && may_ask) {
    ask_footprint(entry, true);
    return false;
  }
  if (instance.plan) return true;
  const std::vector<Room> after_others = rooms_for(entry, places.devices, books, ever.bytes);
  instance.plan = place(model, after_others);
  if (!instance.plan) instance.plan = place_anyway(model, after_others);
  return true;
}

void Arbiter::learn(Entry& entry) {
  const Instance& instance = *entry.instance;
  if (!instance.plan) return;
  Experience fresh = experience_of(instance.plan->shares, entry.learned->bytes);
  std::erase_if(entry.known, [&](const Experience& e) { return e.layers == fresh.layers; });
  entry.known.push_back(std::move(fresh));
  // Placements come and go with what is free; the latest are the ones that come again.
  if (entry.known.size() > 16) entry.known.erase(entry.known.begin());
}

void Arbiter::check_landing(const Entry& entry, const DeviceBytes& held) {
  const Instance& instance = *entry.instance;
  if (entry.is_seat()) return;
  std::string where;
  for (const auto& [device, bytes] : held)
    where += fmt::format("{}{} on {}", where.empty() ? "" : ", ", to_string(bytes), device.str());
  bool elsewhere = false;
  const std::vector<LayerShare>& shares = instance.options.shares;
  for (const auto& [device, bytes] : held) {
    const bool planned =
        device == host_device() || std::ranges::find(shares, device, &LayerShare::device) != shares.end();
    elsewhere |= !planned && bytes > kNoticeable;
  }
  for (const LayerShare& share : shares)
    elsewhere |= instance.plan->bytes.on(share.device) > kNoticeable && held.on(share.device) == Bytes();
  if (elsewhere) {
    decide(DecisionKind::kLoad, entry.model.id, "it does not lie where it was placed: " + where);
  } else if (shares.size() > 1) {
    decide(DecisionKind::kLoad, entry.model.id, "it lies where it was placed: " + where);
  }
}

void Arbiter::note_loss(const Error& error) {
  if (error.reason != "device_lost") return;
  for (const auto& [name, value] : error.fields) {
    if (name == "device") {
      if (const auto* id = std::get_if<std::string>(&value)) lost_.insert(DeviceId(*id));
    }
  }
}

}  // namespace lm::core
