// What each event means. What follows from it is decided in arbiter_settle.cpp.
#include "core/arbiter.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"

namespace lm::core {
namespace {

// Of an end of a turn whose answers cannot be set aside, so much counts as the cost of the change.
constexpr Duration kMostDrain = std::chrono::seconds(20);

Error unavailable(std::string message, std::string reason, std::optional<Duration> retry_after = {}) {
  return {.code = ErrorCode::kUnavailable,
          .message = std::move(message),
          .reason = std::move(reason),
          .fields = {},
          .retry_after = retry_after};
}

Error not_ours(const Entry& entry, std::string_view why) {
  return {.code = ErrorCode::kInvalidArgument,
          .message = fmt::format("{} is not ours to {}", entry.model.id.str(), why),
          .reason = "not_local",
          .fields = {},
          .retry_after = {}};
}

}  // namespace

Commands Arbiter::step(const Event& event, TimePoint now) {
  LM_ASSERT(now >= now_, "time does not go back");
  now_ = now;
  commands_.clear();
  std::visit([this](const auto& e) { on(e); }, event);
  settle();
  if (const auto told = std::exchange(to_tell_, std::nullopt);
      told && backlog_.find(told->request) != nullptr)
    emit(*told);
  return std::exchange(commands_, {});
}

void Arbiter::decide(DecisionKind kind, const ModelId& model, std::string why,
                     std::vector<Error::Field> fields) {
  const Entry* entry = find(model);
  emit(RecordDecision{Decision{.kind = kind,
                               .model = entry != nullptr ? told_as(*entry) : model,
                               .why = std::move(why),
                               .fields = std::move(fields)}});
}

// ---- clients

void Arbiter::on(const RequestArrived& e) {
  const auto reject = [&](Error error) { emit(RejectRequest{e.request, std::move(error)}); };
  if (shutdown_) return reject(unavailable("the daemon is shutting down", "shutting_down"));
  Entry* entry = find(e.model);
  if (entry == nullptr || !entry->listed) {
    return reject({.code = ErrorCode::kNotFound,
                   .message = fmt::format("no model named {}", e.model.str()),
                   .reason = "model_not_found",
                   .fields = {},
                   .retry_after = {}});
  }
  if (const Hold* hold = hold_on(*entry)) return reject(held_error(*entry, *hold));
  Entry* seat = seat_of(*entry);
  const bool serves = seat == entry && entry->state() == InstanceState::kReady;
  if (entry->model.problem && !serves) return reject(*entry->model.problem);
  if (seat == nullptr) {
    choose_remote(*entry);
    direct_.insert(e.request);
    leases_.emplace(e.request, Lent{.waiter = {.request = e.request, .model = e.model, .named = e.model}});
    return emit(GrantLease{e.request, InstanceId(), Generation(), e.model});
  }
  if (contends(*seat)) remote_choice_.reset();
  expire_waiters();  // whose time is over stands in nobody's way
  if (seat->state() == InstanceState::kFailed) {
    const Instance& failed = *seat->instance;
    if (!failed.retry_at || now_ < *failed.retry_at) {
      Error error = *failed.failure;
      if (failed.retry_at) error.retry_after = *failed.retry_at - now_;
      return reject(std::move(error));
    }
  }
  // Others would make way for a load that failed a moment ago. A server that is there answers by itself.
  if (entry->refused && now_ < entry->refused_until &&
      (seat->state() != InstanceState::kReady || is_intruder(*seat))) {
    Error error = *entry->refused;
    error.retry_after = entry->refused_until - now_;
    return reject(std::move(error));
  }
  demand_.arrived(seat->model.id, now_);  // also where it is refused: it was wanted
  const auto& policy = settings_.scheduling;
  // Whoever is served at once takes no place in the queue that others have filled.
  const ModelId& queue = seat->model.id;
  const bool at_once = seat->state() == InstanceState::kReady && !backlog_.any(queue) &&
                       static_cast<int>(seat->instance->leases.size()) < seat->instance->slots;
  std::optional<ExpectedWait> wait;
  if (!at_once || contention_for(*seat).oldest)
    wait = wait_of(*seat, e.priority, nullptr, Guessing::kLikely, now_);
  const bool total = backlog_.requests() >= policy.queue_total && !at_once;
  if (total || backlog_.requests(queue) >= policy.queue_per_model) {
    Error error{.code = ErrorCode::kResourceExhausted,
                .message = fmt::format("{} requests already wait{}; try again later",
                                       total ? policy.queue_total : policy.queue_per_model,
                                       total ? "" : fmt::format(" for {}", e.model.str())),
                .reason = "queue_full",
                .fields = {},
                .retry_after = std::chrono::seconds(1)};
    if (wait) {
      error.fields = fields_of(*wait);
      // Before that turn ends nobody leaves the queue.
      error.retry_after = std::max(*error.retry_after, wait->held_for);
    }
    return reject(std::move(error));
  }
  const Duration longest =
      e.priority == PriorityClass::kInteractive ? policy.wait_interactive : policy.wait_batch;
  const TimePoint deadline = e.deadline.value_or(now_ + longest);
  if (wait) {
    if (auto error = too_late(*seat, e, deadline, *wait)) return reject(*std::move(error));
    to_tell_ = TellWait{e.request, *wait};
  }
  entry->pin_rests = false;
  backlog_.add({.kind = Waiter::Kind::kRequest,
                .request = e.request,
                .job = {},
                .model = queue,
                .named = e.model,
                .priority = e.priority,
                .arrived = now_,
                .waiting_since = now_,
                .deadline = deadline,
                .preemptible = e.preemptible && !seat->is_seat(),
                .weight = e.weight});
}

void Arbiter::on(const RequestCancelled& e) {
  backlog_.take(e.request);
}

void Arbiter::on(const AnswerBegan& e) {
  const auto it = leases_.find(e.request);
  if (it != leases_.end() && !it->second.began) it->second.began = now_;
}

void Arbiter::on(const LeaseReleased& e) {
  const auto it = leases_.find(e.request);
  LM_ASSERT(it != leases_.end(), "a lease ends once");
  demand_.released(e.request, now_);
  Entry* entry = find(it->second.waiter.model);
  leases_.erase(it);
  if (direct_.erase(e.request) > 0) return;
  // Of an earlier life, whose worker died, or cut off: no longer ours to wait for.
  if (entry == nullptr || !entry->instance || entry->instance->leases.erase(e.request) == 0) return;
  entry->instance->last_used = now_;
  if (entry->state() == InstanceState::kReady) entry->failures = entry->deaths = 0;
}

// It was admitted, so it is not refused for the length of a queue or for its own deadline; but what ends the
// wait of everybody else ends its wait, too.
void Arbiter::on(const RequestPreempted& e) {
  const auto it = leases_.find(e.request);
  LM_ASSERT(it != leases_.end(), "only who holds a lease is preempted");
  Waiter waiter = std::move(it->second.waiter);
  leases_.erase(it);
  waiter.was_set_aside = true;
  waiter.answered = demand_.set_aside(e.request, now_);
  const auto reject = [&](Error error) { emit(RejectRequest{e.request, std::move(error)}); };
  if (shutdown_) return reject(unavailable("the daemon is shutting down", "shutting_down"));
  Entry* entry = find(waiter.model);
  if (entry == nullptr || !entry->listed) {
    return reject({.code = ErrorCode::kNotFound,
                   .message = fmt::format("{} is no longer configured", waiter.named.str()),
                   .reason = "model_not_found",
                   .fields = {},
                   .retry_after = {}});
  }
  if (const Hold* hold = hold_on(*entry)) return reject(held_error(*entry, *hold));
  if (entry->state() == InstanceState::kFailed) {
    const Instance& failed = *entry->instance;
    if (!failed.retry_at || now_ < *failed.retry_at) return reject(*failed.failure);
  }
  waiter.waiting_since = now_;
  waiter.deadline = now_ + std::max(settings_.scheduling.wait_interactive, settings_.scheduling.wait_batch);
  backlog_.add(std::move(waiter));
}

// ---- administrators

void Arbiter::on(const LoadWanted& e) {
  const auto refuse_job = [&](Error error) { emit(FinishJob{e.job, std::move(error), {}}); };
  if (shutdown_) return refuse_job(unavailable("the daemon is shutting down", "shutting_down"));
  Entry* entry = find(e.model);
  if (entry == nullptr || !entry->listed) {
    return refuse_job({.code = ErrorCode::kNotFound,
                       .message = fmt::format("no model named {}", e.model.str()),
                       .reason = "model_not_found",
                       .fields = {},
                       .retry_after = {}});
  }
  if (entry->model.problem && entry->state() != InstanceState::kReady)
    return refuse_job(*entry->model.problem);
  Entry* seat = seat_of(*entry);
  if (seat == nullptr) return emit(FinishJob{e.job, std::nullopt, {.changed = false}});
  if (contends(*seat)) remote_choice_.reset();
  // An explicit load ends the holds: this model's, and the one over everything.
  if (entry->hold) {
    entry->hold.reset();
    emit(RecordHold{e.model, false, e.who, 0});
    decide(DecisionKind::kHold, e.model, fmt::format("{} asked to load it: the hold ends", e.who));
  }
  if (hold_on(*entry) != nullptr) {
    hold_all_.reset();
    emit(RecordHold{ModelId(), false, e.who, 0});
    decide(DecisionKind::kHold, e.model,
           fmt::format("{} asked to load it: the hold over all local models ends", e.who));
  }
  entry->pin_rests = false;
  entry->refused.reset();
  if (seat->state() == InstanceState::kReady) {
    seat->instance->last_used = now_;
    if (seat == entry || has_in_memory(*seat, *entry))
      return emit(FinishJob{e.job, std::nullopt, {.changed = false}});
    load_also(*seat, e.model, e.who);
  }
  if (seat->state() == InstanceState::kFailed) {
    // Somebody insists: the back-off is over, and what was only predicted is predicted anew.
    forget(*seat);
    if (seat->learned && seat->learned->source == FootprintSource::kPredicted) seat->learned.reset();
  }
  if (e.force && seat->state() == InstanceState::kQueued) seat->instance->force = true;
  backlog_.add({.kind = Waiter::Kind::kJob,
                .request = {},
                .job = e.job,
                .model = seat->model.id,
                .named = e.model,
                .priority = PriorityClass::kInteractive,
                .arrived = now_,
                .waiting_since = now_,
                .deadline = now_ + settings_.scheduling.wait_batch,
                .force = e.force,
                .who = e.who});
}

void Arbiter::on(const KeepAliveAsked& e) {
  Entry* entry = find(e.model);
  if (entry != nullptr && entry->instance) entry->instance->keep_alive = e.keep_alive;
}

void Arbiter::on(const UnloadWanted& e) {
  std::vector<Entry*> targets;
  if (e.model) {
    Entry* entry = find(*e.model);
    if (entry == nullptr) {
      return emit(FinishJob{e.job,
                            Error{.code = ErrorCode::kNotFound,
                                  .message = fmt::format("no model named {}", e.model->str()),
                                  .reason = "model_not_found",
                                  .fields = {},
                                  .retry_after = {}},
                            {}});
    }
    if (entry->model.remote && e.hold) {
      return emit(FinishJob{e.job, not_ours(*entry, "hold: only local models are kept unloaded"), {}});
    }
    Entry* seat = seat_of(*entry);
    if (seat == nullptr) return emit(FinishJob{e.job, std::nullopt, {.changed = false}});
    targets.push_back(seat);
  } else {
    for (auto& [id, entry] : entries_) {
      if (is_local(entry)) targets.push_back(&entry);
    }
  }

  if (e.hold) {
    const Hold hold{e.who, e.unix_ms};
    if (e.model) {
      targets.front()->hold = hold;
    } else {
      hold_all_ = hold;
    }
    emit(RecordHold{e.model.value_or(ModelId()), true, e.who, e.unix_ms});
    decide(DecisionKind::kHold, e.model.value_or(ModelId()),
           fmt::format("{} asked to keep {} unloaded until an explicit load", e.who,
                       e.model ? e.model->str() : "every local model"));
  }

  UnloadJob job;
  const std::string why = fmt::format("unloaded by {}", e.who);
  for (Entry* entry : targets) {
    entry->pin_rests = true;
    if (const Hold* hold = hold_on(*entry)) {
      reject_waiters(*entry, held_error(*entry, *hold));
    } else if (entry->instance) {
      reject_waiters(*entry,
                     unavailable(fmt::format("{} was {}; ask again to load it", told_as(*entry).str(), why),
                                 "model_unloaded", std::chrono::seconds(1)));
    }
    switch (entry->state()) {
      case InstanceState::kAbsent:
        continue;
      case InstanceState::kFailed:
        forget(*entry);
        continue;
      case InstanceState::kQueued:
        give_up(*entry, EndCause::kUnloaded, why);
        job.result.changed = true;
        continue;
      case InstanceState::kReserved:
      case InstanceState::kStandbyTaken:
      case InstanceState::kLoading:
        give_up(*entry, EndCause::kUnloaded, why);
        break;
      case InstanceState::kReady:
      case InstanceState::kSleeping:
        begin_drain(*entry, EndCause::kUnloaded, why, settings_.limits.drain_unload);
        break;
      case InstanceState::kDraining:
        // On its way for a slower cause: somebody who asks waits no longer than an unload does, and what
        // still runs is not to load it again.
        entry->instance->yields_turn = false;
        entry->instance->drain_deadline =
            std::min(entry->instance->drain_deadline, now_ + settings_.limits.drain_unload);
        break;
      case InstanceState::kStopping:
      case InstanceState::kReclaiming:
        break;
    }
    job.result.changed = true;
    job.pending.insert(entry->instance->id);
    entry->instance->unload_jobs.insert(e.job);
  }
  if (job.pending.empty()) {
    emit(FinishJob{e.job, std::nullopt, job.result});
  } else {
    unload_jobs_.emplace(e.job, std::move(job));
  }
}

void Arbiter::on(const PinChanged& e) {
  Entry* entry = find(e.model);
  if (entry == nullptr || !entry->listed) {
    return emit(FinishJob{e.job,
                          Error{.code = ErrorCode::kNotFound,
                                .message = fmt::format("no model named {}", e.model.str()),
                                .reason = "model_not_found",
                                .fields = {},
                                .retry_after = {}},
                          {}});
  }
  if (entry->model.remote) {
    return emit(
        FinishJob{e.job, not_ours(*entry, "pin: its upstream decides how long it stays in memory"), {}});
  }
  const bool changed = entry->is_pinned() != e.pinned;
  entry->pinned = e.pinned;
  entry->pin_rests = false;
  if (changed) emit(RecordPin{e.model, e.pinned});
  if (!e.pinned) backlog_.take_pin(e.model);
  if (entry->instance) entry->instance->last_used = now_;
  emit(FinishJob{e.job, std::nullopt, {.changed = changed, .release = {}}});
}

void Arbiter::on(const JobAbandoned& e) {
  if (backlog_.take(e.job) || switch_jobs_.erase(e.job) > 0) return;
  const auto job = unload_jobs_.find(e.job);
  if (job == unload_jobs_.end()) return;  // finished already
  for (auto& [id, entry] : entries_) {
    if (entry.instance) entry.instance->unload_jobs.erase(e.job);
  }
  unload_jobs_.erase(job);
}

// ---- workers

void Arbiter::on(const FootprintPredicted& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr || entry->state() != InstanceState::kQueued) return;
  if (!e.footprint) {
    ++entry->failures;
    return refuse(*entry, e.error.value_or(Error{.code = ErrorCode::kInternal,
                                                 .message = "the prediction said nothing",
                                                 .reason = "predict_failed",
                                                 .fields = {},
                                                 .retry_after = {}}));
  }
  Instance& instance = *entry->instance;
  instance.footprint = e.footprint;
  instance.predicting = false;
  instance.plan.reset();  // it was made of what was believed before
  entry->learned = e.footprint;
  entry->learned_for_host = instance.for_host;
  if (e.extent) entry->extent = e.extent;
  if (entry->known.empty()) entry->known = e.known;
}

