#include "runtime/runtime.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "backend/upstreams.h"
#include "base/assert.h"
#include "base/gate.h"
#include "base/log.h"
#include "config/difference.h"
#include "config/nearest.h"
#include "core/placement.h"
#include "os/file.h"
#include "os/orphans.h"
#include "probe/machine_probe.h"
#include "runtime/command_runner.h"
#include "runtime/control_loop.h"
#include "runtime/event_log.h"
#include "runtime/idle_checkpoints.h"
#include "runtime/local_models.h"
#include "runtime/memory_sampler.h"
#include "runtime/remote_devices.h"
#include "runtime/roles.h"
#include "runtime/upstream_list.h"

namespace lm::runtime {
namespace {

namespace asio = boost::asio;

// A measurement that a decision may be based on.
constexpr Duration kFresh = std::chrono::milliseconds(200);

// What is kept free on a device for everybody else where nothing is configured.
Bytes default_headroom(const Device& device) {
  return std::min(gib(1), Bytes(device.capacity.count() / 10));
}

// How often RPC servers that are away are looked for.
// Cards that the engine names as our probes do. Vulkan's names are its own: what it uses is not measured
// here.
bool can_use(std::string_view variant, DeviceKind kind) {
  return kind == DeviceKind::kHost || (kind == DeviceKind::kCuda && variant == "cuda");
}

constexpr Duration kLookAgain = std::chrono::seconds(30);

// How often imports are looked through for what nobody names any more.
constexpr Duration kCleanEvery = std::chrono::hours(24);

// How long a request waits for a look into its model's file; the look has its own limit.
constexpr Duration kKindLimit = std::chrono::seconds(12);

// How long the end of the daemon waits for conversations to be moved to disk.
constexpr Duration kKeepLimit = std::chrono::seconds(5);

}  // namespace

struct Runtime::Impl {
  Impl(asio::any_io_executor e, const Clock& c, Places p, config::Loaded l, ReadConfig r)
      : executor(std::move(e)),
        clock(c),
        places(std::move(p)),
        loaded(std::move(l)),
        read_config(std::move(r)),
        remote(
            [this](std::vector<std::string> servers) { return workers->list_devices(std::move(servers)); }),
        stopping(executor),
        hub(executor),
        jobs(executor),
        probe({.root = "/", .nvml = places.nvml, .visible_cuda = places.visible_cuda}),
        loop(executor, clock, loaded.config.settings),
        leases(
            executor, [this](Event event) { on_request(std::move(event)); }, [this] { return clock.now(); }),
        sampler(executor, probe, [this](Event event) { loop.post(std::move(event)); }),
        gate(executor),
        keeper({.executor = executor,
                .post = [this](Event event) { loop.post(std::move(event)); },
                .engine = [this] { return workers ? workers->engine() : std::string(); },
                .unix_ms = [] { return unix_time_ms(); }}),
        checkpoints({.executor = executor,
                     .begin = [this](InstanceId instance) { workers->checkpoint(instance); },
                     .cancel = [this](InstanceId instance) { workers->cancel_checkpoint(instance); }},
                    loaded.config.state.checkpoint_idle),
        local({.executor = executor,
               .clock = clock,
               .hub = hub,
               .importer = places.importer,
               .imports = places.imports,
               .run = [this](Task<> task) { run(std::move(task)); },
               .is_stopping = [this] { return stopping.is_open(); },
               .model = [this](const ModelId& id) { return catalog.find(id); },
               .model_of = [this](InstanceId instance) { return runner->model_of(instance); },
               .pulled_checkpoints = [this] { return records->pulled_checkpoints(); },
               .pull =
                   [this](const std::string& source, std::string who) {
                     return pulls->start(source, folder_of_pulls(loaded.config), std::move(who));
                   },
               .find_pull = [this](std::uint64_t id) { return pulls->find(id); },
               .open_import_job = [this](const ModelId& model) { return open_job("import", model); },
               .finish_job =
                   [this](JobId job, std::optional<Error> error) {
                     runner->run(FinishJob{job, std::move(error), {}});
                   },
               .discard = [this](const Aside& aside) { pulls->discard(aside); },
               .look_again = [this] { apply(loaded.config); },
               .found_others = [this] { tell_rescan(); },
               .kind_in =
                   [this](const std::filesystem::path& file) {
                     return records->kind_in(fingerprint_of(file));
                   }}) {}

