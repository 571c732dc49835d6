// simulate: no daemon is asked; the arbiter is the daemon's, time is not.
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/simulation_tables.h"
#include "os/file.h"
#include "simulate/run.h"

namespace lm::cli {
namespace {

// A trace of ten million requests.
constexpr std::size_t kLargestTrace = std::size_t{1} << 30;
constexpr double kMostRequests = 1e7;

Result<simulate::Workload> workload_of(const SimulateOptions& options) {
  if (!options.trace.empty()) {
    LM_TRY(const std::string text, os::read_file(options.trace, kLargestTrace));
    return simulate::read_trace(text, options.trace.string());
  }
  const SimulateOptions::Synthetic& s = options.synthetic;
  if (const double wanted = s.rate * seconds(s.span); wanted > kMostRequests)
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("{:.3g} requests are too many, {:.0f} million at most: a lower --rate or a shorter "
                    "--duration",
                    wanted, kMostRequests / 1e6),
        "usage");
  simulate::Workload made = simulate::synthesize({.rate = s.rate,
                                                  .service = s.service,
                                                  .models = s.models,
                                                  .skew = s.skew,
                                                  .span = s.span,
                                                  .seed = s.seed});
  if (made.arrivals.empty())
    return fail(ErrorCode::kInvalidArgument,
                "nothing is asked for in that time: a higher --rate or a longer --duration", "usage");
  return made;
}

Result<simulate::Machine> machine_of(const SimulateOptions& options, const std::vector<std::string>& names) {
  simulate::Machine machine;
  if (!options.models.empty()) {
    LM_TRY(const std::string text, os::read_file(options.models));
    LM_TRY(machine, simulate::read_machine(text, options.models.string()));
  }
  if (options.memory) machine.devices.front().memory = *options.memory;
  LM_TRY(machine, simulate::with_models(std::move(machine), names));
  for (simulate::SimulatedModel& model : machine.models) {
    if (options.slots) model.slots = *options.slots;
    if (options.swap) {
      model.load = *options.swap;
      model.unload = Duration();
    }
  }
  return machine;
}

Settings settings_of(const SimulateOptions& options) {
  Settings settings;
  settings.residency.max_loaded = options.max_loaded;
  Settings::Scheduling& s = settings.scheduling;
  if (options.quantum_factor) s.quantum_factor = *options.quantum_factor;
  if (options.quantum_min) s.quantum_min = *options.quantum_min;
  if (options.age_cap) s.age_cap_interactive = *options.age_cap;
  if (options.drain) s.drain = *options.drain;
  if (options.queue) s.queue_per_model = s.queue_total = *options.queue;
  return settings;
}

SchedulingPolicy policy_named(std::string_view name) {
  for (const SchedulingPolicy policy :
       {SchedulingPolicy::kGated, SchedulingPolicy::kExhaustive, SchedulingPolicy::kFifo}) {
    if (to_string(policy) == name) return policy;
  }
  return SchedulingPolicy::kGated;
}

struct Simulated {
  SimulatedSetting setting;
  std::vector<SimulatedRun> runs;
};

Result<Simulated> simulated(const SimulateOptions& options) {
  LM_TRY(simulate::Workload workload, workload_of(options));
  Simulated done;
  SimulatedSetting& setting = done.setting;
  LM_TRY(setting.machine, machine_of(options, workload.models));
  setting.scale = options.scale.value_or(1);
  if (options.load) {
    const double offered = simulate::offered_load(setting.machine, workload);
    if (offered <= 0)
      return fail(
          ErrorCode::kInvalidArgument,
          workload.clients > 0
              ? "clients that ask one after the other ask for what they get: there is no load to scale to"
              : "a trace without a span or without work cannot be scaled to a load",
          "usage");
    setting.scale = *options.load / offered;
  }
  if (setting.scale != 1) workload = simulate::scaled(std::move(workload), setting.scale);
  setting.requests = workload.arrivals.size();
  setting.clients = workload.clients;
  setting.span_s = seconds(workload.span());
  setting.offered_load = simulate::offered_load(setting.machine, workload);
  setting.by_tokens = workload.by_tokens;

  std::vector<std::string> policies = options.policies;
  if (policies.empty()) policies.emplace_back(to_string(Settings().scheduling.policy));
  for (const std::string& policy : policies) {
    Settings settings = settings_of(options);
    settings.scheduling.policy = policy_named(policy);
    // The others are what peers do, and none of those sets an answer aside.
    const bool gated = settings.scheduling.policy == SchedulingPolicy::kGated;
    simulate::Machine machine = setting.machine;
    if (!gated || options.no_preemption) machine.set_aside.reset();
    const simulate::RunRecord run = simulate::run(machine, workload, settings, options.horizon);
    done.runs.push_back({.policy = policy, .outcome = simulate::figures(run, machine, workload)});
  }
  return done;
}

}  // namespace

ExitCode run(Context& context, const SimulateOptions& options) {
  const auto done = simulated(options);
  if (!done) return context.report(done.error());
  if (context.json) {
    context.out().line(boost::json::serialize(simulation_json(done->setting, done->runs)));
  } else {
    context.out().write(simulation_text(done->setting, done->runs, context.out()));
  }
  return ExitCode::kOk;
}

}  // namespace lm::cli