void Arbiter::on(const WorkerTaken& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr) return;
  entry->instance->pid = e.pid;
  entry->instance->last_progress_at = now_;
  if (entry->state() == InstanceState::kReserved || entry->state() == InstanceState::kStopping)
    enter(*entry, Trigger::kWorkerTaken);
}

void Arbiter::on(const LoadProgressed& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr) return;
  if (entry->state() == InstanceState::kReserved)
    enter(*entry, Trigger::kWorkerTaken);  // its word was overtaken
  const InstanceState state = entry->state();
  if (state != InstanceState::kStandbyTaken && state != InstanceState::kLoading) return;
  Instance& instance = *entry->instance;
  instance.stage = e.stage;
  instance.fraction = e.fraction;
  instance.last_progress_at = now_;
  enter(*entry, Trigger::kProgressed);
}

void Arbiter::on(const LoadSucceeded& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr) return;
  if (entry->state() == InstanceState::kReserved) enter(*entry, Trigger::kWorkerTaken);
  const InstanceState state = entry->state();
  if (state != InstanceState::kStandbyTaken && state != InstanceState::kLoading)
    return;  // it was told to end meanwhile
  Instance& instance = *entry->instance;
  instance.held = e.held;
  instance.most_held = e.held;
  instance.host_at_ready = e.held.on(host_device());
  learn(*entry);
  // Correct the promise by what was measured, now and before. It may always shrink; it grows where there is
  // room, and where there is none the ledger charges what is held beyond it.
  const DeviceBytes& takes = entry->learned->bytes;
  Need growth;
  for (const auto& [device, bytes] : takes) {
    if (bytes > instance.reserved.on(device)) growth.bytes.set(device, bytes - instance.reserved.on(device));
  }
  instance.held = {};  // else what was seen while it loaded would count twice
  const bool fits = ledger().shortage(growth).empty();
  for (const Device& device : devices_) {
    const Bytes bytes = takes.on(device.id);
    if (bytes < instance.reserved.on(device.id) || fits) instance.reserved.set(device.id, bytes);
  }
  instance.held = e.held;
  instance.reclaimable = e.reclaimable;
  instance.slots = entry->slots_last = std::max(1, e.slots);
  instance.context = e.context;
  instance.turn_began = now_;
  instance.last_used = now_;
  entry->load_took = e.took;
  if (!entry->is_seat()) entry->failures = 0;
  if (entry->is_seat()) forget_refusal(instance.named);
  instance.chosen_over.reset();
  if (instance.committed) {
    // What others' answers take to end belongs to the cost, but while they do the device works: one long
    // answer is not to stretch every quantum.
    const TimePoint drained = instance.drained.value_or(*instance.committed);
    const Duration drain = std::max(Duration(), drained - *instance.committed);
    const Duration cost = now_ - *instance.committed - drain +
                          std::min(drain, std::max(settings_.scheduling.drain, kMostDrain));
    change_cost_.changed(cost, std::max(Duration(), instance.ordered_at - *instance.committed - drain),
                         !entry->loaded_before);
  } else if (instance.places > 0) {
    change_cost_.loaded(now_ - instance.ordered_at);
  }
  entry->loaded_before = true;
  emit(RecordFootprint{entry->model.id, instance.options, *entry->learned, e.took});
  enter(*entry, Trigger::kLoadSucceeded);
  check_landing(*entry, e.held);
  entry->stuck.reset();
  JobResult result{.changed = true};
  if (switch_ && switch_target_ == entry->model.id) {
    close_switch(SwitchStage::kDone);
    result.switched = last_switch_;
    result.release = last_switch_->release;
  }
  const auto served = entry->is_seat() ? backlog_.take_jobs_named(entry->model.id, instance.named)
                                       : backlog_.take_jobs_and_pins(entry->model.id);
  for (const Waiter& waiter : served) {
    if (waiter.kind == Waiter::Kind::kJob) emit(FinishJob{waiter.job, std::nullopt, result});
  }
  // Somebody chose another one of its upstream's models meanwhile: that is not there yet.
  std::set<ModelId> others;
  for (const Waiter& waiter : backlog_.of(entry->model.id)) {
    if (waiter.kind == Waiter::Kind::kJob && others.insert(waiter.named).second)
      load_also(*entry, waiter.named, waiter.who);
  }
}