  Task<Result<void>> start() {
    LM_CO_TRY_VOID(os::make_private_folders(places.run));
    if (!places.recording.empty()) {
      LM_CO_TRY(event_log, EventLog::open(places.recording));
      loop.record_with([this](const Event& event, TimePoint at) { event_log->record(event, at); });
      log::info("every event is recorded in {}", places.recording.string());
    }
    LM_CO_TRY(const auto orphans, os::reap_orphans(places.run, std::chrono::seconds(5)));
    for (const os::Orphan& orphan : orphans) {
      log::warning("a {} ({}) of an earlier daemon was still running and {}", orphan.name, orphan.process.pid,
                   orphan.ended ? "was ended" : "does not end");
    }
    LM_CO_TRY(records, Records::open(places.data));
    for (const std::string& warning : records->warnings()) log::warning("{}", warning);

    const auto listener = backend::Workers::Listener{
        .post = [this](Event event) { hear(std::move(event)); },
        .phases =
            [this](ModelId model, InstanceId instance, std::vector<Phase> phases) {
              on_phases(std::move(model), instance, std::move(phases));
            },
        .saved = [this](InstanceId instance, Duration took) { runner->saved(instance, took); },
        .log = [](std::string_view line) { log::info("{}", line); }};
    workers = std::make_unique<backend::Workers>(
        executor,
        backend::WorkersOptions{.program = places.worker,
                                .run_folder = places.run,
                                .log_file = places.log_file,
                                .standby = loaded.config.standby != config::Standby::kOff,
                                .standby_opens_devices = loaded.config.standby == config::Standby::kDevice},
        listener, [this](os::ProcessIdentity process) { return sampler.measure(process); }, &keeper);
    sampler.watch(workers.get());
    runner = std::make_unique<CommandRunner>(CommandRunner::Seams{
        .executor = executor,
        .clock = clock,
        .post =
            [this](Event event) {
              local.look_for_refusal(event);
              loop.post(std::move(event));
            },
        .leases = leases,
        .jobs = jobs,
        .hub = hub,
        .workers = *workers,
        .upstreams = [this]() -> backend::Upstreams& { return *upstreams; },
        .sampler = sampler,
        .records = *records,
        .gate = gate,
        .model = [this](const ModelId& id) { return catalog.find(id); },
        .device = [this](const DeviceId& id) -> std::optional<Device> {
          for (Device& device : all_devices()) {
            if (device.id == id) return std::move(device);
          }
          return std::nullopt;
        },
        .report_of = report_of,
        .words = [this] { return words(); },
        .drop_states = [this](const DropStates& c) { keeper.give_back(c.bytes, c.spare); },
        .found_kind = [this](const std::filesystem::path& file, ModelKind kind) { found_kind(file, kind); }});
    loop.run_commands_with([this](const Command& command) {
      if (const auto* grant = std::get_if<GrantLease>(&command);
          grant != nullptr && workers->report(grant->instance)) {
        keeper.used(grant->instance);
        checkpoints.granted(grant->request, grant->instance);
      }
      if (const auto* preempted = std::get_if<PreemptRequests>(&command))
        keeper.preempted(preempted->instance);
      if (const auto* news = std::get_if<PublishState>(&command)) {
        if (news->state == InstanceState::kReady) {
          ready.insert(news->model);
        } else {
          ready.erase(news->model);
        }
      }
      runner->run(command);
    });

    LM_CO_TRY(machine, probe.devices());
    // Where models go depends on what the engine was built for, which its first worker says.
    if (auto started = co_await workers->start(); !started) co_return fail(std::move(started).error());
    remote.name(loaded.config.rpc_servers);
    co_await remote.look({});
    apply(loaded.config);
    watch_upstreams(loaded.config);
    const config::State& state = loaded.config.state;
    keeper.open({.memory = shared_memory_folder(places.data),
                 .disk = places.data / "states",
                 .memory_budget = state.memory,
                 .disk_budget = state.disk});
    loop.post(records->desired());
    sampler.sample();
    run(sampler.keep_sampling());
    run(keep_looking());
    make_pulls();
    pulls->begin(places_of_files());
    local.clean();
    // Those that answer are listed from the first request on; the others are, as soon as they do.
    co_await upstreams->wait_until_seen(std::chrono::seconds(1));
    co_await local.wait_for_stores(std::chrono::seconds(1));
    co_return Result<void>();
  }

  void run(Task<> task) { gate.start(std::move(task)); }

  // Everything that requests tell passes here on its way to the arbiter.
  void on_request(Event event) {
    if (const auto* arrived = std::get_if<RequestArrived>(&event)) look_before(arrived->model);
    std::optional<RequestId> request;
    if (const auto* released = std::get_if<LeaseReleased>(&event)) request = released->request;
    if (const auto* preempted = std::get_if<RequestPreempted>(&event)) request = preempted->request;
    loop.post(std::move(event));
    if (request) checkpoints.released(*request);
  }

  // A model that may have to be loaded gets its place by what devices have now, not by what they had when
  // somebody last looked: others come and go on them.
  void look_before(const ModelId& model) {
    if (ready.contains(model)) return;
    const Model* found = catalog.find(model);
    if (found != nullptr && !found->remote) sampler.sample_if_older(kFresh);
  }

  // What failed for its file is another model once the file was replaced, or is there at last.
  void look_at_file(const Model& model) {
    if (ready.contains(model.id)) return;
    const Snapshot now = loop.snapshot();
    const auto view = std::ranges::find(now.models, model.id, [](const ModelView& v) { return v.model.id; });
    const bool failed = model.problem || (view != now.models.end() && view->state == PublishedState::kFailed);
    if (failed && fingerprint_of(model.artifact.path) != model.artifact.fingerprint) apply(loaded.config);
  }

