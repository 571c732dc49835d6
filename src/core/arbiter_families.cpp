// One family at a time: local models, Ollama and OpenAI-compatible servers that share our devices take turns
// with them (DESIGN §4, Residency). What an upstream holds on our devices is one entry, its seat.
#include <algorithm>

#include <fmt/format.h>

#include "base/assert.h"
#include "core/arbiter.h"

namespace lm::core {
namespace {

// A request that was granted a moment ago may not have reached the upstream yet.
constexpr Duration kSettlesIn = std::chrono::seconds(3);
// The end of a server breaks its answers' connections.
constexpr Duration kAnswersBreakIn = std::chrono::seconds(2);
constexpr Duration kIntrusionsForgotten = std::chrono::minutes(5);

ModelId seat_id(const UpstreamId& upstream) {
  return ModelId("@" + upstream.str());
}

std::string names_of(const std::vector<Resident>& residents) {
  std::string names;
  for (const Resident& resident : residents) names += (names.empty() ? "" : ", ") + resident.name;
  return names.empty() ? "a model" : names;
}

}  // namespace

// ---- who stands in whose way

Entry* Arbiter::seat_of(Entry& entry) {
  return const_cast<Entry*>(std::as_const(*this).seat_of(entry));
}

const Entry* Arbiter::seat_of(const Entry& entry) const {
  if (!entry.model.remote) return &entry;
  // An embedding or rerank model belongs to no family: where it is answered it never starts a switch.
  if (entry.model.kind != ModelKind::kGeneration) return nullptr;
  const auto seat = entries_.find(seat_id(entry.model.remote->upstream));
  return seat != entries_.end() && seat->second.listed ? &seat->second : nullptr;
}

bool Arbiter::contends(const Entry& entry) const {
  return settings_.residency.mode == ResidencyMode::kExclusive &&
         entry.model.kind == ModelKind::kGeneration && (entry.is_seat() || !entry.model.remote);
}

bool Arbiter::are_rivals(const Entry& a, const Entry& b) const {
  return contends(a) && contends(b) && a.model.family != b.model.family;
}

bool Arbiter::is_chosen(const Entry& entry) const {
  return !selected_.remote && selected_.family == entry.model.family;
}

// Those of other families that are in memory, on their way there or back, or that do not give it back.
std::vector<Entry*> Arbiter::rivals_of(const Entry& entry) {
  std::vector<Entry*> rivals;
  for (auto& [id, other] : entries_) {
    if (are_rivals(entry, other) && (is_charged(other.state()) || other.stuck)) rivals.push_back(&other);
  }
  return rivals;
}

std::string Arbiter::wanted_by(const Entry& entry) const {
  for (const Waiter& waiter : backlog_.of(entry.model.id)) {
    if (waiter.kind == Waiter::Kind::kJob) return waiter.who;
    if (waiter.kind == Waiter::Kind::kRequest) return "a request";
  }
  return "its pin";
}

// ---- taking the devices

// For a load that other families stand in the way of. True where the devices are as good as its own: nobody
// overtakes it any more.
bool Arbiter::wait_for_devices(Entry& entry, const std::vector<Entry*>& rivals) {
  // One that keeps its memory is told of together with what the others gave back.
  const bool others_go = is_switching_to(entry) && std::ranges::any_of(rivals, [](const Entry* rival) {
                           return is_charged(rival->state()) && is_going(rival->state());
                         });
  for (Entry* rival : rivals) {
    if (!rival->stuck || is_charged(rival->state())) continue;
    if (others_go) return true;
    // Once in a change is enough, where its failure ends it.
    const bool asked =
        switch_target_ == entry.model.id && has_released(*rival) && !backlog_.has_pin(entry.model.id);
    if (!asked && now_ >= rival->stuck_until && rival->state() != InstanceState::kQueued) {
      ask_again(*rival);
      continue;
    }
    Error error = *rival->stuck;
    error.retry_after = std::max<Duration>(std::chrono::seconds(1), rival->stuck_until - now_);
    if (!backlog_.has_pin(entry.model.id)) {
      refuse(entry, std::move(error));
      return false;
    }
    reject(backlog_.take_requests_and_jobs(entry.model.id), error);
    tell_wait(entry, std::move(error.message));
    gate_times_.push_back(rival->stuck_until);
    return false;
  }
  Instance& instance = *entry.instance;
  if (make_way(entry, rivals)) {
    if (!instance.committed) instance.committed = now_;
    return true;
  }
  instance.lacks_devices = true;
  tell_wait(entry, fmt::format("waits for the end of the turn of {}", told_as(*rivals.front()).str()));
  const TimePoint aged_at = contender(entry).aged_at;
  if (aged_at <= now_) return true;
  gate_times_.push_back(aged_at);
  return false;
}

// Tells all rivals to go; false where their turns do not allow it yet.
bool Arbiter::make_way(Entry& entry, const std::vector<Entry*>& rivals) {
  const Contender head = contender(entry);
  const Contention contention{.oldest = head.head, .aged_at = head.aged_at};
  const Duration q = quantum();
  bool all = true;
  std::optional<TimePoint> last_close;
  for (const Entry* rival : rivals) {
    if (is_going(rival->state())) continue;
    if (is_coming(rival->state())) return false;
    const std::optional<TimePoint> from = closable_from(turn_of(*rival), contention, q);
    if (!from) return false;
    all = all && *from <= now_;
    last_close = std::max(last_close.value_or(*from), *from);
  }
  if (!all) {
    gate_times_.push_back(*last_close);
    return false;
  }
  if (!is_switching_to(entry)) {
    const auto& queue = backlog_.of(entry.model.id);
    const ModelId named = queue.empty() ? entry.model.id : queue.front().named;
    open_switch({.family = entry.model.family, .model = named, .remote = false}, entry.model.id,
                wanted_by(entry), static_cast<int>(std::ranges::count_if(rivals, [](const Entry* rival) {
                  return !is_going(rival->state()) || rival->instance->cause == EndCause::kSwitched;
                })));
  }
  for (Entry* rival : rivals) {
    if (is_going(rival->state())) continue;
    end_turn(*rival, EndCause::kSwitched,
             fmt::format("makes way for {}: {} was chosen", to_string(entry.model.family),
                         switch_->to_model.str()));
  }
  return true;
}

// Whether the change under way has its report already.
bool Arbiter::has_released(const Entry& entry) const {
  return switch_ && std::ranges::any_of(switch_->released, [&](const Switch::Release& release) {
           return release.model == told_as(entry);
         });
}

// Whether the change under way gives the devices to its family.
bool Arbiter::is_switching_to(const Entry& entry) const {
  return switch_ && !switch_target_.empty() && switch_->to == entry.model.family;
}

// Who the change was for has left: it goes on for another one of the family, or is cancelled.
void Arbiter::leave_switch(const Entry& entry) {
  if (!switch_ || switch_target_ != entry.model.id) return;
  for (const auto& [id, other] : entries_) {
    if (&other == &entry || !contends(other) || other.model.family != switch_->to) continue;
    if (!is_committed(other)) continue;
    switch_target_ = id;
    const auto& queue = backlog_.of(id);
    if (!queue.empty()) switch_->to_model = selected_.model = queue.front().named;
    return;
  }
  close_switch(SwitchStage::kCancelled);
}

// An upstream that kept its memory is told once more to give it back.
void Arbiter::ask_again(Entry& seat) {
  if (seat.state() == InstanceState::kFailed) forget(seat);
  adopt(seat);
  begin_drain(seat, EndCause::kSwitched, "asked again to give back what it kept",
              settings_.limits.drain_evict);
}

// ---- upstreams that need nothing of ours

void Arbiter::choose_remote(const Entry& entry) {
  if (settings_.residency.mode != ResidencyMode::kExclusive) return;
  if (entry.model.kind != ModelKind::kGeneration) return;
  remote_choice_ = {entry.model.id, remote_choice_ ? remote_choice_->at : now_};
}

// It holds for as long as its model is there, needs nothing of ours, and families exclude each other.
void Arbiter::drop_stale_choice() {
  if (!remote_choice_) return;
  const Entry* chosen = find(remote_choice_->model);
  if (settings_.residency.mode != ResidencyMode::kExclusive || chosen == nullptr || !chosen->listed ||
      seat_of(*chosen) != nullptr)
    remote_choice_.reset();
}

// When the local models have been idle for the linger after a remote one was chosen; empty: not foreseeable.
std::optional<TimePoint> Arbiter::linger_ends() const {
  if (!remote_choice_ || switch_) return std::nullopt;
  std::optional<TimePoint> since;
  for (const auto& [id, entry] : entries_) {
    if (!contends(entry) || entry.is_seat() || !entry.instance) continue;
    if (entry.state() == InstanceState::kFailed) continue;
    if (entry.state() != InstanceState::kReady || !entry.instance->leases.empty() || backlog_.any(id)) {
      if (is_going(entry.state()) && !backlog_.any(id)) continue;
      return std::nullopt;
    }
    since = std::max({since.value_or(remote_choice_->at), entry.instance->last_used, remote_choice_->at});
  }
  if (!since) return std::nullopt;
  return *since + settings_.residency.linger;
}

int Arbiter::ready_locals() const {
  return static_cast<int>(std::ranges::count_if(entries_, [this](const auto& item) {
    return contends(item.second) && !item.second.is_seat() && item.second.state() == InstanceState::kReady;
  }));
}

void Arbiter::leave_for_remote() {
  if (!remote_choice_ || switch_) return;
  const bool any = std::ranges::any_of(entries_, [this](const auto& item) {
    return contends(item.second) && item.second.instance && item.second.state() != InstanceState::kFailed;
  });
  const auto ends = linger_ends();
  if (any && (!ends || now_ < *ends)) return;
  const ModelId model = std::exchange(remote_choice_, std::nullopt)->model;
  const Family family = entries_.at(model).model.family;
  if (selected_.remote || (selected_.family == family && ready_locals() == 0)) {  // nobody makes way
    selected_ = {.family = family, .model = model, .remote = true};
    return;
  }
  open_switch({.family = family, .model = model, .remote = true}, ModelId(), "a request", ready_locals());
  for (auto& [id, local] : entries_) {
    if (contends(local) && !local.is_seat() && local.state() == InstanceState::kReady)
      begin_drain(local, EndCause::kSwitched,
                  fmt::format("idle for {:.0f} s while {} answers elsewhere",
                              seconds(settings_.residency.linger), model.str()),
                  settings_.limits.drain_evict);
  }
}

// Whether the local models are being released for a model elsewhere. Who wants the devices comes after that:
// its load would cancel what was chosen.
bool Arbiter::is_leaving() const {
  return switch_ && switch_->to_remote && switch_target_.empty();
}

void Arbiter::on(const SwitchWanted& e) {
  Entry* entry = find(e.model);
  const bool remote = entry != nullptr && entry->listed && seat_of(*entry) == nullptr;
  if (!remote || shutdown_ || entry->model.problem || entry->model.kind != ModelKind::kGeneration ||
      settings_.residency.mode != ResidencyMode::kExclusive) {
    if (remote && !shutdown_ && entry->model.problem) return emit(FinishJob{e.job, entry->model.problem, {}});
    return on(LoadWanted{e.job, e.model, e.who});
  }
  remote_choice_.reset();
  const auto loaded = [this](const Entry& other) {
    return contends(other) && !other.is_seat() && is_charged(other.state());
  };
  const bool any = std::ranges::any_of(entries_, [&](const auto& item) { return loaded(item.second); });
  if (selected_.remote && selected_.model == e.model && !any && !switch_)
    return emit(FinishJob{e.job, std::nullopt, {.changed = false}});
  if (selected_.family == entry->model.family && !any && !switch_) {  // nobody makes way
    selected_ = {.family = entry->model.family, .model = e.model, .remote = true};
    return emit(FinishJob{e.job, std::nullopt, {.changed = true}});
  }
  if (!(switch_ && switch_->to_remote && switch_->to_model == e.model))
    open_switch({.family = entry->model.family, .model = e.model, .remote = true}, ModelId(), e.who,
                ready_locals());
  switch_jobs_.insert(e.job);
  for (auto& [id, local] : entries_) {
    if (!loaded(local) || local.state() != InstanceState::kReady) continue;
    begin_drain(local, EndCause::kSwitched, fmt::format("{} chose {}", e.who, e.model.str()),
                settings_.limits.drain_unload);
  }
}

// ---- what upstreams show

void Arbiter::list_seat(const Upstream& upstream) {
  Entry& seat = entries_[seat_id(upstream.id)];
  if (seat.upstream && *seat.upstream != upstream) leave_server(seat);
  seat.model.id = seat_id(upstream.id);
  seat.model.family = upstream.family;
  seat.upstream = upstream;
  seat.listed = true;
}

// Another server has its name from now on, or none. The one before it cannot be asked any more: what it holds
// is a stranger's, its answers run on, and its models are nobody's selection.
void Arbiter::leave_server(Entry& seat) {
  if (is_charged(seat.state())) {
    leave_switch(seat);
    leave_choice(seat);
    for (const auto& [device, bytes] : seat.instance->held) external_.add(device, bytes);
    seat.instance->leases.clear();
    seat.instance->cause = EndCause::kUnwanted;
    decide(DecisionKind::kUnload, seat.model.id,
           fmt::format("{} is no longer asked: what it holds counts as a stranger's", seat.upstream->url));
    let_go(seat);
  } else if (seat.state() == InstanceState::kFailed) {
    forget(seat);
  }
  const bool others = std::ranges::any_of(entries_, [&](const auto& item) {
    return contends(item.second) && item.second.model.family == seat.model.family &&
           is_charged(item.second.state());
  });
  const auto is_its = [&](const ModelId& model) {
    const Entry* entry = find(model);
    return model == told_as(seat) ||
           (entry != nullptr && entry->model.remote && entry->model.remote->upstream == seat.upstream->id);
  };
  for (Selection* selection : {&selected_, &selected_before_}) {
    if (selection->remote || selection->family != seat.model.family || !is_its(selection->model)) continue;
    selection->model = ModelId();
    if (!others) *selection = {};
  }
  seat.residents.clear();
  seat.reachable = false;
  seat.runs = true;
  seat.stuck.reset();
  seat.given_up.reset();
  seat.learned.reset();
  seat.failures = seat.intrusions = 0;
}

void Arbiter::on(const UpstreamYielded& e) {
  Entry* seat = find(e.instance, e.generation);
  if (seat == nullptr || seat->state() != InstanceState::kStopping) return;
  seat->instance->yield_error = e.error;
  if (e.error) decide(DecisionKind::kFail, seat->model.id, e.error->message, e.error->fields);
  seat->instance->leases.clear();
  await_release(*seat);
}

// Whoever waited for this model of an upstream that has the devices is told.
void Arbiter::on(const UpstreamLoaded& e) {
  Entry* seat = find(e.instance, e.generation);
  if (seat == nullptr || seat->state() != InstanceState::kReady) return;  // its next load ends their wait
  if (!e.error && contends(*seat) && is_chosen(*seat)) selected_.model = e.model;
  if (e.error) {
    note_refusal(e.model, *e.error);
  } else {
    forget_refusal(e.model);
  }
  for (const Waiter& waiter : backlog_.take_jobs_named(seat->model.id, e.model))
    emit(FinishJob{waiter.job, e.error, {.changed = !e.error}});
}

void Arbiter::on(const UpstreamSeen& e) {
  Entry* seat = find(seat_id(e.upstream));
  if (seat == nullptr || !seat->listed || shutdown_) return;
  seat->residents = e.residents;
  seat->reachable = e.reachable;
  seat->runs = e.runs;
  const bool holds = seat->serves_generation();
  if (seat->stuck && !holds && e.held.empty() && e.measured) {
    decide(DecisionKind::kRelease, seat->model.id, "what it had kept came back");
    seat->stuck.reset();
    seat->failures = 0;
  }
  switch (seat->state()) {
    case InstanceState::kFailed:
      if (!holds) break;
      forget(*seat);
      adopt(*seat);
      break;
    case InstanceState::kAbsent:
      if (holds && !seat->stuck) {
        adopt(*seat);
        seat->instance->held = e.held;
        send_back_given_up(*seat);
      }
      break;
    case InstanceState::kReady: {
      Instance& instance = *seat->instance;
      instance.held = e.held;
      if (!e.runs) {
        // Who is asked for again is started again, however many ask; their answers break by themselves.
        begin_drain(*seat, EndCause::kCrashed, "its server has ended", kAnswersBreakIn);
        break;
      }
      const bool left = !e.reachable || (e.tells_residents && !holds);
      if (left && instance.leases.empty() && !backlog_.any(seat->model.id) &&
          now_ >= instance.last_used + kSettlesIn) {
        begin_drain(*seat, EndCause::kExpired,
                    e.reachable ? "its upstream unloaded it" : "its upstream cannot be reached any more",
                    settings_.limits.drain_evict);
      }
      break;
    }
    default:
      break;
  }
}

// What it has in memory is only what nobody wanted any more before it was there: that is no choice of
// anybody's.
void Arbiter::send_back_given_up(Entry& seat) {
  const auto given_up = std::exchange(seat.given_up, std::nullopt);
  if (!given_up || now_ > given_up->until || is_chosen(seat)) return;
  const Entry* model = find(given_up->model);
  const bool only_that =
      model != nullptr && model->model.remote &&
      std::ranges::all_of(seat.residents, [&](const Resident& resident) {
        return resident.kind != ModelKind::kGeneration || resident.name == model->model.remote->name;
      });
  if (!only_that) return;
  begin_drain(seat, EndCause::kUnwanted,
              fmt::format("its load of {} was given up before it ended", given_up->model.str()),
              settings_.limits.drain_evict);
}

// It was seen to hold the devices: somebody asked it directly, or it was like that when we came.
void Arbiter::adopt(Entry& seat) {
  LM_ASSERT(!seat.instance, "a seat is taken once");
  seat.instance.emplace();
  Instance& instance = *seat.instance;
  instance.id = InstanceId(++last_instance_);
  instance.generation = Generation(++last_generation_);
  instance.adopted = true;
  instance.footprint = seat.learned.value_or(Footprint{});
  instance.slots = 256;
  instance.turn_began = now_;
  instance.last_used = now_;
  instance.last_progress_at = now_;
  instance.ordered_at = now_;
  enter(seat, Trigger::kFound);
  if (!seat.residents.empty() && !seat.stuck)
    decide(DecisionKind::kLoad, seat.model.id,
           fmt::format("{} has {} in memory", told_as(seat).str(), names_of(seat.residents)));
}

// One more model of an upstream that has the devices.
void Arbiter::load_also(Entry& seat, const ModelId& model, const std::string& who) {
  decide(DecisionKind::kLoad, model, fmt::format("{} loads it: {} chose it", told_as(seat).str(), who));
  emit(LoadAtUpstream{seat.instance->id, seat.instance->generation, model});
}

// Others' models outlive us: a seat is left as it is.
void Arbiter::let_go(Entry& seat) {
  Instance& instance = *seat.instance;
  const auto pass = [&](InstanceState in, Trigger trigger) {
    if (seat.state() == in) enter(seat, trigger);
  };
  pass(InstanceState::kReady, Trigger::kDrainBegan);
  pass(InstanceState::kDraining, Trigger::kDrained);
  pass(InstanceState::kReserved, Trigger::kGivenUp);
  pass(InstanceState::kStandbyTaken, Trigger::kGivenUp);
  pass(InstanceState::kLoading, Trigger::kGivenUp);
  pass(InstanceState::kStopping, Trigger::kWorkerExited);
  instance.report.method = "none";  // nor is it asked for
  enter(seat, Trigger::kReleased);
  finish_unload_part(seat, nullptr);
  seat.instance.reset();
}

// A model of ours or a seat has given back, or not, what it held.
void Arbiter::note_release(Entry& entry, const ReleaseReport& report) {
  if (entry.is_seat()) {
    // What cannot be measured blocks nobody: whoever loads next counts on the bytes that are seen to be free.
    // Nor does who has no way to give it back: its memory is a stranger's, as it was before it was first
    // used.
    const auto& yield_error = entry.instance->yield_error;
    if (report.outcome != ReleaseOutcome::kClings || (yield_error && yield_error->reason == "cannot_yield")) {
      entry.stuck.reset();
      entry.failures = 0;
    } else {
      entry.holders = report.holders;
      std::string holders;
      for (const Holder& holder : report.holders)
        holders += fmt::format("{}{} ({}) {}", holders.empty() ? "" : ", ", holder.name, holder.pid,
                               to_string(holder.bytes));
      const Instance& instance = *entry.instance;
      const Duration pause = pause_after(++entry.failures);
      entry.stuck_until = now_ + pause;
      entry.stuck =
          Error{.code = ErrorCode::kResourceExhausted,
                .message = fmt::format(
                    "{} was asked to give its memory back and did not: {}{}", told_as(entry).str(),
                    instance.yield_error ? instance.yield_error->message
                                         : fmt::format("{} of {} is still held", to_string(report.residual),
                                                       to_string(report.before)),
                    holders.empty() ? "" : fmt::format("; held by {}", holders)),
                .reason = "upstream_not_released",
                .fields = {{"upstream", told_as(entry).str()}, {"residual", report.residual.count()}},
                .retry_after = pause};
    }
  }
  if (!switch_ || entry.instance->cause != EndCause::kSwitched) return;
  switch_->released.push_back({told_as(entry), report});
  switch_->release = switch_->release ? merge(*switch_->release, report) : report;
  tell_switch(SwitchStage::kReleased);
}

// The model that an upstream says it has in memory; its own name where it does not say, or names one we do
// not know.
ModelId Arbiter::resident_of(const Entry& seat) const {
  for (const Resident& resident : seat.residents) {
    if (resident.kind != ModelKind::kGeneration) continue;
    for (const auto& [id, entry] : entries_) {
      if (entry.model.remote && *entry.model.remote == Remote{seat.upstream->id, resident.name}) return id;
    }
  }
  return ModelId(seat.upstream->id.str());
}

// ---- what follows, at every step

void Arbiter::settle_families() {
  const bool exclusive = settings_.residency.mode == ResidencyMode::kExclusive;
  drop_stale_choice();
  if (exclusive) {
    leave_for_remote();
    meet_intruders();
  }
  if (switch_ && switch_target_.empty()) {
    const bool still = std::ranges::any_of(entries_, [](const auto& item) {
      return item.second.instance && item.second.instance->cause == EndCause::kSwitched &&
             is_going(item.second.state());
    });
    if (!still) close_switch(SwitchStage::kDone);
  }
  if (!exclusive) return;
  if (switch_) return;
  // The devices are whose models are there.
  for (auto& [id, entry] : entries_) {
    if (!contends(entry) || is_chosen(entry) || entry.state() != InstanceState::kReady) continue;
    if (!rivals_of(entry).empty()) continue;
    const bool serves = !entry.instance->leases.empty() || backlog_.any(id);
    if (selected_.remote && !serves) continue;
    const ModelId named = entry.is_seat() ? resident_of(entry) : id;
    if (selected_.family == entry.model.family) {  // from a model elsewhere to one here: nobody makes way
      selected_ = {.family = entry.model.family, .model = named, .remote = false};
      return;
    }
    open_switch({.family = entry.model.family, .model = named, .remote = false}, ModelId(),
                serves ? wanted_by(entry) : told_as(entry).str());
    close_switch(SwitchStage::kDone);
    return;
  }
}

// An upstream that took the devices by itself while another family has them. It is told to go, more and more
// rarely, unless those who have the devices have been idle for the linger: then it was chosen by somebody.
void Arbiter::meet_intruders() {
  for (auto& [id, seat] : entries_) {
    if (!is_intruder(seat)) continue;
    const auto idle = rivals_idle_since(seat);
    if (idle && *idle + settings_.residency.linger <= now_ && !switch_) {
      const std::vector<Entry*> rivals = rivals_of(seat);
      open_switch({.family = seat.model.family, .model = resident_of(seat), .remote = false}, ModelId(),
                  told_as(seat).str(), static_cast<int>(rivals.size()));
      for (Entry* rival : rivals) {
        if (rival->state() == InstanceState::kReady)
          begin_drain(*rival, EndCause::kSwitched, fmt::format("idle, and {} is in use", told_as(seat).str()),
                      settings_.limits.drain_evict);
      }
      continue;
    }
    if (now_ < seat.intruder_until && !backlog_.any(id)) continue;
    if (now_ >= seat.intruder_until + kIntrusionsForgotten) seat.intrusions = 0;
    seat.intrusions = std::min(seat.intrusions + 1, 6);
    seat.intruder_until = now_ + std::chrono::seconds(1 << seat.intrusions);
    begin_drain(seat, EndCause::kEvicted,
                fmt::format("{} has {} in memory while {} has the devices", told_as(seat).str(),
                            names_of(seat.residents), to_string(selected_.family)),
                settings_.limits.drain_evict);
  }
}

bool Arbiter::is_intruder(const Entry& entry) const {
  if (!entry.is_seat() || entry.state() != InstanceState::kReady || !entry.instance->adopted ||
      is_chosen(entry))
    return false;
  return std::ranges::any_of(entries_, [&](const auto& item) {
    return are_rivals(entry, item.second) &&
           (is_coming(item.second.state()) || item.second.state() == InstanceState::kReady);
  });
}

// Since when nobody uses those whom the intruder meets; empty: somebody does.
std::optional<TimePoint> Arbiter::rivals_idle_since(const Entry& seat) const {
  std::optional<TimePoint> since;
  for (const auto& [id, rival] : entries_) {
    if (!are_rivals(seat, rival) || !is_charged(rival.state())) continue;
    if (rival.state() != InstanceState::kReady || !rival.instance->leases.empty() || backlog_.any(id))
      return std::nullopt;
    since = std::max(since.value_or(rival.instance->last_used), rival.instance->last_used);
  }
  return since;
}

std::optional<TimePoint> Arbiter::intruder_due() const {
  std::optional<TimePoint> due;
  for (const auto& [id, seat] : entries_) {
    if (!is_intruder(seat)) continue;
    TimePoint at = seat.intruder_until;
    if (const auto idle = rivals_idle_since(seat); idle && !switch_)
      at = std::min(at, *idle + settings_.residency.linger);
    due = std::min(due.value_or(at), at);
  }
  return due;
}

// Those who were together in fit mode: the chosen family stays.
void Arbiter::part_families() {
  for (auto& [id, entry] : entries_) {
    if (!contends(entry) || !is_charged(entry.state()) || is_chosen(entry)) continue;
    entry.instance->adopted = true;
    const std::string why = "the configuration wants one family at a time";
    if (is_coming(entry.state())) {
      give_up(entry, EndCause::kUnwanted, why);
    } else if (entry.state() == InstanceState::kReady && !entry.is_seat()) {
      begin_drain(entry, EndCause::kSwitched, why, settings_.limits.drain_evict);
    }
  }
}

// ---- the change as it is told

void Arbiter::open_switch(Selection to, const ModelId& target, std::string who, int to_release) {
  if (switch_) close_switch(SwitchStage::kCancelled);
  // With a model elsewhere selected the devices are whose models are on them.
  Family from = selected_.family;
  for (const auto& [id, entry] : entries_) {
    if (selected_.remote && contends(entry) && is_charged(entry.state()) && entry.model.family != to.family)
      from = entry.model.family;
  }
  switch_ = Switch{.id = ++switches_,
                   .from = from,
                   .to = to.family,
                   .from_model = selected_.model,
                   .to_model = to.model,
                   .to_remote = to.remote,
                   .who = std::move(who),
                   .stage = SwitchStage::kBegan,
                   .to_release = to_release,
                   .loads = !target.empty(),
                   .released = {},
                   .release = {},
                   .fit_would_have_kept = {},
                   .took = {},
                   .error = {}};
  switch_target_ = target;
  switch_began_ = now_;
  selected_before_ = std::exchange(selected_, std::move(to));
  decide(DecisionKind::kSwitch, switch_->to_model,
         fmt::format("the devices change from {} to {}, chosen by {}", to_string(switch_->from),
                     to_string(switch_->to), switch_->who));
  tell_switch(SwitchStage::kBegan);
}

void Arbiter::tell_switch(SwitchStage stage) {
  switch_->stage = stage;
  switch_->took = now_ - switch_began_;
  emit(PublishSwitch{*switch_});
}

void Arbiter::close_switch(SwitchStage stage, std::optional<Error> error) {
  if (stage == SwitchStage::kDone) {
    if (switch_->release && !switch_->to_remote) {
      const Ledger books = ledger();
      const auto& rows = switch_->release->devices;
      // What never went need not be loaded again in any mode.
      if (switch_->release->freed > Bytes() && std::ranges::all_of(rows, [&](const auto& row) {
            return row.freed <= books.available(row.device);
          }))
        switch_->fit_would_have_kept = switch_->release->freed;
    }
  } else {
    selected_ = selected_before_;
  }
  switch_->error = std::move(error);
  tell_switch(stage);
  last_switch_ = std::exchange(switch_, std::nullopt);
  switch_target_ = ModelId();
  const JobResult result{.changed = true, .release = last_switch_->release, .switched = last_switch_};
  std::optional<Error> outcome = last_switch_->error;
  if (stage == SwitchStage::kCancelled && !outcome) {
    outcome = Error{.code = ErrorCode::kCancelled,
                    .message = "another model was chosen meanwhile",
                    .reason = "switch_cancelled",
                    .fields = {},
                    .retry_after = {}};
  }
  for (const JobId job : std::exchange(switch_jobs_, {})) emit(FinishJob{job, outcome, result});
}

// What could not be loaded at an upstream is left alone for a time that doubles: each try costs others their
// place. An explicit choice tries it all the same.
void Arbiter::note_refusal(const ModelId& named, const Error& error) {
  Entry* entry = find(named);
  if (entry == nullptr || !entry->model.remote) return;
  entry->refused = error;
  entry->refused_until = now_ + pause_after(++entry->failures);
}

void Arbiter::forget_refusal(const ModelId& named) {
  Entry* entry = find(named);
  if (entry == nullptr || !entry->model.remote) return;
  entry->refused.reset();
  entry->failures = 0;
}

// A load within the chosen family comes to nothing: what was selected there before it is selected again. True
// where that is so now.
bool Arbiter::leave_choice(Entry& entry) {
  const Instance& instance = *entry.instance;
  const std::optional<Choice> before = std::exchange(entry.instance->chosen_over, std::nullopt);
  if (!before) return false;
  for (auto& [id, other] : entries_) {
    if (other.instance && other.model.family == entry.model.family && other.instance->chosen_over &&
        other.instance->chosen_over->model == instance.named)
      other.instance->chosen_over = before;
  }
  Selection& selection = switch_ ? selected_before_ : selected_;
  if (selection.family != entry.model.family || selection.remote || selection.model != instance.named)
    return false;
  selection.model = before->model;
  selection.remote = before->remote;
  return !switch_;
}

// The error of a load; where it was what a switch was for, the old family is selected again, and the error
// says so. The same within a family, of what was chosen there before.
Error Arbiter::fail_switch_to(Entry& entry, Error error) {
  if (!switch_ || switch_target_ != entry.model.id) {
    if (leave_choice(entry) && !selected_.model.empty()) {
      error.message +=
          fmt::format("; {} ({}) is selected again", to_string(selected_.family), selected_.model.str());
      error.fields.emplace_back("selected", std::string(to_string(selected_.family)));
    }
    return error;
  }
  if (selected_before_.family != selected_.family || selected_before_.remote) {
    error.message +=
        fmt::format("; {}{} is selected again", to_string(selected_before_.family),
                    selected_before_.model.empty() ? "" : fmt::format(" ({})", selected_before_.model.str()));
    error.fields.emplace_back("selected", std::string(to_string(selected_before_.family)));
  }
  close_switch(SwitchStage::kFailed, error);
  return error;
}

}  // namespace lm::core