void Arbiter::on(const LoadFailed& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr) return;
  switch (entry->state()) {
    case InstanceState::kReserved:
    case InstanceState::kStandbyTaken:
    case InstanceState::kLoading:
      note_loss(e.error);
      return fail_load(*entry, e.error);
    default:
      return;  // it was told to end meanwhile
  }
}

void Arbiter::on(const WorkerExited& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr || !is_charged(entry->state()) || entry->state() == InstanceState::kReclaiming) return;
  Instance& instance = *entry->instance;
  const bool expected = entry->state() == InstanceState::kStopping;
  const bool was_ready = instance.was_ready();
  if (!e.held_before.empty()) {
    // Of a device that does not tell bytes per process, the engine's own account stands.
    for (const auto& [device, bytes] : e.held_before) instance.held.set(device, bytes);
    instance.reclaimable = e.reclaimable_before;
  }
  if (e.error) note_loss(*e.error);
  if (!expected) {
    instance.cause = was_ready ? EndCause::kCrashed : EndCause::kLoadFailed;
    instance.why = fmt::format("the worker {}", e.how);
    if (entry->state() != InstanceState::kDraining) {
      instance.failure = unavailable(fmt::format("the worker of {} {} while it {}", entry->model.id.str(),
                                                 e.how, was_ready ? "served" : "loaded"),
                                     "worker_died");
      if (e.error) {
        instance.failure->message = fmt::format("{}: {}", instance.failure->message, e.error->message);
        instance.failure->reason = e.error->reason;
        instance.failure->fields = e.error->fields;
      }
      ++(was_ready ? entry->deaths : entry->failures);
    }
    decide(DecisionKind::kFail, entry->model.id, instance.why);
    if (!was_ready) reject_waiters(*entry, fail_switch_to(*entry, *instance.failure));
  } else if (was_ready && !instance.outdated && !instance.held.empty()) {
    // What it grew to while it served is what the next life needs. One that never became ready, or has other
    // options than its model now, teaches nothing.
    learn(*entry);
    emit(RecordFootprint{entry->model.id, instance.options, *entry->learned, entry->load_took});
  }
  // Whoever it served is told by the broken connection; their leases end by themselves and no longer concern
  // this instance.
  instance.leases.clear();
  if (!expected) {
    if (entry->state() != InstanceState::kDraining) instance.drain_began = now_;
    for (const auto& [device, bytes] : free_) instance.free_before.set(device, bytes);
  }
  await_release(*entry);
}

