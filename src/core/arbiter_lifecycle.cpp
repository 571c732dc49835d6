// The ways of one instance through its machine, and what is told on the way.
#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "core/arbiter.h"

namespace lm::core {
namespace {

// How far a prediction may be off, beside as much again as it said.
constexpr Bytes kMostMispredicted = mib(512);

// Loading again cannot help until the files or the options change.
bool is_deterministic(const Error& error) {
  return error.reason == "invalid_artifact" || error.reason == "unsupported_model" ||
         error.reason == "invalid_options";
}

}  // namespace

bool Arbiter::enter(Entry& entry, Trigger trigger) {
  Instance& instance = *entry.instance;
  if (!instance.machine.apply(trigger)) return false;
  instance.since = now_;
  last_transition_ = now_;
  any_transition_ = true;
  const InstanceState state = instance.machine.state();
  PublishState published{.instance = instance.id,
                         .model = told_as(entry),
                         .state = state,
                         .cause = instance.cause,
                         .error = {},
                         .release = {}};
  if (state == InstanceState::kFailed) published.error = instance.failure;
  if (trigger == Trigger::kReleased || trigger == Trigger::kReleasedAfterFailure)
    published.release = instance.report;
  emit(std::move(published));
  return true;
}

void Arbiter::begin(Entry& entry) {
  LM_ASSERT(!entry.instance, "a model has at most one instance");
  entry.instance.emplace();
  Instance& instance = *entry.instance;
  instance.id = InstanceId(++last_instance_);
  instance.generation = Generation(++last_generation_);
  instance.options = entry.model.load;
  instance.places = entry.model.kind == ModelKind::kGeneration && !entry.is_seat() ? 1 : 0;
  for (const Waiter& waiter : backlog_.of(entry.model.id)) instance.force = instance.force || waiter.force;
  enter(entry, Trigger::kWanted);
  if (entry.learned || entry.is_seat()) {
    // What an upstream's model takes is seen once it is there.
    instance.footprint = entry.learned.value_or(Footprint{});
    instance.for_host = entry.learned_for_host;
  } else {
    const Candidates places = candidates_of(entry);
    ask_footprint(entry, spreads(entry.model.placement.layout, entry.model.kind, places.devices.size()));
  }
}

void Arbiter::order_load(Entry& entry, const Need& need) {
  Instance& instance = *entry.instance;
  LM_ASSERT(ledger().shortage(need).empty(), "a load is ordered where there is room for it");
  instance.reserved = need.bytes;
  if (instance.plan) {
    // Of an RPC server it has all, and takes what it takes.
    for (const auto& [device, bytes] : need.bytes)
      instance.reserved.set(device, std::min(bytes, instance.plan->bytes.on(device)));
    instance.options.shares = instance.plan->shares;
    if (instance.plan->shares.size() == 1)
      instance.options.device = instance.plan->shares.front().device.str();
  } else if (!entry.is_seat() && any_card()) {
    instance.options.device = host_device().str();
  }
  instance.lacks.reset();
  instance.lacks_devices = false;
  instance.ordered_at = now_;
  instance.last_progress_at = now_;
  enter(entry, Trigger::kRoomReserved);
  decide(DecisionKind::kLoad, entry.model.id,
         fmt::format("loads, with {} reserved ({})", to_string(instance.reserved.total()),
                     to_string(instance.footprint->source)),
         {{"bytes", instance.reserved.total().count()}});
  ModelId named = entry.model.id;
  if (entry.is_seat()) named = backlog_.of(entry.model.id).front().named;
  instance.named = named;
  entry.given_up.reset();
  if (contends(entry)) {
    // Another family's change that it overtakes has not begun for it: what it began from is selected still.
    if (switch_ && !is_switching_to(entry)) close_switch(SwitchStage::kCancelled);
    const bool within_its_family = !switch_ && selected_.family == entry.model.family;
    if (within_its_family) {  // also from a model elsewhere to one here: nobody makes way
      if (selected_.model != named) instance.chosen_over = Choice{selected_.model, selected_.remote};
      selected_ = {.family = entry.model.family, .model = named, .remote = false};
    } else if (!is_chosen(entry)) {
      open_switch({.family = entry.model.family, .model = named, .remote = false}, entry.model.id,
                  wanted_by(entry));
    }
    if (is_switching_to(entry)) {
      switch_target_ = entry.model.id;  // the first one ready ends it
      tell_switch(SwitchStage::kLoading);
    }
  }
  emit(StartLoad{instance.id, instance.generation, named, instance.options, instance.reserved});
}

void Arbiter::refuse(Entry& entry, Error error) {
  error = fail_switch_to(entry, std::move(error));
  Instance& instance = *entry.instance;
  instance.cause = EndCause::kLoadFailed;
  instance.failure = error;
  instance.why = error.message;
  // Memory may be there at the next request; a file that is wrong stays wrong.
  if (!is_deterministic(error)) instance.retry_at = now_ + back_off(entry);
  decide(DecisionKind::kRefuse, entry.model.id, error.message, error.fields);
  enter(entry, Trigger::kRefused);
  reject_waiters(entry, error);
}

void Arbiter::give_up(Entry& entry, EndCause cause, std::string why) {
  Instance& instance = *entry.instance;
  leave_switch(entry);
  leave_choice(entry);
  instance.cause = cause;
  instance.why = std::move(why);
  decide(cause == EndCause::kUnloaded ? DecisionKind::kUnload : DecisionKind::kGiveUp, entry.model.id,
         instance.why);
  const bool had_order = entry.state() != InstanceState::kQueued;
  instance.drain_began = now_;
  if (had_order && entry.is_seat())
    entry.given_up = {.model = instance.named, .until = now_ + settings_.limits.load_silence};
  enter(entry, Trigger::kGivenUp);
  if (had_order) {
    stop(entry);
  } else {
    finish_unload_part(entry, nullptr);
    entry.instance.reset();
  }
}

void Arbiter::fail_load(Entry& entry, Error error) {
  Instance& instance = *entry.instance;
  if (entry.is_seat()) note_refusal(instance.named, error);
  error = fail_switch_to(entry, std::move(error));
  instance.cause = EndCause::kLoadFailed;
  instance.why = error.message;
  instance.failure = error;
  instance.drain_began = now_;
  decide(DecisionKind::kFail, entry.model.id, error.message, error.fields);
  enter(entry, Trigger::kLoadFailed);
  if (entry.is_seat()) {
    // Of its upstream's other models it says nothing: whoever waits for those waits for the next load.
    reject(backlog_.take_named(entry.model.id, instance.named), error);
  } else {
    ++entry.failures;
    reject_waiters(entry, error);
  }
  stop(entry);
}

// A load that holds far more than was reserved for it, and more than there is, takes what others were
// promised: it is ended. One that was merely predicted badly and has room is let be.
void Arbiter::end_runaways() {
  for (auto& [id, entry] : entries_) {
    const bool loads =
        entry.state() == InstanceState::kStandbyTaken || entry.state() == InstanceState::kLoading;
    if (!loads || entry.is_seat()) continue;
    const Instance& instance = *entry.instance;
    for (const auto& [device, held] : instance.held) {
      const Bytes reserved = instance.reserved.on(device);
      if (held <= reserved + reserved + kMostMispredicted || ledger().available(device) >= Bytes()) continue;
      fail_load(
          entry,
          {.code = ErrorCode::kResourceExhausted,
           .message = fmt::format("{} took {} of {} while it loaded, where {} had been reserved for it",
                                  id.str(), to_string(held), device.str(), to_string(reserved)),
           .reason = "insufficient_memory",
           .fields = {{"device", device.str()}, {"needed", held.count()}, {"reserved", reserved.count()}},
           .retry_after = {}});
      break;
    }
  }
}

void Arbiter::begin_drain(Entry& entry, EndCause cause, std::string why, Duration limit) {
  LM_ASSERT(cause != EndCause::kEvicted || !entry.is_pinned(), "the pinned are not evicted");
  Instance& instance = *entry.instance;
  instance.cause = cause;
  instance.why = std::move(why);
  instance.drain_began = now_;
  instance.drain_deadline = now_ + limit;
  const DecisionKind kind = cause == EndCause::kEvicted    ? DecisionKind::kEvict
                            : cause == EndCause::kSwitched ? DecisionKind::kSwitch
                            : cause == EndCause::kExpired  ? DecisionKind::kExpire
                                                           : DecisionKind::kUnload;
  decide(kind, entry.model.id, instance.why, {{"bytes", instance.held.total().count()}});
  enter(entry, Trigger::kDrainBegan);
  emit(BeginDrain{instance.id, entry.model.id, cause});
}

void Arbiter::end_turn(Entry& entry, EndCause cause, std::string why) {
  begin_drain(entry, cause, std::move(why), settings_.limits.drain_evict);
  entry.instance->yields_turn = true;
}

// The machine is in Stopping: the worker is told to end.
void Arbiter::stop(Entry& entry) {
  Instance& instance = *entry.instance;
  for (const auto& [device, bytes] : free_) instance.free_before.set(device, bytes);
  if (!entry.is_seat()) {
    instance.watchdog_at = now_ + settings_.limits.stop_grace + std::chrono::seconds(10);
    return emit(StopInstance{instance.id, instance.generation, settings_.limits.stop_grace});
  }
  if (shutdown_) return let_go(entry);  // others' models outlive us
  instance.watchdog_at = now_ + settings_.limits.yield + std::chrono::seconds(10);
  emit(EvictUpstream{instance.id, instance.generation, entry.upstream->id, settings_.limits.yield});
}

void Arbiter::await_release(Entry& entry) {
  Instance& instance = *entry.instance;
  enter(entry, Trigger::kWorkerExited);
  instance.release_deadline = now_ + settings_.limits.release_cap;
  instance.measure_at = now_;
  instance.measure_gap = std::chrono::milliseconds(5);
  measure(entry);
}

// Asks for the next measurement of what a gone worker, or an upstream that has yielded, still holds.
void Arbiter::measure(Entry& entry) {
  const Instance& instance = *entry.instance;
  emit(MeasureRelease{instance.id, instance.generation, entry.upstream ? entry.upstream->id : UpstreamId(),
                      DeviceBytes::max(instance.reserved, instance.held), instance.measure_at});
}

void Arbiter::measure_again(Entry& entry) {
  Instance& instance = *entry.instance;
  instance.measure_gap = std::min<Duration>(instance.measure_gap * 2, std::chrono::milliseconds(250));
  instance.measure_at = now_ + instance.measure_gap;
  measure(entry);
}

// The last word is that nothing could be measured: what was seen before that stands, and where nothing was
// ever seen, all of it counts as held.
void Arbiter::claim_nothing(Entry& entry) {
  Instance& instance = *entry.instance;
  ReleaseReport& report = instance.report;
  report.took = now_ - instance.drain_began;
  if (!report.method.empty()) return;
  report.method = ReleaseReport::kNotMeasured;
  for (const auto& [device, bytes] : DeviceBytes::max(instance.held, instance.reserved)) {
    ReleaseReport::Row row;
    row.device = device;
    row.before = row.after = row.residual = instance.held.on(device);
    row.expected = instance.reserved.on(device);
    row.device_free_before = instance.free_before.on(device);
    report.devices.push_back(std::move(row));
  }
  report.before = report.after = report.residual = instance.held.total();
  report.expected = instance.reserved.total();
  report.reclaimable = instance.reclaimable;
  report.outcome = report.residual > Bytes() ? ReleaseOutcome::kClings : ReleaseOutcome::kUnknown;
}

void Arbiter::reclaimed(Entry& entry) {
  Instance& instance = *entry.instance;
  const ReleaseReport report = instance.report;
  if (report.outcome == ReleaseOutcome::kUnknown) {
    decide(DecisionKind::kRelease, entry.model.id,
           "what it held cannot be measured: nothing is claimed to be free",
           {{"before", report.before.count()}});
  } else if (report.proved()) {
    decide(DecisionKind::kRelease, entry.model.id, fmt::format("{} came back", to_string(report.freed)),
           {{"freed", report.freed.count()}, {"before", report.before.count()}});
  } else {
    std::string who;
    for (const Holder& holder : report.holders)
      who += fmt::format("{}{} ({}) {}", who.empty() ? "" : ", ", holder.name, holder.pid,
                         to_string(holder.bytes));
    decide(DecisionKind::kRelease, entry.model.id,
           fmt::format("{} of {} did not come back within {:.1f} s; held by {}", to_string(report.residual),
                       to_string(report.before), seconds(settings_.limits.release_cap),
                       who.empty() ? "nobody that can be seen" : who),
           {{"residual", report.residual.count()}});
  }
  // What did not come back is somebody else's from now on, until the next measurement says more.
  for (const ReleaseReport::Row& row : report.devices) external_.add(row.device, row.residual);
  note_release(entry, report);
  instance.reserved = {};
  instance.held = {};
  if (!instance.failure) {
    enter(entry, Trigger::kReleased);
    finish_unload_part(entry, &report);
    entry.instance.reset();
    return;
  }
  const Error failure = *instance.failure;
  // What failed at a seat was one of its upstream's models, which has a back-off of its own.
  const bool again = entry.is_seat() || !is_deterministic(failure);
  const Duration wait = entry.is_seat() ? Duration() : back_off(entry);
  if (again) instance.retry_at = now_ + wait;
  enter(entry, Trigger::kReleasedAfterFailure);
  finish_unload_part(entry, &report);
  // Whoever came while it ended waits for the next life, unless that is not to begin now. Somebody who loads
  // explicitly insists.
  if ((!again || wait > Duration()) && !backlog_.has_job(entry.model.id)) {
    Error error = failure;
    if (again) error.retry_after = wait;
    reject_waiters(entry, error);
  }
}

// How long a model that failed so often is left alone; after what is allowed the time doubles. Whoever asks
// next may try again at once after the first failed load. A worker that served and died is no reason to think
// that the next load fails, unless it dies over and over and nobody gets an answer.
Duration Arbiter::back_off(const Entry& entry) const {
  return std::max(pause_after(entry.failures - 1), pause_after(entry.deaths - 3));
}

Duration Arbiter::pause_after(int failures) const {
  if (failures <= 0) return Duration();
  return std::min(settings_.limits.retry_most,
                  settings_.limits.retry_first * (1 << std::min(failures - 1, 16)));
}

void Arbiter::forget(Entry& entry) {
  enter(entry, Trigger::kRetryDue);
  entry.instance.reset();
}

void Arbiter::reject(const std::vector<Waiter>& waiters, const Error& error) {
  for (const Waiter& waiter : waiters) {
    switch (waiter.kind) {
      case Waiter::Kind::kRequest:
        emit(RejectRequest{waiter.request, error});
        break;
      case Waiter::Kind::kJob:
        emit(FinishJob{waiter.job, error, {}});
        break;
      case Waiter::Kind::kPin:
        break;  // wants again by itself
    }
  }
}

void Arbiter::reject_waiters(Entry& entry, const Error& error) {
  reject(backlog_.take_all(entry.model.id), error);
}

// A worker outlives being killed, as one does whose driver hangs. Its memory stays charged; whoever waits for
// its end is told.
void Arbiter::give_up_ending(Entry& entry) {
  const Instance& instance = *entry.instance;
  const Error error{
      .code = ErrorCode::kDeadlineExceeded,
      .message = fmt::format("{} was told to end and killed, and its worker (process {}) is still "
                             "there: its memory counts as held until it ends",
                             entry.model.id.str(), instance.pid),
      .reason = "worker_not_ended",
      .fields = {{"pid", instance.pid}},
      .retry_after = {}};
  for (const JobId id : std::exchange(entry.instance->unload_jobs, {})) {
    if (unload_jobs_.erase(id) > 0) emit(FinishJob{id, error, {}});
  }
  if (is_leaving() && instance.cause == EndCause::kSwitched) close_switch(SwitchStage::kFailed, error);
}

void Arbiter::finish_unload_part(Entry& entry, const ReleaseReport* report) {
  for (const JobId id : std::exchange(entry.instance->unload_jobs, {})) {
    const auto it = unload_jobs_.find(id);
    if (it == unload_jobs_.end()) continue;
    UnloadJob& job = it->second;
    if (report != nullptr)
      job.result.release = job.result.release ? merge(*job.result.release, *report) : *report;
    job.pending.erase(entry.instance->id);
    if (!job.pending.empty()) continue;
    emit(FinishJob{id, std::nullopt, std::move(job.result)});
    unload_jobs_.erase(it);
  }
}

}  // namespace lm::core
