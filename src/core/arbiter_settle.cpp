// What follows from the state and the time, after every event: deadlines, wants, grants, room, drains, the
// timer.
#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "core/arbiter.h"
#include "core/eviction.h"

namespace lm::core {

void Arbiter::settle() {
  expire_waiters();
  for (auto& [id, entry] : entries_) {
    if (entry.instance) meet_deadlines(entry);
  }
  if (!shutdown_) {
    give_up_unwanted();
    want_models();
    gate_times_.clear();
    grant_leases();
    admit_loads();
  }
  finish_drains();
  finish_shutdown();
  arm_timer();
}

void Arbiter::expire_waiters() {
  for (const Waiter& waiter : backlog_.take_expired(now_)) {
    Error error{.code = ErrorCode::kDeadlineExceeded,
                .message = fmt::format("{} did not become ready within {:.0f} s", waiter.model.str(),
                                       seconds(now_ - waiter.arrived)),
                .reason = "wait_expired",
                .fields = {},
                .retry_after = std::chrono::seconds(1)};
    switch (waiter.kind) {
      case Waiter::Kind::kRequest:
        emit(RejectRequest{waiter.request, std::move(error)});
        break;
      case Waiter::Kind::kJob:
        emit(FinishJob{waiter.job, std::move(error), {}});
        break;
      case Waiter::Kind::kPin:
        break;
    }
  }
}

void Arbiter::meet_deadlines(Entry& entry) {
  Instance& instance = *entry.instance;
  switch (entry.state()) {
    case InstanceState::kQueued:
      if (!instance.footprint && now_ >= instance.since + settings_.limits.load_silence) {
        refuse(entry, {.code = ErrorCode::kDeadlineExceeded,
                       .message = "what it would take could not be predicted in time",
                       .reason = "predict_timeout",
                       .fields = {},
                       .retry_after = {}});
      }
      break;
    case InstanceState::kReserved:
    case InstanceState::kStandbyTaken:
    case InstanceState::kLoading:
      if (now_ >= instance.last_progress_at + settings_.limits.load_silence) {
        fail_load(entry,
                  {.code = ErrorCode::kDeadlineExceeded,
                   .message = fmt::format("the worker was silent for {:.0f} s at stage {}",
                                          seconds(settings_.limits.load_silence), to_string(instance.stage)),
                   .reason = "load_timeout",
                   .fields = {},
                   .retry_after = {}});
      }
      break;
    case InstanceState::kReady: {
      const Duration idle_for = keep_alive(entry);
      const bool idle = instance.leases.empty() && !backlog_.any(entry.model.id);
      if (instance.outdated && !entry.is_pinned()) {
        begin_drain(entry, EndCause::kUnloaded,
                    entry.listed ? "its configuration changed" : "it is no longer configured",
                    settings_.limits.drain_evict);
      } else if (instance.outdated) {
        begin_drain(entry, EndCause::kUnloaded, "its configuration changed", settings_.limits.drain_evict);
      } else if (idle && !entry.is_pinned() && idle_for >= Duration() &&
                 now_ >= instance.last_used + idle_for) {
        begin_drain(entry, EndCause::kExpired,
                    fmt::format("idle for {:.0f} s", seconds(now_ - instance.last_used)),
                    settings_.limits.drain_evict);
      }
      break;
    }
    case InstanceState::kDraining:
      if (now_ >= instance.drain_deadline && !instance.leases.empty()) {
        Error error{.code = ErrorCode::kCancelled,
                    .message = fmt::format("{} is being unloaded ({}) and the answer did not end in time",
                                           entry.model.id.str(), instance.why),
                    .reason = "model_unloaded",
                    .fields = {},
                    .retry_after = std::chrono::seconds(1)};
        emit(CutRequests{instance.id, {instance.leases.begin(), instance.leases.end()}, std::move(error)});
        instance.leases.clear();  // theirs to release; no longer ours to wait for
      }
      break;
    case InstanceState::kStopping:
      if (now_ >= instance.watchdog_at) {
        decide(DecisionKind::kFail, entry.model.id,
               fmt::format("its worker {} has not ended yet: asked again", instance.pid));
        instance.watchdog_at = now_ + std::chrono::seconds(10);
        emit(StopInstance{instance.id, instance.generation, Duration()});
      }
      break;
    case InstanceState::kReclaiming:
      // The measurement itself is late: do not wait for it for ever, and claim nothing.
      if (now_ >= instance.release_deadline + std::chrono::seconds(1)) {
        if (instance.report.devices.empty()) {
          instance.report.before = instance.report.residual = instance.report.after = instance.held.total();
          instance.report.expected = instance.reserved.total();
          instance.report.method = "none";
        }
        instance.report.proved = false;
        reclaimed(entry, false);
      }
      break;
    case InstanceState::kFailed:
      if (instance.retry_at && now_ >= *instance.retry_at &&
          (backlog_.any(entry.model.id) || entry.is_pinned()))
        forget(entry);
      break;
    case InstanceState::kAbsent:
    case InstanceState::kSleeping:
      break;
  }
}

void Arbiter::want_models() {
  for (auto& [id, entry] : entries_) {
    if (entry.listed && entry.is_pinned() && !entry.instance && !entry.model.problem &&
        hold_on(entry) == nullptr && !backlog_.has_pin(id)) {
      // A pin waits for as long as it takes; the deadline only makes it ask anew.
      backlog_.add({.kind = Waiter::Kind::kPin,
                    .request = {},
                    .job = {},
                    .model = id,
                    .priority = PriorityClass::kBatch,
                    .arrived = now_,
                    .deadline = now_ + settings_.scheduling.wait_batch});
    }
    if (!backlog_.any(id)) continue;
    if (entry.state() == InstanceState::kFailed)
      forget(entry);  // its back-off is over: else nobody could wait
    if (!entry.instance) begin(entry);
  }
}

void Arbiter::give_up_unwanted() {
  for (auto& [id, entry] : entries_) {
    const InstanceState state = entry.state();
    const bool on_its_way = state == InstanceState::kQueued || state == InstanceState::kReserved ||
                            state == InstanceState::kStandbyTaken || state == InstanceState::kLoading;
    if (!on_its_way) continue;
    if (!backlog_.any(id)) {
      give_up(entry, EndCause::kUnwanted, "everybody who wanted it has left");
    } else if (entry.instance->outdated && entry.listed) {
      give_up(entry, EndCause::kUnwanted, "its configuration changed while it loaded");
    }
  }
}

void Arbiter::grant_leases() {
  const Ledger books = ledger();
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kReady || !backlog_.any(id)) continue;
    Instance& instance = *entry.instance;
    const Contention contention = contention_for(entry, books);
    const Duration q = quantum(settings_.scheduling, swap_cost_);
    std::vector<RequestId> granted;
    for (const Waiter& waiter : backlog_.of(id)) {
      if (static_cast<int>(instance.leases.size() + granted.size()) >= instance.slots) break;
      if (waiter.kind != Waiter::Kind::kRequest) continue;
      if (!admits(turn_of(entry), contention, q, waiter.arrived, now_)) continue;
      granted.push_back(waiter.request);
    }
    for (const RequestId request : granted) {
      backlog_.take(request);
      instance.leases.insert(request);
      leases_.emplace(request, id);
      instance.last_used = now_;
      emit(GrantLease{request, instance.id, instance.generation, id});
    }
  }
}