// ---- probes

void Arbiter::on(const ReleaseMeasured& e) {
  Entry* entry = find(e.instance, e.generation);
  if (entry == nullptr || entry->state() != InstanceState::kReclaiming) return;
  Instance& instance = *entry->instance;
  if (e.method == ReleaseReport::kNotMeasured) {
    if (now_ < instance.release_deadline) return measure_again(*entry);
    claim_nothing(*entry);
    return reclaimed(*entry);
  }
  ReleaseReport& report = instance.report;
  report = {};
  std::set<DeviceId> touched;
  for (const auto& [device, bytes] : instance.held) touched.insert(device);
  for (const auto& [device, bytes] : instance.reserved) touched.insert(device);
  for (const auto& [device, bytes] : e.residual) touched.insert(device);
  for (const DeviceId& device : touched) {
    ReleaseReport::Row row;
    row.device = device;
    row.residual = row.after = e.residual.on(device);
    // What is left was there before, also where it was last measured when there was less.
    row.before = std::max(instance.held.on(device), row.residual);
    row.freed = row.before - row.after;
    row.expected = instance.reserved.on(device);
    // Of what an upstream loaded by itself nothing was ever reserved.
    if (instance.adopted) row.expected = std::max(row.expected, instance.held.on(device));
    row.device_free_before = instance.free_before.on(device);
    const auto reading = std::ranges::find(e.devices, device, &DeviceReading::device);
    if (reading != e.devices.end()) {
      row.device_free_after = reading->free;
    } else if (!e.complete) {
      row.freed = Bytes();  // nobody measures it: nothing is claimed
    }
    report.before += row.before;
    report.after += row.after;
    report.freed += row.freed;
    report.expected += row.expected;
    report.residual += row.residual;
    report.devices.push_back(std::move(row));
  }
  report.reclaimable = instance.reclaimable;
  report.holders = e.holders;
  report.method = e.method;
  report.took = now_ - instance.drain_began;
  // An upstream that says it still holds something is believed, unless its processes were seen not to.
  const bool clings = !e.residual.empty() || (instance.yield_error && e.method != "process");
  report.outcome = clings       ? ReleaseOutcome::kClings
                   : e.complete ? ReleaseOutcome::kProved
                                : ReleaseOutcome::kUnknown;
  for (const DeviceReading& reading : e.devices) free_[reading.device] = reading.free;

  if (clings && now_ < instance.release_deadline) return measure_again(*entry);
  reclaimed(*entry);
}

