#include "runtime/command_runner.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace lm::runtime {
namespace {

// A worker without a model: its code, its stacks, its allocator. Added to a prediction, which knows only the
// model.
constexpr Bytes kProcessOverhead = mib(12);
// Instances whose model is still asked for after their end (release reports, phases).
constexpr std::size_t kRemembered = 256;

}  // namespace

void CommandRunner::run(const Command& command) {
  std::visit([this](const auto& c) { on(c); }, command);
}

const ModelId* CommandRunner::model_of(InstanceId instance) const {
  const auto it = models_.find(instance);
  return it == models_.end() ? nullptr : &it->second;
}

// While stopping nothing begins any more: the arbiter's deadlines end what waits for it.
void CommandRunner::spawn(Task<> task) {
  seams_.gate.start(std::move(task));
}

// ---- loads

void CommandRunner::on(const PredictFootprint& c) {
  models_.insert_or_assign(c.instance, c.model);
  while (models_.size() > kRemembered) models_.erase(models_.begin());
  const Model* model = seams_.model(c.model);
  if (model == nullptr) {
    seams_.post(FootprintPredicted{c.instance, c.generation, std::nullopt,
                                   Error{.code = ErrorCode::kNotFound,
                                         .message = c.model.str() + " is no longer configured",
                                         .reason = "model_not_found",
                                         .fields = {},
                                         .retry_after = {}}});
    return;
  }
  // Room is about to be decided on: by what is free now.
  seams_.sampler.sample();
  if (auto known = c.layers ? std::nullopt
                            : seams_.records.footprint(
                                  footprint_key(model->artifact, c.options, seams_.workers.engine()))) {
    seams_.post(FootprintPredicted{c.instance, c.generation, std::move(known), std::nullopt, std::nullopt,
                                   known_of(*model, c.options)});
    return;
  }
  spawn(predict(c, model->artifact.path, known_of(*model, c.options)));
}

std::vector<Experience> CommandRunner::known_of(const Model& model, const LoadOptions& options) const {
  return seams_.records.experiences(experience_key(model.artifact, options, seams_.workers.engine()));
}

Task<> CommandRunner::predict(PredictFootprint command, std::filesystem::path path,
                              std::vector<Experience> known) {
  auto found = co_await seams_.workers.inspect(path, command.options);
  if (!found) {
    seams_.post(
        FootprintPredicted{command.instance, command.generation, std::nullopt, std::move(found).error()});
    co_return;
  }
  seams_.found_kind(path, found->kind);
  Forecast forecast = forecast_of(*std::move(found));
  Footprint footprint;
  for (const DeviceMemory& device : forecast.parts)
    footprint.bytes.add(device.device, device.weights + device.context + device.compute);
  seams_.post(FootprintPredicted{command.instance, command.generation, std::move(footprint), std::nullopt,
                                 std::move(forecast.extent), std::move(known)});
}

Forecast CommandRunner::forecast_of(backend::Inspection found) {
  Forecast forecast{.parts = std::move(found.predicted), .extent = std::move(found.extent)};
  auto host = std::ranges::find(forecast.parts, host_device(), &DeviceMemory::device);
  if (host == forecast.parts.end()) {
    host = forecast.parts.insert(host, DeviceMemory{});
    host->device = host_device();
  }
  host->compute += kProcessOverhead;
  if (forecast.extent) forecast.extent->host += kProcessOverhead;
  return forecast;
}

void CommandRunner::on(const StartLoad& c) {
  models_.insert_or_assign(c.instance, c.model);
  const Model* model = seams_.model(c.model);
  if (model == nullptr) {
    // Taken out of the configuration in this very turn. The stop that follows finds no worker and says so.
    seams_.post(LoadFailed{c.instance, c.generation,
                           Error{.code = ErrorCode::kNotFound,
                                 .message = c.model.str() + " is no longer configured",
                                 .reason = "model_not_found",
                                 .fields = {},
                                 .retry_after = {}}});
    return;
  }
  if (model->remote) return seams_.upstreams().load(c.instance, c.generation, *model);
  seams_.sampler.load_begins(c.instance);
  std::vector<Device> devices;
  for (const LayerShare& share : c.options.shares) {
    if (auto device = seams_.device(share.device)) devices.push_back(*std::move(device));
  }
  seams_.workers.load({.instance = c.instance,
                       .generation = c.generation,
                       .model = *model,
                       .options = c.options,
                       .devices = std::move(devices)});
}

void CommandRunner::on(const StopInstance& c) {
  seams_.sampler.stop_begins(c.instance);  // what it holds before, and what its device had free
  seams_.workers.stop(c.instance, c.generation, c.grace);
}

void CommandRunner::on(const MeasureRelease& c) {
  if (!c.upstream.empty()) return spawn(measure_upstream(c));
  spawn(measure_release(c));
}

Task<> CommandRunner::measure_release(MeasureRelease command) {
  const Duration wait = command.not_before - seams_.clock.now();
  if (wait > Duration()) {
    const Latch never(seams_.executor);
    co_await never.wait(wait);
  }
  seams_.post(seams_.sampler.measure_release(command.instance, command.generation, command.expected));
}

Task<> CommandRunner::measure_upstream(MeasureRelease command) {
  auto measured = co_await seams_.upstreams().measure_release(std::move(command));
  seams_.post(std::move(measured));
}

// ---- requests and jobs

