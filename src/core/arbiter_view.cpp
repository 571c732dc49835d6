// What holds now: questions that the decisions ask, the copy for the outside, and the promises as a check.
#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "core/arbiter.h"
#include "core/eviction.h"

namespace lm::core {

Entry* Arbiter::find(const ModelId& model) {
  const auto it = entries_.find(model);
  return it == entries_.end() ? nullptr : &it->second;
}

Entry* Arbiter::find(InstanceId id, Generation generation) {
  for (auto& [model, entry] : entries_) {
    if (entry.instance && entry.instance->id == id && entry.instance->generation == generation) return &entry;
  }
  return nullptr;
}

bool Arbiter::is_local(const Entry& entry) const {
  return !entry.is_seat() && !entry.model.remote && entry.model.family == Family::kLocal;
}

bool Arbiter::is_committed(const Entry& entry) const {
  return entry.state() == InstanceState::kQueued && entry.instance->committed;
}

bool Arbiter::any_card() const {
  return std::ranges::any_of(devices_,
                             [](const Device& d) { return d.kind != DeviceKind::kHost && d.usable; });
}

const Hold* Arbiter::hold_on(const Entry& entry) const {
  if (entry.hold) return &*entry.hold;
  return hold_all_ && is_local(entry) ? &*hold_all_ : nullptr;
}

Error Arbiter::held_error(const Entry& entry, const Hold& hold) const {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("{} is kept unloaded by {} until somebody loads it: llm-manager load {}",
                                 entry.model.id.str(), hold.who, entry.model.id.str()),
          .reason = "model_held",
          .fields = {{"held_by", hold.who}, {"held_since_ms", hold.unix_ms}},
          .retry_after = {}};
}

Need Arbiter::need_of(const Entry& entry) const {
  const Instance& instance = *entry.instance;
  if (instance.plan) return {.bytes = instance.plan->bytes, .places = instance.places};
  const auto& footprint = instance.footprint ? instance.footprint : entry.learned;
  return {.bytes = footprint ? footprint->bytes : DeviceBytes(), .places = instance.places};
}

Need Arbiter::charge_of(const Entry& entry) const {
  DeviceBytes bytes = DeviceBytes::max(entry.instance->reserved, entry.instance->held);
  if (any_server_) bytes = Ledger(devices_, strangers(), {}).whole(bytes);
  return {.bytes = std::move(bytes), .places = entry.instance->places};
}

// What others use. Kept conversations are ours: charged by themselves.
DeviceBytes Arbiter::strangers() const {
  DeviceBytes external = external_;
  external.set(host_device(), std::max(Bytes(), external.on(host_device()) - kept_.measured()));
  return external;
}

Ledger Arbiter::ledger() const {
  Ledger books(devices_, strangers(), settings_.residency.max_loaded);
  books.charge({.reserved = {}, .held = {{host_device(), kept_.bytes()}}, .places = 0});
  for (const auto& [id, entry] : entries_) {
    if (!is_charged(entry.state())) continue;
    books.charge({.reserved = entry.instance->reserved,
                  .held = entry.instance->held,
                  .places = entry.instance->places});
  }
  return books;
}

bool Arbiter::evictable(const Entry& entry) const {
  return (entry.state() == InstanceState::kReady || entry.state() == InstanceState::kSleeping) &&
         !entry.is_pinned();
}

Turn Arbiter::turn_of(const Entry& entry) const {
  const Instance& instance = *entry.instance;
  const SchedulingPolicy policy = settings_.scheduling.policy;
  Turn turn{.began = instance.turn_began,
            .batch_waiting = false,
            .idle = instance.leases.empty(),
            .policy = policy};
  for (const Waiter& waiter : backlog_.of(entry.model.id)) {
    if (waiter.kind != Waiter::Kind::kRequest) continue;
    turn.idle = false;
    turn.oldest_waiting = std::min(turn.oldest_waiting.value_or(TimePoint::max()), waiter.arrived);
    // In strict arrival order there are no batches.
    if (waiter.arrived <= turn.began && policy != SchedulingPolicy::kFifo) turn.batch_waiting = true;
  }
  return turn;
}

