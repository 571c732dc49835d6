// On which devices a load goes, and what is learned of it.
#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "core/arbiter.h"
#include "core/eviction.h"

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
  instance.predicting = true;
  instance.since = now_;  // its prediction has the whole time for itself
  if (!places.devices.empty()) {
    const Ledger books = ledger();
    options.device =
        std::ranges::max(places.devices, {}, [&](const DeviceId& id) { return books.available(id); }).str();
  } else if (any_card()) {
    options.device = host_device().str();  // as it is ordered: what is learned of it is found again
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

PlacementCase Arbiter::case_of(const Entry& entry, const Extent& piece) const {
  const PlacementWish& wish = entry.model.placement;
  return {.extent = entry.extent ? *entry.extent : piece,
          .kind = entry.model.kind,
          .layout = wish.layout,
          .max_devices = entry.extent ? wish.max_devices : 1,
          .gpu_layers = entry.extent ? entry.model.load.gpu_layers : std::nullopt,
          .known = entry.known,
          .split = entry.model.load.split};
}

std::optional<Placement> Arbiter::soonest_place(const Entry& entry, const PlacementCase& model,
                                                const std::vector<DeviceId>& devices,
                                                const Round& round) const {
  DeviceBytes less;
  less -= round.spoken_for.bytes;
  if (auto placement = place(model, rooms_for(entry, devices, round.books, less))) return placement;
  return later_place(entry, model, devices, round);
}

std::optional<Placement> Arbiter::later_place(const Entry& entry, const PlacementCase& model,
                                              const std::vector<DeviceId>& devices,
                                              const Round& round) const {
  const auto rooms = [&](const DeviceBytes& more) { return rooms_for(entry, devices, round.books, more); };
  DeviceBytes more;
  more -= round.spoken_for.bytes;
  // A load for which others were sent away keeps to what they leave. Whoever comes first looks at those who
  // are gone already before it sends anybody away, and waits for running answers only where it must.
  const bool waits_already = entry.instance && entry.instance->committed;
  DeviceBytes later;
  bool leaves_some = false;
  for (const auto& [id, other] : entries_) {
    if (!is_going(other.state())) continue;
    const bool answers = other.state() == InstanceState::kDraining && !waits_already;
    (answers ? later : more) += charge_of(other).bytes;
    leaves_some |= !answers;
  }
  if (leaves_some) {
    if (auto placement = place(model, rooms(more))) return placement;
  }

  const std::vector<Leaver> leavers = leavers_for(entry);
  const auto is_as_soon = [](const Leaver& a, const Leaver& b) {
    return a.idle == b.idle && a.from == b.from;
  };
  bool answers_too = false;
  for (auto next = leavers.begin(); next != leavers.end();) {
    if (!next->idle && !std::exchange(answers_too, true) && !later.empty()) {
      more += later;
      if (auto placement = place(model, rooms(more))) return placement;
    }
    const auto group = next;
    for (; next != leavers.end() && is_as_soon(*group, *next); ++next) more += next->frees.bytes;
    std::vector<Placement> found = places(model, rooms(more));
    if (!found.empty()) return least_costly(entry, std::move(found), {leavers.begin(), next}, round);
  }
  return std::nullopt;
}

Placement Arbiter::least_costly(const Entry& entry, std::vector<Placement> places,
                                std::span<const Leaver> leavers, const Round& round) const {
  const auto cost_of = [&](const Placement& placement) {
    const Need missing =
        missing_for(need_at(entry, placement, round), reserve_beside(entry, placement, round.books), round);
    std::vector<Victim> victims;
    for (const Leaver& leaver : leavers) {
      if (leaver.frees.takes_of(missing)) victims.push_back({.frees = leaver.frees, .cost = leaver.cost});
    }
    const auto chosen = cheapest_set(missing, victims);
    if (!chosen) return std::numeric_limits<double>::infinity();
    double cost = 0;
    for (const std::size_t i : *chosen) cost += victims[i].cost;
    return cost;
  };
  return *std::ranges::min_element(places, {}, cost_of);
}

Need Arbiter::need_at(const Entry& entry, const Placement& placement, const Round& round) const {
  const bool takes_place = entry.model.kind == ModelKind::kGeneration && !entry.is_seat();
  return {.bytes = round.books.whole(placement.bytes), .places = takes_place ? 1 : 0};
}

Need Arbiter::foreseen_need(const Entry& entry, const Round& round) const {
  const Candidates places = candidates_of(entry);
  const bool known = entry.extent || (entry.learned && !entry.learned_for_host);
  if (known && !places.devices.empty()) {
    const Extent piece = in_one_piece(entry.learned.value_or(Footprint{}));
    if (auto placement = soonest_place(entry, case_of(entry, piece), places.devices, round))
      return need_at(entry, *placement, round);
  }
  Need need = need_at(entry, {}, round);
  if (entry.learned) need.bytes = round.books.whole(entry.learned->bytes);
  return need;
}

bool Arbiter::may_meet(const Entry& undecided, const Entry& placed) const {
  const Candidates places = candidates_of(undecided);
  const auto& plan = placed.instance->plan;
  if (!plan || places.devices.empty()) return !plan && places.devices.empty();
  return std::ranges::any_of(plan->shares, [&](const LayerShare& share) {
    return std::ranges::find(places.devices, share.device) != places.devices.end();
  });
}

bool Arbiter::choose_place(Entry& entry, const Round& round, const Need& ever) {
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
    instance.plan.reset();
    ask_footprint(entry, false);
    return false;
  }
  const std::optional<Placement> before = std::exchange(instance.plan, std::nullopt);
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
  const PlacementCase model = case_of(entry, piece);
  DeviceBytes less;
  less -= round.spoken_for.bytes;
  instance.plan = place(model, rooms_for(entry, places.devices, round.books, less));
  const auto is_candidate = [&](const LayerShare& share) {
    return std::ranges::find(places.devices, share.device) != places.devices.end();
  };
  // What was made free for it is on its way still: nobody else is sent away for it, nor is it cut once more.
  const bool keeps =
      instance.committed && before && std::ranges::all_of(before->shares, is_candidate) &&
      missing_for(need_at(entry, *before, round), reserve_beside(entry, *before, round.books), round).empty();
  if (keeps && (!instance.plan || instance.plan->shares.size() > before->shares.size()))
    instance.plan = before;
  if (instance.plan) return true;
  if (may_ask) {
    ask_footprint(entry, true);
    return false;
  }
  instance.plan = later_place(entry, model, places.devices, round);
  if (instance.plan) return true;
  const std::vector<Room> after_others = rooms_for(entry, places.devices, round.books, ever.bytes);
  instance.plan = place(model, after_others);
  if (!instance.plan) instance.plan = place_anyway(model, after_others);
  return true;
}

