// Who gets memory, and who goes for it.
#include <algorithm>
#include <tuple>

#include <fmt/format.h>

#include "core/arbiter.h"
#include "core/eviction.h"

namespace lm::core {

// The owner has lowered a limit: the cheapest go until what stays is within it. A model's batch is served
// first, as at the end of any turn.
void Arbiter::shed_surplus() {
  Need staying;
  for (const auto& [id, entry] : entries_) {
    if (is_coming(entry.state()) || evictable(entry) || entry.state() == InstanceState::kReady)
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
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kQueued) continue;
    entry.instance->lacks.reset();
    entry.instance->lacks_devices = false;
  }
  const std::vector<Entry*> queue = queue_for_room();
  if (queue.empty()) return;

  Round round{.books = ledger(), .coming = coming_room(), .spoken_for = {}};
  std::optional<Family> claimed;        // the devices, by an earlier turn
  std::vector<const Entry*> undecided;  // earlier turns of which it is not known where they go, and with what
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
    if (instance.predicting || !choose_place(*entry, round, ever)) {
      // Predicted anew it keeps its turn, and what is on its way for it, wherever it goes then.
      if (is_committed(*entry)) {
        undecided.push_back(entry);
        if (contends(*entry)) claimed = entry->model.family;
      }
      continue;
    }
    const auto before = std::ranges::find_if(undecided, [&](const Entry* e) { return may_meet(*e, *entry); });
    if (before != undecided.end()) {
      tell_wait(*entry, fmt::format("waits until it is known what {} takes", told_as(**before).str()));
      continue;
    }
    Need need = need_of(*entry);
    need.bytes = round.books.whole(need.bytes);
    if (instance.force || entry->is_seat()) {
      for (const auto& [device, bytes] : DeviceBytes(need.bytes))
        need.bytes.set(device,
                       std::clamp(round.books.available(device) + ever.bytes.on(device), Bytes(), bytes));
    }
    const Need reserve =
        instance.force || !instance.plan ? Need() : reserve_beside(*entry, *instance.plan, round.books);
    Need asked = need;
    asked += reserve;
    if (!ever.covers(round.books.shortage(asked))) {
      refuse_for_room(*entry, round.books, asked, ever);
      continue;
    }

    if (shortage_for(need, reserve, round).empty()) {
      order_load(*entry, need);
      round.books = ledger();
      continue;
    }
    const Need missing = missing_for(need, reserve, round);
    // Kept conversations go before models do, and only for a load that comes of it.
    const Bytes kept = std::min(missing.bytes.on(host_device()), kept_.droppable(now_));
    Need of_models = missing;
    of_models.bytes.add(host_device(), Bytes() - kept);
    if (of_models.empty() || evict_for(*entry, need, of_models)) {
      if (kept > Bytes()) drop_kept(*entry, kept);
      round.coming = coming_room();
      if (!instance.committed) instance.committed = now_;
      round.spoken_for += need;
      // No change to another family begins in between: it would end before it had a model.
      if (contends(*entry)) claimed = entry->model.family;
      continue;
    }
    instance.lacks = missing;
    tell_wait(*entry, fmt::format("waits for {}: the models that hold it are busy",
                                  missing.bytes.empty() ? "a place" : to_string(need.bytes.total())));
    // Nobody overtakes it any more beyond its age cap, nor once others were sent away for it.
    const TimePoint aged_at = contender(*entry).aged_at;
    if (instance.committed || aged_at <= now_) {
      round.spoken_for += need;
    } else {
      gate_times_.push_back(aged_at);
    }
  }
}

Need Arbiter::shortage_for(const Need& need, const Need& reserve, const Round& round) const {
  Need wanted = round.spoken_for;
  wanted += need;
  wanted += reserve;
  return round.books.shortage(wanted).where(need);
}

Need Arbiter::missing_for(const Need& need, const Need& reserve, const Round& round) const {
  return shortage_for(need, reserve, round).beyond(round.coming);
}

Arbiter::Round Arbiter::round_for(const Entry& entry) const {
  Round round{.books = ledger(), .coming = coming_room(), .spoken_for = {}};
  for (const auto& [id, other] : entries_) {
    if (&other == &entry || !is_committed(other)) continue;
    if (is_committed(entry) && *entry.instance->committed < *other.instance->committed) continue;
    Need need = need_of(other);
    need.bytes = round.books.whole(need.bytes);
    round.spoken_for += need;
  }
  return round;
}

Need Arbiter::coming_room() const {
  Need coming;
  for (const auto& [id, entry] : entries_) {
    if (is_going(entry.state())) coming += charge_of(entry);
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
    if (is_going(state) || evictable(entry) || (is_coming(state) && !entry.is_pinned()))
      ever += charge_of(entry);
  }
  ever.bytes.add(host_device(), kept_.coming(now_) + kept_.droppable(now_));
  return ever;
}