// When an answer that still runs is preempted; empty: it is waited for. Whoever waited when the turn began is
// not preempted before its first token, since what was read of its prompt would be read again, and where it
// was preempted before, not before it has answered for a quantum: so it gets on in every turn. To give the
// others of the batch a quantum, too, would give each change a drain as long as their answers.
std::optional<TimePoint> Arbiter::preempted_at(const Entry& draining, const Lent& lent) const {
  if (!lent.waiter.preemptible || !requests_want_room_of(draining)) return std::nullopt;
  const Instance& instance = *draining.instance;
  TimePoint at = instance.drain_began + settings_.scheduling.drain;
  if (lent.in_batch) {
    if (!lent.began) return instance.drain_deadline;
    if (lent.waiter.was_set_aside) at = std::max(at, *lent.began + quantum());
  }
  return std::min(at, instance.drain_deadline);
}

// A model that is only loaded, by somebody's word or its pin, asks nothing: preempted for it, answers would
// take the room back as soon as it is there. Nor does it help whoever waits for room elsewhere.
bool Arbiter::requests_want_room_of(const Entry& draining) const {
  return std::ranges::any_of(entries_, [&](const auto& item) {
    const Entry& other = item.second;
    if (other.state() != InstanceState::kQueued || backlog_.requests(item.first) == 0) return false;
    if (are_rivals(draining, other)) return true;
    Need need = need_of(other);
    if (!settings_.residency.max_loaded) need.places = 0;
    return charge_of(draining).takes_of(need);
  });
}

Duration Arbiter::age_cap(PriorityClass priority) const {
  return priority == PriorityClass::kInteractive ? settings_.scheduling.age_cap_interactive
                                                 : settings_.scheduling.age_cap_batch;
}

Contender Arbiter::contender(const Entry& entry) const {
  Contender c{.head = now_,
              .aged_at = TimePoint::max(),
              .waiting_seconds = 0,
              .weight = entry.model.policy.weight,
              .swap_cost = entry.load_took};
  for (const Waiter& waiter : backlog_.of(entry.model.id)) {
    c.head = std::min(c.head, waiter.waiting_since);
    // In strict arrival order everybody is overdue from the beginning: the oldest head goes first.
    const bool fifo = settings_.scheduling.policy == SchedulingPolicy::kFifo;
    c.aged_at = std::min(c.aged_at, waiter.waiting_since + (fifo ? Duration() : age_cap(waiter.priority)));
    c.waiting_seconds += waiter.weight * seconds(now_ - waiter.waiting_since);
  }
  return c;
}

double Arbiter::cost_of_losing(const Entry& entry) const {
  const Instance& instance = *entry.instance;
  const Duration idle = instance.leases.empty() ? now_ - instance.last_used : Duration();
  return eviction_cost(entry.load_took, idle, demand_.rate(entry.model.id, now_));
}

bool Arbiter::pin_wants(const Entry& entry) const {
  // A pin rests while another family has the devices: else the two would take them from each other for ever.
  return entry.listed && entry.is_pinned() && !entry.pin_rests && !entry.model.problem &&
         hold_on(entry) == nullptr && (!contends(entry) || is_chosen(entry));
}

// Interactive before batch; but where the head of the batch class is beyond its age cap the classes take
// turns, so that neither can starve the other. Null where nobody may be served now.
const Waiter* Arbiter::next_to_serve(const Entry& entry, const Contention& contention) const {
  const Instance& instance = *entry.instance;
  if (static_cast<int>(instance.leases.size()) >= instance.slots || is_intruder(entry)) return nullptr;
  const Turn turn{.began = instance.turn_began,
                  .batch_waiting = false,
                  .idle = false,
                  .policy = settings_.scheduling.policy};
  const Duration q = quantum();
  const auto admitted = [&](const Waiter* head) {
    return head != nullptr && admits(turn, contention, q, head->arrived, now_) ? head : nullptr;
  };
  const Waiter* interactive = admitted(backlog_.head(entry.model.id, PriorityClass::kInteractive));
  const Waiter* batch = admitted(backlog_.head(entry.model.id, PriorityClass::kBatch));
  if (interactive == nullptr || batch == nullptr) return interactive != nullptr ? interactive : batch;
  if (turn.policy == SchedulingPolicy::kFifo)
    return batch->arrived < interactive->arrived ? batch : interactive;
  const bool aged = batch->waiting_since + age_cap(PriorityClass::kBatch) <= now_;
  return aged && !instance.batch_last ? batch : interactive;
}

Duration Arbiter::quantum() const {
  return core::quantum(settings_.scheduling, change_cost_.of_returning());
}