  // Somebody has looked into a file: from now on it counts for the models that only their names told of.
  void found_kind(const std::filesystem::path& file, ModelKind kind) {
    const std::string fingerprint = fingerprint_of(file);
    if (fingerprint.empty() || records->kind_in(fingerprint) == kind) return;
    bool is_listed = false;
    std::vector<std::string> changes;
    for (const Model& model : local_models) {
      if (model.artifact.fingerprint != fingerprint) continue;
      is_listed = true;
      const ModelKind now = config::kind_by(model.kind, kind);
      if (guessed.contains(model.id) && now != model.kind)
        changes.push_back(
            fmt::format("{} is a model of kind {}, by its file", model.id.str(), to_string(now)));
    }
    if (!is_listed) return;
    records->found_kind(fingerprint, kind);
    if (changes.empty()) return;
    for (const std::string& change : changes) log::info("{}", change);
    apply(loaded.config);
    hub.publish(ConfigReloaded{std::move(changes), all_warnings()});
  }

  // Opens `done` whatever comes of it: a file that cannot be read is what its name says.
  Task<> look_for_kind(std::filesystem::path file, Latch done) {
    if (const auto found = co_await workers->inspect(file, {})) found_kind(file, found->kind);
    done.open();
  }

  // Everything that workers tell passes here on its way to the arbiter, so that listeners see progress too.
  void hear(Event event) {
    if (const auto* progress = std::get_if<LoadProgressed>(&event)) {
      if (const ModelId* model = runner->model_of(progress->instance)) {
        hub.publish(Progress{*model, progress->instance, progress->stage, progress->fraction});
      }
    }
    local.look_for_refusal(event);
    const bool loaded_now = std::holds_alternative<LoadSucceeded>(event);
    const bool lost_one = tells_of_loss(event);
    if (const auto* exited = std::get_if<WorkerExited>(&event)) checkpoints.ended(exited->instance);
    loop.post(std::move(event));
    // The engine's account reserves; what is shown as held is measured.
    if (loaded_now) sampler.sample();
    if (lost_one) run(look_again());
  }

  static bool tells_of_loss(const Event& event) {
    const auto* exited = std::get_if<WorkerExited>(&event);
    const auto* failed = std::get_if<LoadFailed>(&event);
    return (exited != nullptr && exited->error && exited->error->reason == "device_lost") ||
           (failed != nullptr && failed->error.reason == "device_lost");
  }

  // ---- devices that only the engine sees

  std::vector<Device> all_devices() const {
    std::vector<Device> all = machine;
    std::ranges::move(remote.devices(), std::back_inserter(all));
    return all;
  }

  Task<> look_again() {
    if (std::exchange(looking, true)) co_return;
    std::set<DeviceId> in_use;
    for (const DeviceView& view : loop.snapshot().devices) {
      if (view.device.usable && view.reserved > Bytes()) in_use.insert(view.device.id);
    }
    const bool changed = co_await remote.look(std::move(in_use));
    looking = false;
    if (changed) {
      for (const std::string& trouble : remote.troubles()) log::warning("RPC server {}", trouble);
    }
    // Also where nothing changed: a device that was lost in the middle of an answer is there again.
    loop.post(SettingsChanged{loaded.config.settings, configured_devices(loaded.config)});
  }

  // One that is away may come back.
  Task<> keep_looking() {
    TimePoint cleaned = clock.now();
    while (!stopping.is_open()) {
      co_await stopping.wait(kLookAgain);
      if (!stopping.is_open() && clock.now() >= cleaned + kCleanEvery) {
        cleaned = clock.now();
        local.clean();
      }
      if (!stopping.is_open() && !remote.troubles().empty()) co_await look_again();
    }
  }

  // What is there, with what the configuration says of it.
  std::vector<Device> configured_devices(const config::Config& config) const {
    std::vector<Device> devices = all_devices();
    for (Device& device : devices) {
      const auto entry = config.devices.find(device.id.str());
      const bool named = entry != config.devices.end();
      device.headroom += named && entry->second.headroom ? *entry->second.headroom : default_headroom(device);
      if (named) device.limit = entry->second.limit;
    }
    return devices;
  }

  // Those of the worker's load, with what it waited for in front.
  void on_phases(ModelId model, InstanceId instance, std::vector<Phase> load) {
    std::vector<Phase> phases = runner->waits_of(instance);
    phases.insert(phases.end(), std::make_move_iterator(load.begin()), std::make_move_iterator(load.end()));
    last_phases[instance] = phases;
    while (last_phases.size() > 256) last_phases.erase(last_phases.begin());
    hub.publish(PhasesMeasured{std::move(model), instance, std::move(phases)});
  }