void CommandRunner::on(const GrantLease& c) {
  seams_.leases.grant(c);
}
void CommandRunner::on(const TellWait& c) {
  seams_.leases.tell(c);
}
void CommandRunner::on(const RejectRequest& c) {
  seams_.leases.reject(c);
}
void CommandRunner::on(const CutRequests& c) {
  seams_.leases.cut(c);
}
void CommandRunner::on(const PreemptRequests& c) {
  seams_.leases.preempt(c);
}

void CommandRunner::on(const FinishJob& c) {
  if (const Job* job = seams_.jobs.find(c.job);
      job != nullptr && job->kind == "switch" && !c.error && !c.result.changed) {
    const Model* model = seams_.model(job->model);
    if (model != nullptr && !model->remote) log_lines({loaded_already(seams_.words())});
  }
  seams_.jobs.finish(c, seams_.clock.now());
  seams_.hub.publish(JobFinished{c.job, c.error});
}

// ---- records and news

void CommandRunner::on(const RecordFootprint& c) {
  const Model* model = seams_.model(c.model);
  if (model == nullptr) return;
  const std::string engine = seams_.workers.engine();
  const std::vector<LayerShare>& shares = c.options.shares;
  if (!shares.empty() && c.footprint.source == FootprintSource::kMeasured) {
    seams_.records.learn(experience_key(model->artifact, c.options, engine),
                         experience_of(shares, c.footprint.bytes), c.load_took);
  }
  if (shares.size() < 2)
    seams_.records.learn(footprint_key(model->artifact, c.options, engine), c.footprint, c.load_took);
}

void CommandRunner::on(const RecordDecision& c) {
  const std::int64_t now_ms = unix_time_ms();
  seams_.records.decide(c.decision, now_ms);
  if (c.decision.kind == DecisionKind::kFail) seams_.records.died(c.decision.model, c.decision.why);
  const bool is_told_otherwise = c.decision.kind == DecisionKind::kSwitch ||
                                 c.decision.kind == DecisionKind::kRelease ||
                                 c.decision.kind == DecisionKind::kLoad;
  // The error of a switch that failed is the reason of the decision that follows.
  const bool was_told = !told_failure_.empty() && std::exchange(told_failure_, {}) == c.decision.why;
  if (is_told_otherwise || was_told) {
    // The log of a switch has its own lines, the event stream and explain have these.
    log::debug("{}: {}", c.decision.model.str(), c.decision.why);
  } else if (c.decision.kind == DecisionKind::kFail || c.decision.kind == DecisionKind::kRefuse) {
    log::warning("{}: {}", c.decision.model.str(), c.decision.why);
  } else {
    log::info("{}: {}", c.decision.model.empty() ? "every local model" : c.decision.model.str(),
              c.decision.why);
  }
  seams_.hub.publish(c.decision);
}

void CommandRunner::log_lines(const std::vector<LogLine>& lines) {
  for (const LogLine& line : lines) {
    switch (line.level) {
      case LogLine::kInfo:
        log::info("{}", line.text);
        break;
      case LogLine::kWarning:
        log::warning("{}", line.text);
        break;
      case LogLine::kError:
        log::error("{}", line.text);
        break;
    }
  }
}

void CommandRunner::on(const PublishState& c) {
  if (c.release && c.cause == EndCause::kUnloaded)
    log_lines(unload_lines(c.model, *c.release, seams_.words()));
  log::debug("{} is {}", c.model.str(), to_string(c.state));
  waits_.entered(c.instance, c.state, seams_.clock.now());
  seams_.hub.publish(c);
}

void CommandRunner::on(const RecordHold& c) {
  seams_.records.hold(c);
}
void CommandRunner::on(const RecordPin& c) {
  seams_.records.pin(c);
}

void CommandRunner::on(const EvictUpstream& c) {
  seams_.upstreams().evict(c);
}

void CommandRunner::on(const LoadAtUpstream& c) {
  const Model* model = seams_.model(c.model);
  if (model != nullptr && model->remote)
    return seams_.upstreams().load_also(c.instance, c.generation, *model);
  // Taken out of the configuration in this very turn.
  seams_.post(UpstreamLoaded{c.instance, c.generation, c.model,
                             Error{.code = ErrorCode::kNotFound,
                                   .message = c.model.str() + " is no longer configured",
                                   .reason = "model_not_found",
                                   .fields = {},
                                   .retry_after = {}}});
}

void CommandRunner::on(const DropStates& c) {
  seams_.drop_states(c);
}

void CommandRunner::on(const PublishSwitch& c) {
  Switch recorded = c.change;
  const bool ended = c.change.stage == SwitchStage::kDone || c.change.stage == SwitchStage::kFailed ||
                     c.change.stage == SwitchStage::kCancelled;
  if (!ended) {
    recorded.stage = SwitchStage::kInterrupted;
    recorded.error = Error{.code = ErrorCode::kUnavailable,
                           .message =
                               "the daemon ended in the middle of this switch; what it had started "
                               "ended with it",
                           .reason = "daemon_died",
                           .fields = {},
                           .retry_after = {}};
  }
  const std::int64_t now_ms = unix_time_ms();
  seams_.records.switched(recorded.id, seams_.report_of(recorded, now_ms), now_ms, ended);
  log_lines(switch_lines(c.change, seams_.words()));
  if (c.change.stage == SwitchStage::kFailed && c.change.error) told_failure_ = c.change.error->message;
  seams_.hub.publish(c.change);
}

void CommandRunner::on(const ArmTimer&) {
  LM_ASSERT(false, "the control loop keeps the timer");
}
void CommandRunner::on(const FinishShutdown&) {
  shut_down_.open();
}

}  // namespace lm::runtime