void Arbiter::on(const MemoryMeasured& e) {
  for (const ProcessUse& use : e.instances) {
    for (auto& [id, entry] : entries_) {
      if (!entry.instance || entry.instance->id != use.instance) continue;
      // In Reclaiming its worker is gone: this was measured before.
      if (!is_charged(entry.state()) || entry.state() == InstanceState::kReclaiming) continue;
      Instance& instance = *entry.instance;
      // Where the driver does not tell bytes per process, the engine's own account stands.
      for (const DeviceReading& reading : e.devices) {
        if (reading.per_process) instance.held.set(reading.device, Bytes());
      }
      for (const auto& [device, bytes] : use.held) instance.held.set(device, bytes);
      instance.reclaimable = use.reclaimable;
      instance.most_held = DeviceBytes::max(instance.most_held, instance.held);
    }
  }
  // What an instance on its way out held counts as ours until its release is measured: else the same bytes
  // would be charged to it and to strangers.
  DeviceBytes ours;
  for (const auto& [id, entry] : entries_) {
    if (is_charged(entry.state())) ours += entry.instance->held;
  }
  kept_.note_measurement();
  for (const DeviceReading& reading : e.devices) {
    free_[reading.device] = reading.free;
    external_.set(reading.device,
                  std::max(Bytes(), reading.capacity - reading.free - ours.on(reading.device)));
  }
  end_runaways();
}