  void on_first_byte(ModelId model, InstanceId instance, Duration since_grant) {
    const auto timeline = last_phases.find(instance);
    if (timeline == last_phases.end()) return;
    std::vector<Phase>& phases = timeline->second;
    const Phase first{"first_token", since_grant};
    if (!phases.empty() && phases.back().name == first.name) return;
    phases.push_back(first);
    hub.publish(PhasesMeasured{std::move(model), instance, {first}});
  }

  // The configuration's word about models, devices and policy.
  void apply(const config::Config& config) {
    std::vector<std::filesystem::path> folders = places.model_folders;
    std::error_code missing;
    if (config.model_folders.empty() && std::filesystem::is_directory(places.fetched, missing))
      folders.push_back(places.fetched);
    Inventory inventory = local.look(config, std::move(folders), {folder_of_pulls(config), places.fetched});
    warnings = inventory.warnings;
    for (const config::Warning& warning : loaded.warnings) warnings.push_back(config::to_string(warning));
    const std::string_view variant =
        std::string_view(workers->engine()).substr(workers->engine().rfind(' ') + 1);
    for (Device& device : machine) device.usable = can_use(variant, device.kind);
    std::vector<Device> devices = configured_devices(config);
    std::vector<std::string> here;
    for (const Device& device : devices) here.push_back(device.id.str());
    for (const auto& [name, entry] : config.devices) {
      if (std::ranges::find(here, name) != here.end()) continue;
      const std::string key = fmt::format("devices.{}", name);
      if (std::ranges::find(loaded.warnings, key, &config::Warning::key) != loaded.warnings.end()) continue;
      const auto meant = config::nearest(name, here);
      warnings.push_back(fmt::format("{}: this machine has no such device{}; it has {}", key,
                                     meant ? fmt::format(" (did you mean {}?)", *meant) : std::string(),
                                     fmt::join(here, ", ")));
    }
    for (const std::string& trouble : probe.troubles()) warnings.push_back("cards are not used: " + trouble);
    for (const std::string& away : remote.troubles()) warnings.push_back("RPC server " + away);
    for (const Model& model : inventory.models) {
      if (model.remote) continue;
      const auto allowed = core::candidates(model.load, model.placement, devices, workers->engine());
      if (allowed.warning) warnings.push_back(fmt::format("{}: {}", model.id.str(), *allowed.warning));
    }
    for (const std::string& warning : warnings) log::warning("{}", warning);
    for (const Model& model : inventory.models) {
      if (model.problem && !comes_when_asked(*model.problem))
        log::warning("{} cannot be loaded: {}", model.id.str(), model.problem->message);
    }
    local_models = std::move(inventory.models);
    guessed = std::move(inventory.guessed);
    roles = std::move(inventory.roles);
    loop.post(SettingsChanged{config.settings, std::move(devices)});
    list_models();
    local.begin_imports();
  }

  std::filesystem::path folder_of_pulls(const config::Config& config) const {
    return config.model_folders.empty() ? places.fetched
                                        : std::filesystem::path(config.model_folders.front());
  }

  // A wish for a model whose files are not here yet waits for them, and ends where they do not come.
  void when_provided(JobId job, const ModelId& model, const std::string& who, std::function<void()> go_on) {
    local.provide(
        model, who, [this, job] { return jobs.find(job) == nullptr; },
        [this, job, go_on = std::move(go_on)](std::optional<Error> why) {
          if (why) return runner->run(FinishJob{job, std::move(why), {}});
          go_on();
        });
  }

  static bool comes_when_asked(const Error& problem) {
    return problem.reason == "importing" || problem.reason == "not_fetched" ||
           problem.reason == "not_imported";
  }

  // Looks at the model folders again; what came and went, in words.
  std::vector<std::string> rescan() {
    const std::set<ModelId> before = local_ids();
    apply(loaded.config);
    return told_changes(before);
  }

  std::vector<std::string> told_changes(const std::set<ModelId>& before) const {
    std::vector<std::string> changes;
    const std::set<ModelId> now = local_ids();
    for (const ModelId& model : now)
      if (!before.contains(model)) changes.push_back(fmt::format("{} is there now", model.str()));
    for (const ModelId& model : before)
      if (!now.contains(model)) changes.push_back(fmt::format("{} is gone", model.str()));
    return changes;
  }

  void tell_rescan() {
    if (auto changes = rescan(); !changes.empty())
      hub.publish(ConfigReloaded{std::move(changes), all_warnings()});
  }

  void make_pulls() {
    pulls = std::make_unique<Pulls>(
        PullsSeams{.executor = executor,
                   .clock = clock,
                   // This very program, even where another one lies at its path by now.
                   .program = "/proc/self/exe",
                   .records = *records,
                   .publish = [this](const Pull& pull) { hub.publish(pull); },
                   .arrived = [this](const std::vector<std::string>& files) { return models_of(files); }});
  }

  std::vector<std::filesystem::path> folders_of_models() const {
    std::vector<std::filesystem::path> folders = places.model_folders;
    for (const std::string& folder : loaded.config.model_folders) folders.emplace_back(folder);
    return folders;
  }

