#include "runtime/runtime.h"

#include <algorithm>
#include <deque>
#include <map>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "base/gate.h"
#include "base/log.h"
#include "config/difference.h"
#include "os/file.h"
#include "os/orphans.h"
#include "probe/host_probe.h"
#include "runtime/command_runner.h"
#include "runtime/control_loop.h"
#include "runtime/inventory.h"
#include "runtime/memory_sampler.h"

namespace lm::runtime {
namespace {

namespace asio = boost::asio;

// What is kept free on a device for everybody else where nothing is configured.
Bytes default_headroom(const Device& device) {
  return std::min(gib(1), Bytes(device.capacity.count() / 10));
}

}  // namespace

struct Runtime::Impl {
  Impl(asio::any_io_executor e, const Clock& c, Places p, config::Loaded l, ReadConfig r)
      : executor(std::move(e)),
        clock(c),
        places(std::move(p)),
        loaded(std::move(l)),
        read_config(std::move(r)),
        hub(executor),
        jobs(executor),
        loop(executor, clock, loaded.config.settings),
        leases(
            executor, [this](Event event) { loop.post(std::move(event)); }, [this] { return clock.now(); }),
        sampler(executor, probe, [this](Event event) { loop.post(std::move(event)); }),
        gate(executor) {}

  Task<Result<void>> start() {
    LM_CO_TRY_VOID(os::make_private_folders(places.run));
    LM_CO_TRY(const auto orphans, os::reap_orphans(places.run, std::chrono::seconds(5)));
    for (const os::Orphan& orphan : orphans) {
      log::warning("a {} ({}) of an earlier daemon was still running and {}", orphan.name, orphan.process.pid,
                   orphan.ended ? "was ended" : "does not end");
    }
    LM_CO_TRY(records, Records::open(places.data));
    for (const std::string& warning : records->warnings()) log::warning("{}", warning);

    const auto listener =
        backend::Workers::Listener{.post = [this](Event event) { hear(std::move(event)); },
                                   .phases =
                                       [this](ModelId model, InstanceId instance, std::vector<Phase> phases) {
                                         on_phases(std::move(model), instance, std::move(phases));
                                       },
                                   .log = [](std::string_view line) { log::info("{}", line); }};
    workers = std::make_unique<backend::Workers>(
        executor,
        backend::WorkersOptions{.program = places.worker,
                                .run_folder = places.run,
                                .state_folder = {},
                                .log_file = places.log_file,
                                .standby = loaded.config.standby != config::Standby::kOff},
        listener, [this](os::ProcessIdentity process) { return sampler.measure(process); });
    sampler.watch(workers.get());
    runner = std::make_unique<CommandRunner>(
        CommandRunner::Seams{.executor = executor,
                             .clock = clock,
                             .post = [this](Event event) { loop.post(std::move(event)); },
                             .leases = leases,
                             .jobs = jobs,
                             .hub = hub,
                             .workers = *workers,
                             .sampler = sampler,
                             .records = *records,
                             .gate = gate,
                             .model = [this](const ModelId& id) { return catalog.find(id); }});
    loop.run_commands_with([this](const Command& command) { runner->run(command); });

    LM_CO_TRY(machine, probe.devices());
    apply(loaded.config);
    loop.post(records->desired());
    sampler.sample();
    if (auto started = co_await workers->start(); !started) co_return fail(std::move(started).error());
    run(sampler.keep_sampling());
    co_return Result<void>();
  }

  void run(Task<> task) {
    if (auto hold = gate.enter()) {
      asio::co_spawn(
          executor,
          [](Task<> work, Gate::Hold) -> Task<> { co_await std::move(work); }(std::move(task),
                                                                              std::move(*hold)),
          asio::detached);
    }
  }

  // Everything that workers tell passes here on its way to the arbiter, so that listeners see progress too.
  void hear(Event event) {
    if (const auto* progress = std::get_if<LoadProgressed>(&event)) {
      if (const ModelId* model = runner->model_of(progress->instance)) {
        hub.publish(Progress{*model, progress->instance, progress->stage, progress->fraction});
      }
    }
    const bool loaded_now = std::holds_alternative<LoadSucceeded>(event);
    loop.post(std::move(event));
    // The engine's account reserves; what is shown as held is measured.
    if (loaded_now) sampler.sample();
  }