void Arbiter::admit_loads() {
  // Room that comes back from instances on their way out, and what of it and of the free room is spoken for
  // by earlier turns.
  Need coming;
  for (const auto& [id, entry] : entries_) {
    const InstanceState state = entry.state();
    if (state == InstanceState::kDraining || state == InstanceState::kStopping ||
        state == InstanceState::kReclaiming)
      coming += charge_of(entry);
  }
  Need spoken_for;
  for (Entry* entry : queue_for_room()) {
    Instance& instance = *entry->instance;
    const Ledger books = ledger();
    const Need need = need_of(*entry);
    Need wanted = spoken_for;
    wanted += need;
    Need shortage = books.shortage(wanted);
    for (auto device = wanted.bytes.begin(); device != wanted.bytes.end(); ++device) {
      if (need.bytes.on(device->first) == Bytes())
        shortage.bytes.set(device->first, Bytes());  // short, but not of what this one needs
    }
    if (need.places == 0) shortage.places = 0;
    if (shortage.empty()) {
      order_load(*entry);
      continue;
    }
    if (coming.covers(shortage)) {
      if (!instance.committed) instance.committed = now_;
      spoken_for += need;
      continue;
    }
    // What is missing beyond what is coming back anyway.
    Need missing;
    missing.places = std::max(0, shortage.places - coming.places);
    for (const auto& [device, bytes] : shortage.bytes)
      missing.bytes.set(device, std::max(Bytes(), bytes - coming.bytes.on(device)));

    std::vector<Entry*> closable;
    std::vector<Victim> now_victims;
    Need ever = coming;
    const Duration q = quantum(settings_.scheduling, swap_cost_);
    std::optional<TimePoint> next_close;
    for (auto& [id, other] : entries_) {
      const InstanceState state = other.state();
      if (state == InstanceState::kReserved || state == InstanceState::kStandbyTaken ||
          state == InstanceState::kLoading)
        ever += charge_of(other);
      if (!evictable(other)) continue;
      ever += charge_of(other);
      Contention contention{.oldest = backlog_.oldest(entry->model.id), .aged_at = contender(*entry).aged_at};
      const std::optional<TimePoint> from = closable_from(turn_of(other), contention, q);
      if (from && *from <= now_) {
        closable.push_back(&other);
        now_victims.push_back({.frees = charge_of(other),
                               .cost = eviction_cost(other.load_took, other.instance->leases.empty()
                                                                          ? now_ - other.instance->last_used
                                                                          : Duration())});
      } else if (from && (!next_close || *from < *next_close)) {
        next_close = from;
      }
    }
    if (const auto chosen = cheapest_set(missing, now_victims)) {
      for (const std::size_t i : *chosen) {
        Entry& victim = *closable[i];
        coming += charge_of(victim);
        begin_drain(victim, EndCause::kEvicted,
                    fmt::format("evicted to make {} for {}: least recently used of {} candidates",
                                to_string(need.bytes.total()), entry->model.id.str(), closable.size()),
                    settings_.limits.drain_evict);
      }
      instance.committed = now_;
      spoken_for += need;
      continue;
    }
    if (!ever.covers(shortage)) {
      if (instance.force) {
        order_load(*entry);
        continue;
      }
      Error error{.code = ErrorCode::kResourceExhausted,
                  .message = {},
                  .reason = "insufficient_memory",
                  .fields = {},
                  .retry_after = {}};
      for (const auto& [device, bytes] : shortage.bytes) {
        const Bytes most = books.available(device) + ever.bytes.on(device);
        if (need.bytes.on(device) <= most) continue;
        error.message =
            fmt::format("{} needs {} on {}, and at most {} can be made free", entry->model.id.str(),
                        to_string(need.bytes.on(device)), device.str(), to_string(std::max(Bytes(), most)));
        error.fields = {{"device", device.str()},
                        {"needed", need.bytes.on(device).count()},
                        {"free", std::max(Bytes(), most).count()}};
        break;
      }
      if (error.message.empty())
        error.message =
            fmt::format("{} has no place: residency.max_loaded models are pinned", entry->model.id.str());
      refuse(*entry, std::move(error));
      continue;
    }
    if (!instance.admitted_wait) {
      instance.admitted_wait = true;
      decide(DecisionKind::kWait, entry->model.id,
             fmt::format("waits for {}: the models that hold it are busy",
                         need.bytes.empty() ? "a place" : to_string(need.bytes.total())));
    }
    if (next_close) gate_times_.push_back(*next_close);
    // Beyond its age cap nobody overtakes it any more.
    const TimePoint aged_at = contender(*entry).aged_at;
    if (aged_at <= now_) {
      spoken_for += need;
    } else {
      gate_times_.push_back(aged_at);
    }
  }
}

