// What follows from the state and the time, after every event: deadlines, wants, grants, room, drains, the
// timer.
#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "core/arbiter.h"

namespace lm::core {

void Arbiter::settle() {
  gate_times_.clear();
  expire_waiters();
  for (auto& [id, entry] : entries_) {
    if (entry.instance) meet_deadlines(entry);
  }
  // Where the devices change to another family, its pins want their models again in the same step.
  for (Selection before = selected_; !shutdown_; before = selected_) {
    end_back_offs();
    want_pins();
    give_up_unwanted();
    want_models();
    settle_families();
    shed_surplus();
    // Serving a batch may let a gate close, and a gate that closed decides who is served.
    do {
      admit_loads();
    } while (grant_leases());
    settle_families();  // what a change that has just ended was in the way of
    if (before.family == selected_.family && before.remote == selected_.remote) break;
  }
  finish_drains();
  forget_gone();
  finish_shutdown();
  arm_timer();
}

void Arbiter::expire_waiters() {
  for (const Waiter& waiter : backlog_.take_expired(now_)) {
    Error error{.code = ErrorCode::kDeadlineExceeded,
                .message = fmt::format("{} did not become ready within {:.0f} s", waiter.named.str(),
                                       seconds(now_ - waiter.waiting_since)),
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
      if (instance.predicting && now_ >= instance.since + settings_.limits.load_silence) {
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
      if (instance.outdated) {
        begin_drain(entry, EndCause::kUnloaded,
                    entry.listed ? "its configuration changed" : "it is no longer configured",
                    settings_.limits.drain_evict);
      } else if (idle && !entry.is_pinned() && idle_for >= Duration() &&
                 now_ >= instance.last_used + idle_for) {
        begin_drain(entry, EndCause::kExpired,
                    fmt::format("idle for {:.0f} s", seconds(now_ - instance.last_used)),
                    settings_.limits.drain_evict);
      }
      break;
    }
    case InstanceState::kStopping:
      if (now_ >= instance.watchdog_at && entry.is_seat()) {
        on(UpstreamYielded{
            instance.id, instance.generation,
            Error{.code = ErrorCode::kDeadlineExceeded,
                  .message = fmt::format("{} did not answer in time", entry.upstream->id.str()),
                  .reason = "yield_timeout",
                  .fields = {},
                  .retry_after = {}}});
      } else if (now_ >= instance.watchdog_at) {
        decide(DecisionKind::kFail, entry.model.id,
               fmt::format("its worker {} has not ended yet: asked again", instance.pid));
        give_up_ending(entry);
        instance.watchdog_at = now_ + std::chrono::seconds(10);
        emit(StopInstance{instance.id, instance.generation, Duration()});
      }
      break;
    case InstanceState::kReclaiming:
      // The measurement itself is late: do not wait for it for ever, and claim nothing.
      if (now_ >= instance.release_deadline + std::chrono::seconds(1)) {
        claim_nothing(entry);
        reclaimed(entry);
      }
      break;
    case InstanceState::kAbsent:
    case InstanceState::kDraining:
    case InstanceState::kSleeping:
    case InstanceState::kFailed:
      break;
  }
}

void Arbiter::end_back_offs() {
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kFailed) continue;
    const std::optional<TimePoint>& retry_at = entry.instance->retry_at;
    // Whoever waits for what has failed came when its time was over, or insists.
    if (backlog_.any(id) || (pin_wants(entry) && retry_at && now_ >= *retry_at)) forget(entry);
  }
}

// A pin is a waiter that comes again by itself for as long as its model is not ready.
void Arbiter::want_pins() {
  for (auto& [id, entry] : entries_) {
    if (!pin_wants(entry)) {
      if (backlog_.has_pin(id)) backlog_.take_pin(id);
      continue;
    }
    if (published(entry.state()) != PublishedState::kUnloaded &&
        published(entry.state()) != PublishedState::kLoading)
      continue;
    if (backlog_.has_pin(id)) continue;
    // It waits for as long as it takes; the deadline only makes it ask anew.
    backlog_.add({.kind = Waiter::Kind::kPin,
                  .request = {},
                  .job = {},
                  .model = id,
                  .named = id,
                  .priority = PriorityClass::kBatch,
                  .arrived = now_,
                  .waiting_since = now_,
                  .deadline = now_ + settings_.scheduling.wait_batch});
  }
}

void Arbiter::want_models() {
  for (auto& [id, entry] : entries_) {
    if (!backlog_.any(id)) continue;
    if (entry.instance) continue;
    if (entry.model.problem) {
      reject_waiters(entry, *entry.model.problem);
    } else {
      begin(entry);
    }
  }
}

void Arbiter::give_up_unwanted() {
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kQueued && !is_coming(entry.state())) continue;
    if (!backlog_.any(id)) {
      give_up(entry, EndCause::kUnwanted, "everybody who wanted it has left");
    } else if (entry.instance->outdated && entry.listed) {
      give_up(entry, EndCause::kUnwanted, "its configuration changed while it loaded");
    }
  }
}