// On a card: what it was seen to hold at most. What it grew to there once it grows to again, and a life in
// which it did not takes nothing back. On the host: what it held when it was ready, in which the engine's own
// account of its context and scratch is. What its heap grows by afterwards is what requests left there; were
// it learned, some large bodies could make a model too large to be ever loaded again. The latest measurement
// counts, so that a wrong one does not stay.
void Arbiter::learn(Entry& entry) {
  const Instance& instance = *entry.instance;
  Footprint seen{DeviceBytes::max(instance.held, instance.most_held), FootprintSource::kMeasured};
  if (!entry.is_seat()) seen.bytes.set(host_device(), instance.host_at_ready);
  if (instance.plan) {
    Experience fresh = experience_of(instance.plan->shares, seen.bytes);
    const auto earlier = std::ranges::find(entry.known, fresh.layers, &Experience::layers);
    if (earlier != entry.known.end()) {
      for (std::size_t i = 0; i < fresh.bytes.size(); ++i)
        fresh.bytes[i] = std::max(fresh.bytes[i], earlier->bytes[i]);
      entry.known.erase(earlier);
    }
    for (std::size_t i = 0; i < fresh.bytes.size(); ++i)
      seen.bytes.set(instance.plan->shares[i].device, fresh.bytes[i]);
    entry.known.push_back(std::move(fresh));
    // Placements come and go with what is free; the latest are the ones that come again.
    if (entry.known.size() > 16) entry.known.erase(entry.known.begin());
  }
  entry.learned = std::move(seen);
  entry.learned_for_host = !instance.plan && !entry.is_seat();
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