void Arbiter::finish_drains() {
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kDraining || !entry.instance->leases.empty()) continue;
    enter(entry, Trigger::kDrained);
    stop(entry);
  }
}

void Arbiter::finish_shutdown() {
  if (!shutdown_ || shutdown_finished_) return;
  if (std::ranges::any_of(entries_, [](const auto& item) { return item.second.instance.has_value(); }))
    return;
  shutdown_finished_ = true;
  emit(FinishShutdown{});
}

std::optional<TimePoint> Arbiter::next_wakeup() const {
  std::optional<TimePoint> next = backlog_.next_deadline();
  const auto consider = [&next](TimePoint t) {
    if (!next || t < *next) next = t;
  };
  for (const TimePoint t : gate_times_) {
    if (t > now_) consider(t);
  }
  for (const auto& [id, entry] : entries_) {
    if (!entry.instance) continue;
    const Instance& instance = *entry.instance;
    switch (entry.state()) {
      case InstanceState::kQueued:
        if (!instance.footprint) consider(instance.since + settings_.limits.load_silence);
        break;
      case InstanceState::kReserved:
      case InstanceState::kStandbyTaken:
      case InstanceState::kLoading:
        consider(instance.last_progress_at + settings_.limits.load_silence);
        break;
      case InstanceState::kReady: {
        const Duration idle_for = keep_alive(entry);
        if (instance.leases.empty() && !backlog_.any(id) && !entry.is_pinned() && idle_for >= Duration())
          consider(instance.last_used + idle_for);
        break;
      }
      case InstanceState::kDraining:
        consider(instance.drain_deadline);
        break;
      case InstanceState::kStopping:
        consider(instance.watchdog_at);
        break;
      case InstanceState::kReclaiming:
        consider(instance.release_deadline + std::chrono::seconds(1));
        break;
      case InstanceState::kFailed:
        if (instance.retry_at && entry.is_pinned()) consider(*instance.retry_at);
        break;
      case InstanceState::kAbsent:
      case InstanceState::kSleeping:
        break;
    }
  }
  return next;
}

void Arbiter::arm_timer() {
  const std::optional<TimePoint> next = next_wakeup();
  if (!next) {
    armed_.reset();
    return;
  }
  // What was due has been met by this very settle, so whatever is next lies ahead; the tests hold us to it.
  if (armed_ == next && *armed_ > now_) return;
  armed_ = next;
  emit(ArmTimer{std::max(*next, now_)});
}

}  // namespace lm::core