Duration Arbiter::keep_alive(const Entry& entry) const {
  if (entry.is_seat()) return Duration(-1);  // its upstream's own
  if (entry.model.policy.keep_alive) return *entry.model.policy.keep_alive;
  if (!entry.instance || !entry.instance->keep_alive) return settings_.residency.keep_alive;
  const Duration asked = *entry.instance->keep_alive, limit = settings_.residency.keep_alive_limit;
  if (limit < Duration()) return asked;
  return asked < Duration() ? limit : std::min(asked, limit);
}

InstanceView Arbiter::view_of(const Entry& entry, TimePoint now) const {
  const Instance& instance = *entry.instance;
  InstanceView v;
  v.id = instance.id;
  v.generation = instance.generation;
  v.model = told_as(entry);
  v.state = entry.state();
  v.cause = instance.cause;
  v.why = instance.why;
  v.stage = instance.stage;
  v.fraction = instance.fraction;
  v.reserved = instance.reserved;
  v.held = instance.held;
  v.shares = instance.options.shares;
  v.reclaimable = instance.reclaimable;
  v.slots = instance.slots;
  v.context = instance.context;
  v.active = static_cast<int>(instance.leases.size());
  v.waiting = static_cast<int>(backlog_.of(entry.model.id).size());
  if (backlog_.requests(entry.model.id) > 0)
    v.expected = wait_of(entry, PriorityClass::kInteractive, nullptr, Guessing::kLikely, now);
  v.pid = instance.pid;
  v.since = instance.since;
  if (entry.state() == InstanceState::kReady && instance.leases.empty() && !entry.is_pinned() &&
      keep_alive(entry) >= Duration()) {
    v.expires_at = instance.last_used + keep_alive(entry);
  }
  v.retry_at = instance.retry_at;
  v.error = entry.state() == InstanceState::kFailed ? instance.failure : std::nullopt;
  return v;
}

// What a list says of a model that another server answers for: that it has it in memory, as far as it tells.
PublishedState Arbiter::remote_state(const Entry& entry) const {
  // Of an embedding model, too, which takes no seat.
  const auto found = std::ranges::find_if(entries_, [&](const auto& item) {
    return item.second.listed && item.second.upstream &&
           item.second.upstream->id == entry.model.remote->upstream;
  });
  if (found == entries_.end()) return PublishedState::kUnloaded;
  const Entry& seat = found->second;
  const auto named = std::ranges::find(seat.residents, entry.model.remote->name, &Resident::name);
  if (named == seat.residents.end()) {
    const auto& queue = backlog_.of(seat.model.id);
    const bool wanted = std::ranges::find(queue, entry.model.id, &Waiter::named) != queue.end();
    return wanted ? PublishedState::kLoading : PublishedState::kUnloaded;
  }
  return seat.instance && published(seat.state()) == PublishedState::kUnloading ? PublishedState::kUnloading
                                                                                : PublishedState::kReady;
}

bool Arbiter::has_in_memory(const Entry& seat, const Entry& entry) const {
  if (seat.residents.empty()) return selected_.model == entry.model.id;
  return std::ranges::any_of(
      seat.residents, [&](const Resident& resident) { return resident.name == entry.model.remote->name; });
}

Snapshot Arbiter::snapshot(TimePoint now) const {
  Snapshot snapshot;
  snapshot.now = now;
  snapshot.family = selected_.family;
  snapshot.selected = selected_.model;
  snapshot.remote_selected = selected_.remote;
  snapshot.switching = switch_;
  DeviceBytes used;
  for (const auto& [id, entry] : entries_) {
    if (entry.instance) used += entry.instance->held;
    if (entry.is_seat()) {
      snapshot.upstreams.push_back({.upstream = *entry.upstream,
                                    .reachable = entry.reachable,
                                    .runs = entry.runs,
                                    .intrudes = is_intruder(entry) || now < entry.intruder_until,
                                    .residents = entry.residents,
                                    .instance = {},
                                    .stuck = entry.stuck,
                                    .holders = {}});
      if (entry.stuck) snapshot.upstreams.back().holders = entry.holders;
      if (entry.instance) snapshot.upstreams.back().instance = view_of(entry, now);
      continue;
    }
    ModelView view;
    view.model = entry.model;
    view.state = entry.model.remote ? remote_state(entry) : published(entry.state());
    view.pinned = entry.is_pinned();
    view.footprint = entry.learned;
    if (entry.refused && view.state == PublishedState::kUnloaded) {
      view.state = PublishedState::kFailed;
      view.error = entry.refused;
      view.error->retry_after = std::max(Duration(), entry.refused_until - now);
    }
    if (const Hold* hold = hold_on(entry)) {
      view.held_by = hold->who;
      view.held_since_ms = hold->unix_ms;
    }
    if (entry.instance) view.instance = view_of(entry, now);
    snapshot.models.push_back(std::move(view));
  }
  const Ledger books = ledger();
  for (const Device& device : devices_) {
    snapshot.devices.push_back({.device = device,
                                .reserved = books.reserved(device.id),
                                .used = used.on(device.id),
                                .external = strangers().on(device.id),
                                .available = books.available(device.id)});
    if (lost_.contains(device.id)) snapshot.devices.back().device.usable = false;
  }
  snapshot.demand = demand_view(now);
  snapshot.waiting = backlog_.requests();
  snapshot.oldest_waiting = backlog_.oldest_request();
  if (any_transition_) snapshot.last_transition = last_transition_;
  return snapshot;
}