void Arbiter::on(const StatesKept& e) {
  kept_.now_keeps(e.memory);
}

// ---- configuration

void Arbiter::on(const ModelsChanged& e) {
  for (auto& [id, entry] : entries_) entry.listed = false;
  for (const Upstream& upstream : e.upstreams) {
    if (upstream.shares_devices) list_seat(upstream);
  }
  for (const Model& model : e.models) {
    const auto [it, fresh] = entries_.try_emplace(model.id);
    Entry& entry = it->second;
    const bool same = !fresh && entry.model.artifact == model.artifact && entry.model.load == model.load &&
                      entry.model.placement == model.placement && entry.model.kind == model.kind &&
                      entry.model.family == model.family && entry.model.remote == model.remote;
    if (!fresh && !same) {
      entry.learned.reset();
      entry.extent.reset();
      entry.known.clear();
      entry.loaded_before = false;
      entry.failures = entry.deaths = 0;
      if (entry.state() == InstanceState::kFailed) forget(entry);  // what failed is not what is there now
      if (entry.instance) entry.instance->outdated = true;
    }
    if (!fresh && entry.model.kind != model.kind) {
      // Whoever waits asked a model of the other kind: no load would answer that.
      reject(backlog_.take_requests(model.id),
             {.code = ErrorCode::kInvalidArgument,
              .message = fmt::format("{} turns out to be a model of kind {}, and was asked as one of kind {}",
                                     model.id.str(), to_string(model.kind), to_string(entry.model.kind)),
              .reason = "wrong_model_kind",
              .fields = {{"param", "model"}},
              .retry_after = {}});
    }
    if (!same || (entry.model.problem && !model.problem)) entry.refused.reset();
    entry.model = model;
    entry.listed = true;
  }
  for (auto& [id, entry] : entries_) {
    if (entry.listed) continue;
    const Error gone{.code = ErrorCode::kNotFound,
                     .message = fmt::format("{} is no longer configured", told_as(entry).str()),
                     .reason = "model_not_found",
                     .fields = {},
                     .retry_after = {}};
    reject_waiters(entry, gone);
    if (entry.is_seat()) leave_server(entry);
    if (const Entry* seat = seat_of(entry); seat != nullptr && seat != &entry)
      reject(backlog_.take_named(seat->model.id, id), gone);
    if (entry.instance) entry.instance->outdated = true;
  }
  for (auto& [id, entry] : entries_) {
    if (const Hold* hold = hold_on(entry)) reject_waiters(entry, held_error(entry, *hold));
  }
}