  // Where pulls and removals may have left something behind.
  std::vector<std::filesystem::path> places_of_files() const {
    std::vector<std::filesystem::path> folders = folders_of_models();
    folders.push_back(places.fetched);
    folders.push_back(places.imports);
    for (const Model& model : local_models)
      if (!model.artifact.path.empty()) folders.push_back(model.artifact.path.parent_path());
    return folders;
  }

  std::vector<ModelId> models_of(const std::vector<std::string>& files) {
    tell_rescan();
    std::vector<ModelId> models;
    for (const Model& model : local_models) {
      const std::filesystem::path* checkpoint = local.checkpoint_of(model.id);
      const std::string file =
          checkpoint == nullptr ? model.artifact.path.string() : (*checkpoint / "config.json").string();
      if (std::ranges::find(files, file) != files.end()) models.push_back(model.id);
    }
    return models;
  }

  std::set<ModelId> local_ids() const {
    std::set<ModelId> ids;
    for (const Model& model : local_models) ids.insert(model.id);
    return ids;
  }

  // The servers that are not ours, as the configuration names them.
  void watch_upstreams(const config::Config& config) {
    UpstreamList list = make_upstreams(
        executor, config, places.run, [](std::string_view line) { log::info("{}", line); },
        [this](const UpstreamId& id) {
          if (upstreams) upstreams->look_at(id);
        });
    for (std::string& warning : list.warnings) {
      log::warning("{}", warning);
      warnings.push_back(std::move(warning));
    }
    const auto former = std::move(upstreams);
    upstreams = std::make_shared<backend::Upstreams>(
        executor, clock, std::move(list.servers),
        backend::Upstreams::Listener{.post = [this](Event event) { hear(std::move(event)); },
                                     .models_changed = [this] { list_models(); },
                                     .log = [](std::string_view line) { log::info("{}", line); }},
        backend::Upstreams::Probes{
            .held = [this](const std::vector<os::ProcessIdentity>& processes) { return held_by(processes); },
            .devices = [this] { return sampler.read({}).devices; }});
    if (former) {
      upstreams->take_over(*former);
      run(end_watch(former));
    }
    run(upstreams->watch());
  }

  // All that can be asked for: ours, and what upstreams were last seen to offer.
  void list_models() {
    std::vector<Model> models = local_models;
    if (upstreams) std::ranges::move(upstreams->models(), std::back_inserter(models));
    std::vector<Catalog::Unseen> unseen;
    for (const auto& trouble : upstreams ? upstreams->troubles() : std::vector<backend::Upstreams::Trouble>())
      if (trouble.offers_nothing) unseen.push_back({trouble.upstream, trouble.error.message});
    AssignedRoles all = assign_roles(roles, loaded.config.roles, Catalog(models, roles, unseen),
                                     /*upstreams_listed=*/upstreams && upstreams->all_seen());
    for (const std::string& warning : all.warnings)
      if (std::ranges::find(role_warnings, warning) == role_warnings.end()) log::warning("{}", warning);
    role_warnings = std::move(all.warnings);
    catalog = Catalog(models, std::move(all.models), std::move(unseen), std::move(all.lost));
    loop.post(ModelsChanged{std::move(models), upstreams ? upstreams->upstreams() : std::vector<Upstream>()});
  }

  config::AnswerLimits answer_limits(const std::string& upstream) const {
    const config::Config& config = loaded.config;
    if (const auto it = config.providers.find(upstream); it != config.providers.end())
      return it->second.limits;
    if (const auto it = config.commands.find(upstream); it != config.commands.end()) return it->second.limits;
    return config.ollama.limits;
  }

  std::vector<std::string> all_warnings() const {
    std::vector<std::string> all = warnings;
    all.insert(all.end(), role_warnings.begin(), role_warnings.end());
    return all;
  }

  // What a command of ours started ends with us; other upstreams are left as they are.
  Task<> end_commands() {
    for (const auto& [name, command] : loaded.config.commands) {
      const auto server = upstreams->find(UpstreamId(name));
      if (server && server->client()) co_await server->yield(std::chrono::seconds(5));
    }
  }

  static Task<> end_watch(std::shared_ptr<backend::Upstreams> former) { co_await former->stop(); }

  // Where there is a card, what an upstream keeps in the host's memory is not what it was asked to give back.
  DeviceBytes held_by(const std::vector<os::ProcessIdentity>& processes) {
    DeviceBytes sum;
    for (const ProcessReading& process : sampler.read(processes).processes) sum += process.held;
    const bool has_card =
        std::ranges::any_of(machine, [](const Device& d) { return d.kind != DeviceKind::kHost; });
    if (has_card) sum.set(host_device(), Bytes());
    return sum;
  }