void Arbiter::check_families() const {
  for (const auto& [a, one] : entries_) {
    if (!one.instance || one.instance->adopted || !is_charged(one.state())) continue;
    for (const auto& [b, other] : entries_) {
      if (!other.instance || other.instance->adopted || !is_charged(other.state())) continue;
      LM_ASSERT(!are_rivals(one, other), "no two families are in memory together by our doing");
    }
  }
  LM_ASSERT(!switch_ || switch_target_.empty() || entries_.contains(switch_target_), "a switch has a target");
  LM_ASSERT(switch_jobs_.empty() || switch_, "whoever waits for a switch waits for one that is under way");
}

void Arbiter::check_invariants(TimePoint now) const {
  const Ledger books = ledger();
  for (const Device& device : devices_) {
    LM_ASSERT(books.reserved(device.id) <= device.capacity,
              "the sum of reservations never exceeds the capacity");
  }
  std::size_t held_leases = 0;
  for (const auto& [id, entry] : entries_) {
    if (!entry.instance) continue;
    const Instance& instance = *entry.instance;
    const InstanceState state = entry.state();
    LM_ASSERT(state != InstanceState::kAbsent, "an absent model has no instance");
    LM_ASSERT(is_charged(state) || instance.reserved.empty(), "only charged states hold reservations");
    LM_ASSERT(instance.leases.empty() || state == InstanceState::kReady || state == InstanceState::kDraining,
              "only the ready and the draining serve");
    LM_ASSERT(state != InstanceState::kReady || static_cast<int>(instance.leases.size()) <= instance.slots,
              "no more leases than slots");
    LM_ASSERT(state != InstanceState::kDraining || !instance.leases.empty(), "who has drained stops");
    LM_ASSERT(state != InstanceState::kDraining || instance.drain_deadline > now,
              "a drain ends by its deadline");
    LM_ASSERT(state != InstanceState::kFailed || instance.failure.has_value(), "a failure has a reason");
    LM_ASSERT(state != InstanceState::kFailed || backlog_.requests(id) == 0,
              "nobody waits for a failed model");
    held_leases += instance.leases.size();
    if (state == InstanceState::kReady && static_cast<int>(instance.leases.size()) < instance.slots) {
      LM_ASSERT(is_intruder(entry) || !turn_of(entry).batch_waiting,
                "who waited when the turn began is served first");
      LM_ASSERT(is_intruder(entry) || backlog_.requests(id) == 0 || contention_for(entry).oldest,
                "with a slot free nobody waits for a loaded model but while others want its room");
    }
    for (const RequestId request : instance.leases) {
      const auto lease = leases_.find(request);
      LM_ASSERT(lease != leases_.end() && lease->second.waiter.model == id, "a lease is known on both sides");
    }
  }
  LM_ASSERT(held_leases + direct_.size() <= leases_.size(), "a lease is held once");
  check_families();
  for (const auto& [id, queue] : backlog_.by_model()) {
    LM_ASSERT(entries_.contains(id), "only known models are waited for");
    const Entry& entry = entries_.at(id);
    LM_ASSERT(shutdown_ || entry.instance.has_value(), "whoever waits has an instance on its way");
    LM_ASSERT(hold_on(entry) == nullptr, "nobody waits for a held model");
    for (const Waiter& waiter : queue) LM_ASSERT(waiter.deadline > now, "a wait ends by its deadline");
  }
  // Every wait has a timer: whatever is next was armed, and lies ahead.
  const std::optional<TimePoint> next = next_wakeup();
  LM_ASSERT(next == armed_, "the timer is armed for what comes next");
  LM_ASSERT(!next || *next > now, "what was due has been done");
}

}  // namespace lm::core