  // Those of the worker's load, with what it waited for in front.
  void on_phases(ModelId model, InstanceId instance, std::vector<Phase> load) {
    std::vector<Phase> phases = runner->waits_of(instance);
    phases.insert(phases.end(), std::make_move_iterator(load.begin()), std::make_move_iterator(load.end()));
    last_phases[instance] = phases;
    while (last_phases.size() > 256) last_phases.erase(last_phases.begin());
    hub.publish(PhasesMeasured{std::move(model), instance, std::move(phases)});
  }

  // The configuration's word about models, devices and policy.
  void apply(const config::Config& config) {
    Inventory inventory = take_inventory(config, places.model_folders);
    warnings = inventory.warnings;
    for (const config::Warning& warning : loaded.warnings) warnings.push_back(config::to_string(warning));
    std::vector<Device> devices = machine;
    for (Device& device : devices) {
      const auto entry = config.devices.find(device.id.str());
      const bool named = entry != config.devices.end();
      device.headroom = named && entry->second.headroom ? *entry->second.headroom : default_headroom(device);
      if (named) device.limit = entry->second.limit;
    }
    for (Model& model : inventory.models) {
      const bool wants_card =
          model.load.device != "auto" && model.load.device != "host" && model.load.device != "cpu";
      const bool has_card =
          std::ranges::any_of(devices, [](const Device& d) { return d.kind != DeviceKind::kHost; });
      if (!wants_card || has_card) continue;
      warnings.push_back(
          fmt::format("{}: device {} is not there; it runs on the host", model.id.str(), model.load.device));
      model.load.device = "auto";
    }
    for (const std::string& warning : warnings) log::warning("{}", warning);
    for (const Model& model : inventory.models) {
      if (model.problem) log::warning("{} cannot be loaded: {}", model.id.str(), model.problem->message);
    }
    catalog = Catalog(inventory.models, inventory.roles);
    loop.post(SettingsChanged{config.settings, std::move(devices)});
    loop.post(ModelsChanged{std::move(inventory.models)});
  }

  JobId open_job(std::string kind, const std::optional<ModelId>& model) {
    return jobs.open(std::move(kind), model.value_or(ModelId()), clock.now());
  }

