// Who gets memory, and who goes for it.
#include <algorithm>

#include <fmt/format.h>

#include "core/arbiter.h"
#include "core/eviction.h"

namespace lm::core {
namespace {

bool is_on_its_way(InstanceState state) {
  return state == InstanceState::kReserved || state == InstanceState::kStandbyTaken ||
         state == InstanceState::kLoading;
}

bool is_ending(InstanceState state) {
  return state == InstanceState::kDraining || state == InstanceState::kStopping ||
         state == InstanceState::kReclaiming;
}

// What `shortage` says of the devices and places that `need` takes.
Need limited_to(const Need& need, const Need& shortage) {
  Need mine;
  for (const auto& [device, bytes] : need.bytes) mine.bytes.set(device, shortage.bytes.on(device));
  if (need.places > 0) mine.places = shortage.places;
  return mine;
}

// What of `shortage` is left when `coming` is there.
Need beyond(const Need& shortage, const Need& coming) {
  Need missing;
  missing.places = std::max(0, shortage.places - coming.places);
  for (const auto& [device, bytes] : shortage.bytes)
    missing.bytes.set(device, std::max(Bytes(), bytes - coming.bytes.on(device)));
  return missing;
}

bool takes_of(const Need& charge, const Need& missing) {
  return (missing.places > 0 && charge.places > 0) ||
         std::ranges::any_of(missing.bytes,
                             [&](const auto& item) { return charge.bytes.on(item.first) > Bytes(); });
}

}  // namespace

// The owner has lowered a limit: the cheapest go until what stays is within it. A model's batch is served
// first, as at the end of any turn.
void Arbiter::shed_surplus() {
  Need staying;
  for (const auto& [id, entry] : entries_) {
    if (is_on_its_way(entry.state()) || evictable(entry) || entry.state() == InstanceState::kReady)
      staying += {.bytes = entry.instance->reserved, .places = entry.instance->places};
  }
  Need surplus;
  if (settings_.residency.max_loaded)
    surplus.places = std::max(0, staying.places - *settings_.residency.max_loaded);
  for (const Device& device : devices_) {
    if (device.limit)
      surplus.bytes.set(device.id, std::max(Bytes(), staying.bytes.on(device.id) - *device.limit));
  }
  if (surplus.empty()) return;

  std::vector<Entry*> candidates;
  std::vector<Victim> victims;
  for (auto& [id, entry] : entries_) {
    if (!evictable(entry) || turn_of(entry).batch_waiting) continue;
    candidates.push_back(&entry);
    victims.push_back({.frees = {.bytes = entry.instance->reserved, .places = entry.instance->places},
                       .cost = cost_of_losing(entry)});
  }
  const auto chosen = cheapest_set(surplus, victims);
  if (!chosen) return;
  for (const std::size_t i : *chosen) {
    begin_drain(*candidates[i], EndCause::kEvicted, "evicted: more is loaded than the configuration allows",
                settings_.limits.drain_evict);
  }
}

void Arbiter::admit_loads() {
  gate_times_.clear();
  const std::vector<Entry*> queue = queue_for_room();
  if (queue.empty()) return;
  for (Entry* entry : queue) {
    entry->instance->lacks.reset();
    entry->instance->lacks_devices = false;
  }

  Ledger books = ledger();
  Need coming = coming_room();    // from instances on their way out
  Need spoken_for;                // of that and of the free room, by earlier turns
  std::optional<Family> claimed;  // the devices, by an earlier turn
  for (Entry* entry : queue) {
    Instance& instance = *entry->instance;
    if (contends(*entry)) {
      if (is_leaving()) {
        tell_wait(*entry,
                  fmt::format("waits until the devices are released for {}", switch_->to_model.str()));
        continue;
      }
      if (claimed && *claimed != entry->model.family) {
        tell_wait(*entry, fmt::format("waits for the turn of {} to come and to end", to_string(*claimed)));
        continue;
      }
      if (const std::vector<Entry*> rivals = rivals_of(*entry); !rivals.empty()) {
        if (wait_for_devices(*entry, rivals)) claimed = entry->model.family;
        continue;
      }
    }
    // Whether it could ever fit counts it alone: those before it in the queue go again.
    const Need ever = room_ever();
    if (!choose_place(*entry, books, spoken_for, ever)) continue;
    Need need = need_of(*entry);
    need.bytes = books.whole(need.bytes);
    if (instance.force || entry->is_seat()) {
      for (const auto& [device, bytes] : DeviceBytes(need.bytes))
        need.bytes.set(device, std::clamp(books.available(device) + ever.bytes.on(device), Bytes(), bytes));
    }
    const Need asked = with_reserve(*entry, need);
    if (!ever.covers(books.shortage(asked))) {
      refuse_for_room(*entry, books, asked, ever);
      continue;
    }

    Need wanted = spoken_for;
    wanted += asked;
    const Need shortage = limited_to(need, books.shortage(wanted));
    if (shortage.empty()) {
      order_load(*entry, need);
      books = ledger();
      continue;
    }
    const Need missing = beyond(shortage, coming);
    // Kept conversations go before models do, and only for a load that comes of it.
    const Bytes kept = std::min(missing.bytes.on(host_device()), kept_.droppable(now_));
    Need of_models = missing;
    of_models.bytes.add(host_device(), Bytes() - kept);
    if (of_models.empty() || evict_for(*entry, need, of_models)) {
      if (kept > Bytes()) drop_kept(*entry, kept);
      coming = coming_room();
      if (!instance.committed) instance.committed = now_;
      spoken_for += need;
      continue;
    }
    instance.lacks = missing;
    tell_wait(*entry, fmt::format("waits for {}: the models that hold it are busy",
                                  missing.bytes.empty() ? "a place" : to_string(need.bytes.total())));
    // Beyond its age cap nobody overtakes it any more.
    const TimePoint aged_at = contender(*entry).aged_at;
    if (aged_at <= now_) {
      spoken_for += need;
    } else {
      gate_times_.push_back(aged_at);
    }
  }
}

Need Arbiter::coming_room() const {
  Need coming;
  for (const auto& [id, entry] : entries_) {
    if (is_ending(entry.state())) coming += charge_of(entry);
  }
  coming.bytes.add(host_device(), kept_.coming(now_));
  return coming;
}

void Arbiter::drop_kept(const Entry& entry, Bytes bytes) {
  decide(DecisionKind::kEvict, entry.model.id,
         fmt::format("{} of kept conversations make room for it", to_string(bytes)),
         {{"bytes", bytes.count()}});
  kept_.ask(bytes, now_);
  emit(DropStates{bytes, entry.model.id});
}

// What is charged now and could be free one day: everything but what is pinned.
Need Arbiter::room_ever() const {
  Need ever;
  for (const auto& [id, entry] : entries_) {
    const InstanceState state = entry.state();
    if (is_ending(state) || evictable(entry) || (is_on_its_way(state) && !entry.is_pinned()))
      ever += charge_of(entry);
  }
  ever.bytes.add(host_device(), kept_.coming(now_) + kept_.droppable(now_));
  return ever;
}

void Arbiter::refuse_for_room(Entry& entry, const Ledger& books, const Need& need, const Need& ever) {
  Error error{.code = ErrorCode::kFailedPrecondition,
              .message = fmt::format("{} has no place: residency.max_loaded models are pinned; unpin one",
                                     entry.model.id.str()),
              .reason = "all_pinned",
              .fields = {},
              .retry_after = {}};
  for (const auto& [device, bytes] : need.bytes) {
    const Bytes most = std::max(Bytes(), books.available(device) + ever.bytes.on(device));
    if (bytes <= most) continue;
    error.code = ErrorCode::kResourceExhausted;
    error.reason = "insufficient_memory";
    error.message = fmt::format("{} needs {} on {}, and at most {} can be made free", entry.model.id.str(),
                                to_string(bytes), device.str(), to_string(most));
    error.fields = {{"device", device.str()}, {"needed", bytes.count()}, {"free", most.count()}};
    break;
  }
  refuse_for_now(entry, std::move(error));
}

// A pin waits until there is room; those who ask are told at once.
void Arbiter::refuse_for_now(Entry& entry, Error error) {
  if (!backlog_.has_pin(entry.model.id)) return refuse(entry, std::move(error));
  reject(backlog_.take_requests_and_jobs(entry.model.id), error);
  tell_wait(entry, std::move(error.message));
}

// What is to stay free beside it, by the owner's word, on the devices that it goes to.
Need Arbiter::with_reserve(const Entry& entry, Need need) const {
  const Instance& instance = *entry.instance;
  if (instance.force || !instance.plan) return need;
  for (const LayerShare& share : instance.plan->shares)
    need.bytes.add(share.device, reserve_on(entry.model.placement, share.device));
  return need;
}

// Closes the gates of the cheapest residents that make room; false where their turns do not allow it yet.
bool Arbiter::evict_for(Entry& entry, const Need& need, const Need& missing) {
  const Contender head = contender(entry);
  const Contention contention{.oldest = head.head, .aged_at = head.aged_at};
  const Duration q = quantum();
  std::vector<Entry*> candidates;
  std::vector<Victim> victims;
  std::optional<TimePoint> next_close;
  for (auto& [id, other] : entries_) {
    if (!evictable(other) || !takes_of(charge_of(other), missing)) continue;
    const std::optional<TimePoint> from = closable_from(turn_of(other), contention, q);
    if (!from) continue;
    if (*from <= now_) {
      candidates.push_back(&other);
      victims.push_back({.frees = charge_of(other), .cost = cost_of_losing(other)});
    } else if (!next_close || *from < *next_close) {
      next_close = from;
    }
  }
  const auto chosen = cheapest_set(missing, victims);
  if (!chosen) {
    if (next_close) gate_times_.push_back(*next_close);
    return false;
  }
  std::string pinned;
  for (const auto& [id, other] : entries_) {
    if (other.is_pinned() && is_charged(other.state()) && takes_of(charge_of(other), missing))
      pinned += fmt::format("{}{}", pinned.empty() ? "; pinned: " : ", ", id.str());
  }
  for (const std::size_t i : *chosen) {
    decide(DecisionKind::kWait, entry.model.id,
           fmt::format("{} goes to make room for it", candidates[i]->model.id.str()));
    end_turn(*candidates[i], EndCause::kEvicted,
             fmt::format("evicted to make room for {} ({}): the cheapest of {} that may go{}",
                         entry.model.id.str(), to_string(need.bytes.total()), candidates.size(), pinned));
  }
  return true;
}

void Arbiter::tell_wait(Entry& entry, std::string why) {
  Instance& instance = *entry.instance;
  instance.why = std::move(why);
  if (std::exchange(instance.wait_told, true)) return;
  decide(DecisionKind::kWait, entry.model.id, instance.why,
         {{"bytes", instance.footprint->bytes.total().count()}});
}

std::vector<Entry*> Arbiter::queue_for_room() {
  struct Place {
    Entry* entry;
    Contender contender;
  };
  std::vector<Place> places;
  for (auto& [id, entry] : entries_) {
    if (entry.state() == InstanceState::kQueued && entry.instance->footprint)
      places.push_back({&entry, contender(entry)});
  }
  std::ranges::sort(places, [this](const Place& a, const Place& b) {
    const auto& ca = a.entry->instance->committed;
    const auto& cb = b.entry->instance->committed;
    if (ca.has_value() != cb.has_value()) return ca.has_value();
    if (ca && *ca != *cb) return *ca < *cb;
    if (goes_before(a.contender, b.contender, now_)) return true;
    return !goes_before(b.contender, a.contender, now_) && a.entry->model.id < b.entry->model.id;
  });
  std::vector<Entry*> queue;
  for (const Place& place : places) queue.push_back(place.entry);
  return queue;
}

Contention Arbiter::contention_for(const Entry& resident) const {
  Contention contention;
  const Need charge = charge_of(resident);
  for (const auto& [id, other] : entries_) {
    // Those whose room is on its way go for others; this one stays.
    if (other.state() != InstanceState::kQueued) continue;
    const bool takes_room =
        !resident.is_pinned() && other.instance->lacks && takes_of(charge, *other.instance->lacks);
    const bool takes_devices = other.instance->lacks_devices && are_rivals(resident, other);
    if (!takes_room && !takes_devices) continue;
    const Contender c = contender(other);
    contention.oldest = std::min(contention.oldest.value_or(TimePoint::max()), c.head);
    contention.aged_at = std::min(contention.aged_at.value_or(TimePoint::max()), c.aged_at);
  }
  return contention;
}

}  // namespace lm::core