  // How people's lines are written.
  SwitchWords words() const {
    return {.locale = resolve_locale(loaded.config.locale,
                                     [](const char* name) {
                                       const char* value = std::getenv(name);
                                       return std::string(value == nullptr ? "" : value);
                                     }),
            .host_only =
                std::ranges::all_of(machine, [](const Device& d) { return d.kind == DeviceKind::kHost; }),
            .roles_of =
                [this](const ModelId& model) {
                  std::vector<std::string> names = catalog.roles_of(model);
                  std::erase(names, "embedding");
                  return names;
                },
            .family_of =
                [this](const ModelId& name) {
                  const auto all = upstreams ? upstreams->upstreams() : std::vector<Upstream>();
                  const auto one =
                      std::ranges::find(all, name.str(), [](const Upstream& u) { return u.id.str(); });
                  if (one != all.end()) return one->family;
                  const Model* model = catalog.find(name);
                  return model == nullptr ? Family::kLocal : model->family;
                }};
  }

  JobId open_job(std::string kind, const std::optional<ModelId>& model) {
    return jobs.open(std::move(kind), model.value_or(ModelId()), clock.now());
  }

  asio::any_io_executor executor;
  const Clock& clock;
  Places places;
  config::Loaded loaded;
  ReadConfig read_config;
  ReportOf report_of = [](const Switch&, std::int64_t) { return std::string(); };
  std::vector<std::string> warnings;
  std::vector<std::string> role_warnings;  // changes as upstreams come and go
  std::vector<Device> machine;             // what has a probe of its own
  RemoteDevices remote;
  bool looking = false;
  bool ending = false;  // stop() was called
  Latch stopping;       // the workers have ended, or were given up
  std::vector<Model> local_models;
  std::set<ModelId> guessed;                // their kinds, by their names and files
  std::map<std::string, Latch> kind_looks;  // begun in this life, by files' fingerprints
  std::map<std::string, ModelId> roles;
  Catalog catalog;
  EventHub hub;
  Jobs jobs;
  probe::MachineProbe probe;
  std::optional<EventLog> event_log;
  ControlLoop loop;
  Leases leases;
  MemorySampler sampler;
  Gate gate;
  std::unique_ptr<Records> records;
  StateKeeper keeper;
  IdleCheckpoints checkpoints;
  LocalModels local;
  std::unique_ptr<Pulls> pulls;
  std::unique_ptr<backend::Workers> workers;
  std::shared_ptr<backend::Upstreams> upstreams;
  std::unique_ptr<CommandRunner> runner;
  std::map<InstanceId, std::vector<Phase>> last_phases;
  std::set<ModelId> ready;  // as last published
};

Runtime::Runtime(asio::any_io_executor executor, const Clock& clock, Places places, config::Loaded config,
                 ReadConfig read_config)
    : impl_(std::make_unique<Impl>(std::move(executor), clock, std::move(places), std::move(config),
                                   std::move(read_config))) {}

Runtime::~Runtime() = default;

Task<Result<void>> Runtime::start() {
  return impl_->start();
}

bool Runtime::ending() const {
  return impl_->ending;
}
Task<void> Runtime::stop(Duration drain) {
  Impl& impl = *impl_;
  impl.ending = true;
  if (impl.runner == nullptr) co_return;
  impl.local.stop();
  impl.keeper.prepare_close();
  if (impl.pulls) impl.pulls->stop();
  impl.loop.post(ShutdownBegan{impl.clock.now() + drain});
  // The arbiter's own deadlines end the drain; what is added is for workers that die hard.
  const Latch finished = impl.runner->shut_down();
  if (!co_await finished.wait(drain + std::chrono::seconds(8)))
    log::warning("some models did not end in time; their workers are killed");
  impl.sampler.stop();
  impl.stopping.open();
  co_await impl.end_commands();
  co_await impl.upstreams->stop();
  co_await impl.workers->shut_down(std::chrono::milliseconds(500));
  co_await impl.keeper.close(kKeepLimit);
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

Task<> Runtime::look_before(ModelId model, bool chosen) {
  const Model* known = impl_->catalog.find(model);
  if (known != nullptr && !known->remote) {
    impl_->local.asked(model);
    known = impl_->catalog.find(model);
    if (known != nullptr) impl_->look_at_file(*known);
    co_return;
  }
  if (known == nullptr || known->problem || !impl_->upstreams) co_return;
  const UpstreamId upstream = known->remote->upstream;
  const Snapshot now = snapshot();
  const auto view =
      std::ranges::find(now.upstreams, upstream, [](const UpstreamView& v) { return v.upstream.id; });
  const bool elsewhere = view == now.upstreams.end() || !view->upstream.shares_devices;
  if (elsewhere && !chosen) co_return;
  if (!elsewhere && view->instance && view->instance->state == InstanceState::kReady) co_return;
  const auto upstreams = impl_->upstreams;  // another one after a reload
  co_await upstreams->look_again(upstream, std::chrono::seconds(1));
}

Task<> Runtime::know_kind(ModelId id) {
  const Model* model = impl_->catalog.find(id);
  if (model == nullptr || model->problem || !impl_->guessed.contains(id)) co_return;
  const Artifact& artifact = model->artifact;
  if (artifact.fingerprint.empty() || impl_->records->kind_in(artifact.fingerprint)) co_return;
  const auto [look, is_first] = impl_->kind_looks.try_emplace(artifact.fingerprint, impl_->executor);
  const Latch done = look->second;
  if (is_first) impl_->run(impl_->look_for_kind(artifact.path, done));
  co_await done.wait(kKindLimit);
}

std::vector<backend::Upstreams::Trouble> Runtime::upstream_troubles() const {
  return impl_->upstreams ? impl_->upstreams->troubles() : std::vector<backend::Upstreams::Trouble>();
}

Leases::Ticket Runtime::ask(Leases::Wish wish) {
  return impl_->leases.ask(std::move(wish));
}
std::uint64_t Runtime::preemptions() const {
  return impl_->leases.preemptions();
}
std::shared_ptr<http::Client> Runtime::worker(InstanceId instance) const {
  return impl_->workers->client(instance);
}
std::optional<UpstreamRoute> Runtime::upstream(const ModelId& id) const {
  const Model* model = impl_->catalog.find(id);
  if (model == nullptr || !model->remote) return std::nullopt;
  const auto server = impl_->upstreams->find(model->remote->upstream);
  if (!server) return std::nullopt;
  impl_->upstreams->touch(model->remote->upstream);
  const config::AnswerLimits limits = impl_->answer_limits(model->remote->upstream.str());
  return UpstreamRoute{
      .client = server->client(),
      .prefix = server->api_prefix(),
      .headers = server->headers(),
      .name = model->remote->name,
      .timeouts = {.connect = limits.connect, .first_byte = limits.first_byte, .silence = limits.silence}};
}
std::optional<backend::WorkerReport> Runtime::report(InstanceId instance) const {
  return impl_->workers->report(instance);
}

Task<std::optional<Error>> Runtime::last_words(InstanceId instance) {
  return impl_->workers->last_words(instance);
}

void Runtime::answer_began(const Lease& lease) {
  lease.began();
  impl_->on_first_byte(lease.model(), lease.instance(), impl_->clock.now() - lease.granted_at());
}

std::string Runtime::waiting_note(const ModelId& model, RequestId request) const {
  const Snapshot view = snapshot();
  std::string note = model.str() + " waits";
  const auto it = std::ranges::find(view.models, model, [](const ModelView& v) { return v.model.id; });
  if (it != view.models.end() && it->instance) {
    const InstanceView& instance = *it->instance;
    if (instance.state == InstanceState::kLoading) {
      note = fmt::format("{} is loading: {} {:.0f} %", model.str(), to_string(instance.stage),
                         100 * instance.fraction);
    } else if (instance.state == InstanceState::kReady) {
      note = fmt::format("{} is busy: {} of {} slots answer, {} wait", model.str(), instance.active,
                         instance.slots, instance.waiting);
    } else {
      note = fmt::format("{} is {}", model.str(), to_string(instance.state));
    }
  }
  const auto wait = impl_->loop.expected_wait(request);
  if (!wait) return note;
  note += fmt::format("; position {}, about {:.0f} s", wait->position, std::ceil(seconds(wait->wait)));
  if (!wait->holder.empty() && wait->holder != model)
    note += fmt::format(": {} has the device for {:.0f} s more", wait->holder.str(),
                        std::ceil(seconds(wait->held_for)));
  return note;
}

JobId Runtime::load(ModelId model, std::string who, bool force) {
  const JobId job = impl_->open_job("load", model);
  impl_->when_provided(job, model, who, [impl = impl_.get(), job, model, who, force] {
    impl->look_before(model);
    impl->loop.post(LoadWanted{job, model, who, force});
  });
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

JobId Runtime::choose(ModelId model, std::string who) {
  const JobId job = impl_->open_job("switch", model);
  impl_->when_provided(job, model, who, [impl = impl_.get(), job, model, who] {
    impl->loop.post(SwitchWanted{job, model, who});
  });
  return job;
}

void Runtime::keep_alive(ModelId model, Duration asked) {
  impl_->loop.post(KeepAliveAsked{std::move(model), asked});
}

void Runtime::write_switches_with(ReportOf report_of) {
  impl_->report_of = std::move(report_of);
}

std::vector<std::string> Runtime::switches(std::size_t limit) const {
  return impl_->records ? impl_->records->switches(limit) : std::vector<std::string>();
}

void Runtime::abandon(JobId job) {
  impl_->loop.post(JobAbandoned{job});
  impl_->jobs.abandon(job);
}

Result<std::uint64_t> Runtime::pull(const std::string& source, std::string who) {
  return impl_->pulls->start(source, impl_->folder_of_pulls(impl_->loaded.config), std::move(who));
}

std::uint64_t Runtime::fetch_of(const ModelId& model) const {
  return impl_->local.pull_of(model);
}

Pulls& Runtime::pulls() {
  return *impl_->pulls;
}

Result<RemovedFiles> Runtime::remove(const ModelId& id, bool force) {
  const Model* model = impl_->catalog.find(id);
  if (model == nullptr || model->remote) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is no file of ours: its server has it, and removes it", id.str()),
                "not_a_file");
  }
  // Nothing runs between this look and the files' end, so no load can begin on them: that is what makes it
  // more than a glance. The arbiter hears of the model's end as of any that is not listed any more.
  const Snapshot now = snapshot();
  const auto view = std::ranges::find(now.models, id, [](const ModelView& v) { return v.model.id; });
  if (view != now.models.end() && view->instance && view->state != PublishedState::kUnloaded &&
      view->state != PublishedState::kFailed) {
    return fail(ErrorCode::kFailedPrecondition,
                fmt::format("{0} is {1}: llm-manager unload {0} first", id.str(), to_string(view->state)),
                "model_loaded");
  }
  const StoreFolders others = LocalModels::store_folders(impl_->loaded.config);
  const std::filesystem::path* checkpoint = impl_->local.checkpoint_of(id);
  const RemovalRules rules{
      .own_folder = impl_->places.fetched,
      .folders = impl_->folders_of_models(),
      .foreign_folders = {others.ollama, others.lm_studio, others.huggingface},
      .was_pulled = [this](const std::string& path) { return impl_->records->was_pulled(path); },
      .force = force};
  LM_TRY(RemovedFiles removed, checkpoint != nullptr
                                   ? put_checkpoint_aside(*checkpoint, model->artifact.path, rules)
                                   : put_aside(*model, impl_->local_models, rules));
  for (const std::string& file : removed.files) {
    log::info("{} is removed", file);
    impl_->records->forget_file(file);
  }
  impl_->tell_rescan();
  for (const Aside& aside : removed.aside) impl_->pulls->discard(aside);
  return removed;
}

Task<Result<backend::Inspection>> Runtime::inspect(std::filesystem::path path) {
  LoadOptions options;
  const auto places = core::candidates(options, {}, impl_->all_devices());
  if (!places.devices.empty()) options.device = places.devices.front().str();
  auto found = co_await impl_->workers->inspect(path, std::move(options));
  if (found) impl_->found_kind(path, found->kind);
  co_return found;
}

Task<Result<LoadPlan>> Runtime::plan(ModelId id, LoadOptions changed) {
  const Model* model = impl_->catalog.find(id);
  LM_ASSERT(model != nullptr && !model->remote, "a model of ours is planned");
  if (model->problem) co_return fail(*model->problem);
  LoadOptions options = model->load;
  if (changed.context) options.context = changed.context;
  if (changed.parallel) options.parallel = changed.parallel;
  if (changed.gpu_layers) options.gpu_layers = changed.gpu_layers;
  if (changed.batch) options.batch = changed.batch;
  if (!changed.kv_type.empty()) options.kv_type = changed.kv_type;
  LoadOptions asked = options;
  const auto places = core::candidates(options, model->placement, impl_->all_devices());
  if (!places.devices.empty()) asked.device = places.devices.front().str();
  impl_->sampler.sample_if_older(kFresh);
  const std::filesystem::path file = model->artifact.path;
  LM_CO_TRY(auto found, co_await impl_->workers->inspect(file, std::move(asked)));
  impl_->found_kind(file, found.kind);
  Forecast forecast = CommandRunner::forecast_of(std::move(found));
  // Another configuration may have come while the file was looked at.
  if (const Model* still = impl_->catalog.find(id)) forecast.known = impl_->runner->known_of(*still, options);
  co_return impl_->loop.plan(id, options, forecast);
}

std::vector<StoredDecision> Runtime::decisions(std::string_view model, std::size_t limit) const {
  return impl_->records->decisions(model, limit);
}
std::vector<DeviceReading> Runtime::readings() const {
  std::vector<DeviceReading> readings = impl_->sampler.readings();
  std::ranges::move(impl_->remote.readings(), std::back_inserter(readings));
  return readings;
}

StateKeeper::Figures Runtime::conversations() const {
  return impl_->keeper.figures();
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
  const config::Config before = std::exchange(impl_->loaded, std::move(fresh)).config;
  const std::set<ModelId> models_before = impl_->local_ids();
  impl_->remote.name(impl_->loaded.config.rpc_servers);
  impl_->local.forget();
  impl_->apply(impl_->loaded.config);
  if (before.rpc_servers != impl_->loaded.config.rpc_servers) impl_->run(impl_->look_again());
  std::ranges::move(impl_->told_changes(models_before), std::back_inserter(news.changes));
  const config::Config& now = impl_->loaded.config;
  if (before.ollama != now.ollama || before.providers != now.providers || before.commands != now.commands) {
    impl_->watch_upstreams(now);
    impl_->list_models();  // one at another address holds nothing for us from now on, whenever it answers
  }
  const config::State& state = impl_->loaded.config.state;
  impl_->keeper.change_budgets(state.memory, state.disk);
  impl_->checkpoints.change_idle(state.checkpoint_idle);
  news.warnings = impl_->all_warnings();
  impl_->hub.publish(news);
  return news;
}

std::vector<std::string> Runtime::warnings() const {
  return impl_->all_warnings();
}

}  // namespace lm::runtime