void Arbiter::refuse_for_room(Entry& entry, const Ledger& books, const Need& need, const Need& ever) {
  Error error{.code = ErrorCode::kFailedPrecondition,
              .message = fmt::format("{} has no place: residency.max_loaded models are pinned; unpin one",
                                     told_as(entry).str()),
              .reason = "all_pinned",
              .fields = {},
              .retry_after = {}};
  for (const auto& [device, bytes] : need.bytes) {
    const Bytes most = std::max(Bytes(), books.available(device) + ever.bytes.on(device));
    if (bytes <= most) continue;
    error.code = ErrorCode::kResourceExhausted;
    error.reason = "insufficient_memory";
    error.message = fmt::format("{} needs {} on {}, and at most {} can be made free", told_as(entry).str(),
                                to_string(bytes), device.str(), to_string(most));
    // What was measured once may have been a bad day; only another load tells.
    if (!entry.is_seat() && entry.instance->footprint->source == FootprintSource::kMeasured)
      error.message += fmt::format(
          "; so it was measured: llm-manager load --force {} tries all the same, and measures anew",
          entry.model.id.str());
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

// What is to stay free beside it, by the owner's word, on the devices that it goes to. Of a server's device
// it is charged the whole, and what stays free there is part of that.
Need Arbiter::reserve_beside(const Entry& entry, const Placement& placement, const Ledger& books) const {
  const DeviceBytes charged = books.whole(placement.bytes);
  Need reserve;
  for (const LayerShare& share : placement.shares) {
    const Bytes wanted = placement.bytes.on(share.device) + reserve_on(entry.model.placement, share.device);
    reserve.bytes.add(share.device, std::max(Bytes(), wanted - charged.on(share.device)));
  }
  return reserve;
}

std::vector<Arbiter::Leaver> Arbiter::leavers_for(const Entry& entry) const {
  const Contender head = contender(entry);
  const Contention contention{.oldest = head.head, .aged_at = head.aged_at};
  const Duration q = quantum();
  std::vector<Leaver> leavers;
  for (const auto& [id, other] : entries_) {
    if (!evictable(other)) continue;
    const Turn turn = turn_of(other);
    Leaver leaver{.id = id,
                  .frees = charge_of(other),
                  .cost = cost_of_losing(other),
                  .idle = turn.idle,
                  .from = closable_from(turn, contention, q)};
    if (leaver.from) leaver.from = std::max(*leaver.from, now_);
    leavers.push_back(std::move(leaver));
  }
  std::ranges::sort(leavers, {}, [](const Leaver& leaver) {
    return std::tuple(!leaver.idle, leaver.from.value_or(TimePoint::max()), leaver.id);
  });
  return leavers;
}

// Closes the gates of the cheapest residents that make room; false where their turns do not allow it yet.
bool Arbiter::evict_for(Entry& entry, const Need& need, const Need& missing) {
  std::vector<Leaver> candidates;
  std::vector<Victim> victims;
  std::optional<TimePoint> next_close;
  for (Leaver& leaver : leavers_for(entry)) {
    if (!leaver.from || !leaver.frees.takes_of(missing)) continue;
    if (*leaver.from <= now_) {
      victims.push_back({.frees = leaver.frees, .cost = leaver.cost});
      candidates.push_back(std::move(leaver));
    } else if (!next_close || *leaver.from < *next_close) {
      next_close = leaver.from;
    }
  }
  const auto chosen = cheapest_set(missing, victims);
  if (!chosen) {
    if (next_close) gate_times_.push_back(*next_close);
    return false;
  }
  std::string pinned;
  for (const auto& [id, other] : entries_) {
    if (other.is_pinned() && is_charged(other.state()) && charge_of(other).takes_of(missing))
      pinned += fmt::format("{}{}", pinned.empty() ? "; pinned: " : ", ", id.str());
  }
  for (const std::size_t i : *chosen) {
    Entry& leaver = entries_.at(candidates[i].id);
    decide(DecisionKind::kWait, entry.model.id,
           fmt::format("{} goes to make room for it", told_as(leaver).str()));
    end_turn(leaver, EndCause::kEvicted,
             fmt::format("evicted to make room for {} ({}): the cheapest of {} that may go{}",
                         told_as(entry).str(), to_string(need.bytes.total()), candidates.size(), pinned));
  }
  return true;
}

void Arbiter::tell_wait(Entry& entry, std::string why) {
  Instance& instance = *entry.instance;
  instance.why = std::move(why);
  if (std::exchange(instance.wait_told, true)) return;
  decide(DecisionKind::kWait, entry.model.id, instance.why,
         {{"bytes", need_of(entry).bytes.total().count()}});
}

std::vector<Entry*> Arbiter::queue_for_room() {
  struct Place {
    Entry* entry;
    Contender contender;
  };
  std::vector<Place> places;
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kQueued) continue;
    if (!entry.instance->predicting || entry.instance->committed)
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
        !resident.is_pinned() && other.instance->lacks && charge.takes_of(*other.instance->lacks);
    const bool takes_devices = other.instance->lacks_devices && are_rivals(resident, other);
    if (!takes_room && !takes_devices) continue;
    const Contender c = contender(other);
    contention.oldest = std::min(contention.oldest.value_or(TimePoint::max()), c.head);
    contention.aged_at = std::min(contention.aged_at.value_or(TimePoint::max()), c.aged_at);
  }
  return contention;
}

}  // namespace lm::core