  asio::any_io_executor executor;
  const Clock& clock;
  Places places;
  config::Loaded loaded;
  ReadConfig read_config;
  std::vector<std::string> warnings;
  std::vector<Device> machine;
  Catalog catalog;
  EventHub hub;
  Jobs jobs;
  probe::HostProbe probe;
  ControlLoop loop;
  Leases leases;
  MemorySampler sampler;
  Gate gate;
  std::unique_ptr<Records> records;
  std::unique_ptr<backend::Workers> workers;
  std::unique_ptr<CommandRunner> runner;
  std::map<InstanceId, std::vector<Phase>> last_phases;
};

Runtime::Runtime(asio::any_io_executor executor, const Clock& clock, Places places, config::Loaded config,
                 ReadConfig read_config)
    : impl_(std::make_unique<Impl>(std::move(executor), clock, std::move(places), std::move(config),
                                   std::move(read_config))) {}

Runtime::~Runtime() = default;

Task<Result<void>> Runtime::start() {
  return impl_->start();
}

Task<void> Runtime::stop(Duration drain) {
  Impl& impl = *impl_;
  if (impl.runner == nullptr) co_return;
  impl.loop.post(ShutdownBegan{impl.clock.now() + drain});
  // The arbiter's own deadlines end the drain; what is added is for workers that die hard.
  const Latch finished = impl.runner->shut_down();
  if (!co_await finished.wait(drain + std::chrono::seconds(8)))
    log::warning("some models did not end in time; their workers are killed");
  impl.sampler.stop();
  co_await impl.workers->shut_down(std::chrono::milliseconds(500));
  impl.gate.close();
  co_await impl.gate.wait_empty(std::chrono::seconds(5));
}

void Runtime::stop_at_once() {
  if (impl_->runner) impl_->loop.post(ShutdownBegan{impl_->clock.now()});
}

TimePoint Runtime::now() const {
  return impl_->clock.now();
}
Snapshot Runtime::snapshot() const {
  return impl_->loop.snapshot();
}
const Catalog& Runtime::catalog() const {
  return impl_->catalog;
}
const config::Loaded& Runtime::config() const {
  return impl_->loaded;
}
const Places& Runtime::places() const {
  return impl_->places;
}
std::string Runtime::engine() const {
  return impl_->workers ? impl_->workers->engine() : std::string();
}
EventHub& Runtime::events() {
  return impl_->hub;
}
Jobs& Runtime::jobs() {
  return impl_->jobs;
}

Leases::Ticket Runtime::ask(Leases::Wish wish) {
  return impl_->leases.ask(std::move(wish));
}
std::shared_ptr<http::Client> Runtime::worker(InstanceId instance) const {
  return impl_->workers->client(instance);
}
std::optional<backend::WorkerReport> Runtime::report(InstanceId instance) const {
  return impl_->workers->report(instance);
}

std::string Runtime::waiting_note(const ModelId& model) const {
  const Snapshot view = snapshot();
  const auto it = std::ranges::find(view.models, model, [](const ModelView& v) { return v.model.id; });
  if (it == view.models.end() || !it->instance) return model.str() + " waits";
  const InstanceView& instance = *it->instance;
  if (instance.state == InstanceState::kLoading) {
    return fmt::format("{} is loading: {} {:.0f} %", model.str(), to_string(instance.stage),
                       100 * instance.fraction);
  }
  if (instance.state == InstanceState::kReady)
    return fmt::format("{} is busy: {} of {} slots answer, {} wait", model.str(), instance.active,
                       instance.slots, instance.waiting);
  return fmt::format("{} is {}", model.str(), to_string(instance.state));
}

JobId Runtime::load(ModelId model, std::string who, bool force) {
  const JobId job = impl_->open_job("load", model);
  impl_->loop.post(LoadWanted{job, std::move(model), std::move(who), force});
  return job;
}

JobId Runtime::unload(std::optional<ModelId> model, std::string who, bool hold) {
  const JobId job = impl_->open_job("unload", model);
  impl_->loop.post(UnloadWanted{job, std::move(model), std::move(who), hold, unix_time_ms()});
  return job;
}

JobId Runtime::pin(ModelId model, bool pinned) {
  const JobId job = impl_->open_job(pinned ? "pin" : "unpin", model);
  impl_->loop.post(PinChanged{job, std::move(model), pinned});
  return job;
}

void Runtime::abandon(JobId job) {
  impl_->loop.post(JobAbandoned{job});
  impl_->jobs.abandon(job);
}

Task<Result<backend::Inspection>> Runtime::inspect(std::filesystem::path path) {
  return impl_->workers->inspect(std::move(path), LoadOptions());
}

std::vector<StoredDecision> Runtime::decisions(std::string_view model, std::size_t limit) const {
  return impl_->records->decisions(model, limit);
}
std::vector<DeviceReading> Runtime::readings() const {
  return impl_->sampler.readings();
}

std::vector<Phase> Runtime::phases(InstanceId instance) const {
  const auto it = impl_->last_phases.find(instance);
  return it == impl_->last_phases.end() ? std::vector<Phase>() : it->second;
}

Result<ConfigReloaded> Runtime::reload() {
  LM_TRY(config::Loaded fresh, impl_->read_config());
  ConfigReloaded news;
  for (const config::Change& change : config::diff(impl_->loaded.config, fresh.config))
    news.changes.push_back(config::to_string(change));
  impl_->loaded = std::move(fresh);
  impl_->apply(impl_->loaded.config);
  news.warnings = impl_->warnings;
  impl_->hub.publish(news);
  return news;
}

const std::vector<std::string>& Runtime::warnings() const {
  return impl_->warnings;
}

}  // namespace lm::runtime