void Arbiter::on(const SettingsChanged& e) {
  const bool became_exclusive = settings_.residency.mode != ResidencyMode::kExclusive &&
                                e.settings.residency.mode == ResidencyMode::kExclusive;
  settings_ = e.settings;
  devices_ = e.devices;
  lost_.clear();
  any_server_ = std::ranges::any_of(devices_, [](const Device& d) { return !d.server.empty(); });
  if (became_exclusive) part_families();
}

void Arbiter::on(const DesiredRestored& e) {
  switches_ = std::max(switches_, e.last_switch);
  for (const auto& hold : e.holds) {
    if (hold.model.empty()) {
      hold_all_ = Hold{hold.who, hold.unix_ms};
    } else if (Entry* entry = find(hold.model); entry != nullptr && !entry->model.remote) {
      entry->hold = Hold{hold.who, hold.unix_ms};
    }
  }
  for (const ModelId& model : e.pins) {
    if (Entry* entry = find(model)) entry->pinned = true;
  }
  for (auto& [id, entry] : entries_) {
    const Hold* hold = hold_on(entry);
    if (hold == nullptr) continue;
    reject_waiters(entry, held_error(entry, *hold));
    if (entry.state() == InstanceState::kReady) {
      begin_drain(entry, EndCause::kUnloaded, fmt::format("kept unloaded by {}", hold->who),
                  settings_.limits.drain_unload);
    }
  }
}