// Whether anybody was served.
bool Arbiter::grant_leases() {
  bool any = false;
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kReady || !backlog_.any(id)) continue;
    Instance& instance = *entry.instance;
    const Contention contention = contention_for(entry);
    while (const Waiter* next = next_to_serve(entry, contention)) {
      const RequestId request = next->request;
      const ModelId named = next->named;
      instance.batch_last = next->priority == PriorityClass::kBatch;
      instance.leases.insert(request);
      Waiter waiter = *backlog_.take(request);
      demand_.granted(request, id, now_, waiter.answered);
      entry.doubt.served();
      const bool in_batch = waiter.arrived <= instance.turn_began;
      leases_.emplace(request, Lent{.waiter = std::move(waiter), .in_batch = in_batch});
      instance.last_used = now_;
      if (contends(entry) && is_chosen(entry)) selected_.model = named;
      emit(GrantLease{request, instance.id, instance.generation, named});
      any = true;
    }
  }
  return any;
}

// Those whose time is over go back to the queue, and are continued in the model's next turn.
void Arbiter::preempt_overdue(Entry& entry) {
  Instance& instance = *entry.instance;
  if (!instance.yields_turn) return;
  std::vector<RequestId> overdue;
  for (const RequestId request : instance.leases) {
    const auto at = preempted_at(entry, leases_.at(request));
    if (at && now_ >= *at) overdue.push_back(request);
  }
  if (overdue.empty()) return;
  decide(DecisionKind::kPreempt, entry.model.id,
         fmt::format("{} of its answers {} set aside {:.1f} s after the end of its turn, to be continued in "
                     "its next: {}",
                     overdue.size(), overdue.size() == 1 ? "is" : "are", seconds(now_ - instance.drain_began),
                     instance.why),
         {{"requests", static_cast<std::int64_t>(overdue.size())}});
  for (const RequestId request : overdue) instance.leases.erase(request);  // theirs to give back
  emit(PreemptRequests{instance.id, std::move(overdue)});
}

void Arbiter::finish_drains() {
  for (auto& [id, entry] : entries_) {
    if (entry.state() != InstanceState::kDraining) continue;
    Instance& instance = *entry.instance;
    preempt_overdue(entry);
    if (!instance.leases.empty() && now_ >= instance.drain_deadline) {
      Error error{.code = ErrorCode::kCancelled,
                  .message = fmt::format("{} is being unloaded ({}) and the answer did not end in time",
                                         told_as(entry).str(), instance.why),
                  .reason = "model_unloaded",
                  .fields = {},
                  .retry_after = std::chrono::seconds(1)};
      emit(CutRequests{instance.id, {instance.leases.begin(), instance.leases.end()}, std::move(error)});
      instance.leases.clear();  // theirs to release; no longer ours to wait for
    }
    if (!instance.leases.empty()) continue;
    enter(entry, Trigger::kDrained);
    stop(entry);
    for (auto& [other_id, other] : entries_) {
      if (is_committed(other)) other.instance->drained = now_;
    }
  }
}

// A failure is only remembered of a model that could be asked for; a model that is no longer configured is
// forgotten with its last instance.
void Arbiter::forget_gone() {
  for (auto it = entries_.begin(); it != entries_.end();) {
    Entry& entry = it->second;
    if (entry.state() == InstanceState::kFailed && (shutdown_ || !entry.listed)) forget(entry);
    const bool gone = !entry.listed && !entry.instance;
    if (gone) demand_.forget(it->first);
    it = gone ? entries_.erase(it) : std::next(it);
  }
}

void Arbiter::finish_shutdown() {
  if (!shutdown_ || shutdown_finished_) return;
  if (!direct_.empty()) {
    if (now_ < *shutdown_) return;
    emit(CutRequests{InstanceId(),
                     {direct_.begin(), direct_.end()},
                     Error{.code = ErrorCode::kUnavailable,
                           .message = "the daemon is shutting down",
                           .reason = "shutting_down",
                           .fields = {},
                           .retry_after = {}}});
    direct_.clear();
  }
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
  if (shutdown_ && !direct_.empty()) consider(*shutdown_);
  if (!shutdown_) {
    if (const auto ends = linger_ends()) consider(*ends);
    if (const auto due = intruder_due()) consider(*due);
  }
  if (const TimePoint due = kept_.due(now_); due > now_) consider(due);
  for (const TimePoint t : gate_times_) {
    if (t > now_) consider(t);
  }
  for (const auto& [id, entry] : entries_) {
    if (!entry.instance) continue;
    const Instance& instance = *entry.instance;
    switch (entry.state()) {
      case InstanceState::kQueued:
        if (instance.predicting) consider(instance.since + settings_.limits.load_silence);
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
        if (!instance.yields_turn) break;
        for (const RequestId request : instance.leases) {
          if (const auto at = preempted_at(entry, leases_.at(request))) consider(*at);
        }
        break;
      case InstanceState::kStopping:
        consider(instance.watchdog_at);
        break;
      case InstanceState::kReclaiming:
        consider(instance.release_deadline + std::chrono::seconds(1));
        break;
      case InstanceState::kFailed:
        if (instance.retry_at && pin_wants(entry)) consider(*instance.retry_at);
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