void Arbiter::on(const ShutdownBegan& e) {
  if (shutdown_) {
    shutdown_ = std::min(*shutdown_, e.deadline);
  } else {
    shutdown_ = e.deadline;
  }
  const Error error = unavailable("the daemon is shutting down", "shutting_down");
  const Duration left = std::max(Duration(), *shutdown_ - now_);
  if (switch_) close_switch(SwitchStage::kCancelled, error);
  for (auto& [id, entry] : entries_) {
    reject_waiters(entry, error);
    if (entry.is_seat() && is_charged(entry.state()) && entry.instance->leases.empty()) {
      let_go(entry);
      continue;
    }
    switch (entry.state()) {
      case InstanceState::kQueued:
      case InstanceState::kReserved:
      case InstanceState::kStandbyTaken:
      case InstanceState::kLoading:
        give_up(entry, EndCause::kShutdown, "the daemon is shutting down");
        break;
      case InstanceState::kReady:
      case InstanceState::kSleeping:
        begin_drain(entry, EndCause::kShutdown, "the daemon is shutting down", left);
        break;
      case InstanceState::kDraining:
        entry.instance->yields_turn = false;
        entry.instance->drain_deadline = std::min(entry.instance->drain_deadline, *shutdown_);
        break;
      default:
        break;
    }
  }
}

}  // namespace lm::core
