// A small world around an Arbiter for its tests: workers, probe, clients and administrators in virtual time.
// Nothing here waits for a clock. After every step it checks the arbiter's invariants and that each request
// and each job is answered exactly once.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "core/arbiter.h"
#include "core/arbiter_trace.h"

namespace lm::core::testing {

using std::chrono::milliseconds;
using std::chrono::minutes;
// `seconds` is taken by the function that turns a span into a number.
constexpr Duration sec(double s) {
  return from_seconds(s);
}
constexpr Duration ms(std::int64_t n) {
  return milliseconds(n);
}

// How a model's next load or release goes; each is used once, then the plain way again.
enum class LoadFate { kSucceeds, kFails, kDies, kSilent };
enum class ReleaseFate { kClean, kClings, kUnanswered };

// What is true of a model in this world, whatever the arbiter believes.
struct Truth {
  DeviceBytes bytes;                            // what it takes
  std::optional<Extent> extent = {};            // the same layer by layer: it may lie on several devices
  std::optional<Extent> predicted_extent = {};  // what the prediction says of that; empty: the truth
  bool tells_layers_when_asked = false;         // and not before
  std::optional<DeviceId> lands_on = {};        // whatever was ordered
  std::optional<DeviceBytes> predict;           // what the prediction says; empty: the truth
  std::optional<Error> predict_error;
  Duration predict_time = ms(10);
  bool predicts = true;  // false: the prediction never answers
  Duration load_time = sec(1);
  Duration stop_time = ms(20);
  Duration release_delay = ms(30);  // from exit until its memory is free
  int slots = 2;
  std::vector<LoadFate> fates;        // of the next loads, first one first
  std::vector<ReleaseFate> releases;  // of the next releases
  int ignored_stops = 0;              // so many orders to end are not heard
  int failed_measurements = 0;        // so many measurements of its release say nothing
  Error load_error{.code = ErrorCode::kUnavailable, .message = "no", .reason = "io_error"};
};

// What is true of an upstream, whatever it says.
struct UpstreamTruth {
  Upstream upstream;
  std::vector<Resident> residents;
  DeviceBytes held;
  Duration load_time = ms(500);
  Duration yield_time = ms(40);
  bool answers = true;             // false: it says nothing to a load or to being evicted
  bool keeps_memory = false;       // says that it has unloaded, and has not
  bool keeps_listing = false;      // lists what it no longer holds
  bool tells_residents = true;     //
  bool runs = true;                // false: the process is gone; a load starts it
  std::string method = "process";  // "none": what it holds cannot be measured
  std::optional<Error> load_error;
  std::map<std::string, Error> load_errors;  // of one of its models
  std::optional<Error> yield_error;
  int loads = 0, evictions = 0;
};

enum class RequestFate { kWaiting, kGranted, kEnded, kRejected, kLeft };

struct Request {
  RequestId id;
  ModelId model;
  PriorityClass priority = PriorityClass::kInteractive;
  std::optional<Duration> service;  // what is left of it; empty: until finish()
  bool preemptible = false;
  RequestFate fate = RequestFate::kWaiting;
  TimePoint arrived;
  TimePoint answered;  // granted for the first time, or rejected
  InstanceId instance;
  TimePoint waiting_since;  // arrived, or was preempted
  TimePoint deadline;       // of this wait
  TimePoint granted_at;
  bool began = false;  // its answer, of this grant
  Duration longest_wait{};
  int grants = 0;
  int preemptions = 0;
  std::optional<Error> error;
  bool cut = false;
  bool left = false;
};

struct Job {
  JobId id;
  bool done = false;
  bool abandoned = false;
  TimePoint done_at;
  std::optional<Error> error;
  JobResult result;
};

struct Worker {
  InstanceId instance;
  Generation generation;
  ModelId model;
  int pid = 0;
  bool ready = false;
  bool alive = true;
  DeviceBytes held;
  std::vector<LayerShare> shares;
  ReleaseFate release = ReleaseFate::kClean;
  TimePoint ended_at;
  TimePoint free_at;      // after its end
  bool measured = false;  // what it left was looked at
};

class World {
 public:
  explicit World(Settings settings = plain()) : settings_(settings), arbiter_(settings) {
    const char* trace = std::getenv("LLM_MANAGER_TRACE");
    trace_ = trace != nullptr && std::string_view(trace) == "1";
  }

  static Settings plain() {
    Settings settings;
    settings.residency.mode = ResidencyMode::kFit;
    return settings;
  }

  // ---- what there is; configure() tells the arbiter

  void add_device(const std::string& id, Bytes capacity, Bytes headroom = {},
                  std::optional<Bytes> limit = {}) {
    devices_.push_back({.id = DeviceId(id),
                        .kind = id == "host" ? DeviceKind::kHost : DeviceKind::kCuda,
                        .name = id,
                        .capacity = capacity,
                        .headroom = headroom,
                        .limit = limit});
  }
  Model& add_model(const std::string& id, DeviceBytes bytes) {
    truths_[ModelId(id)].bytes = std::move(bytes);
    models_.push_back({.id = ModelId(id)});
    models_.back().artifact.fingerprint = id;
    return models_.back();
  }
  // On the one device "gpu".
  Model& add_model(const std::string& id, Bytes bytes) {
    return add_model(id, DeviceBytes{{DeviceId("gpu"), bytes}});
  }
  UpstreamTruth& add_upstream(const std::string& id, Family family, bool shares_devices = true) {
    UpstreamTruth& truth = upstreams_[UpstreamId(id)];
    truth.upstream = {
        .id = UpstreamId(id), .family = family, .shares_devices = shares_devices, .url = "http://" + id};
    return truth;
  }
  Model& add_remote_model(const std::string& id, const std::string& upstream, Bytes bytes = gib(4)) {
    truths_[ModelId(id)].bytes = DeviceBytes{{DeviceId("gpu"), bytes}};
    models_.push_back({.id = ModelId(id)});
    models_.back().family = upstreams_.at(UpstreamId(upstream)).upstream.family;
    models_.back().remote = Remote{UpstreamId(upstream), id};
    return models_.back();
  }
  // It is no longer configured; it goes on being there.
  void remove_upstream(const std::string& id) { listed_out_.insert(UpstreamId(id)); }
  UpstreamTruth& upstream(const std::string& id) { return upstreams_.at(UpstreamId(id)); }
  int upstream_count() const { return static_cast<int>(upstreams_.size()); }
  // From now on they are honest, and hold nothing that they do not list.
  void reform_upstreams() {
    for (auto& [id, u] : upstreams_) {
      u.answers = u.tells_residents = true;
      u.keeps_memory = u.keeps_listing = false;
      u.load_error.reset();
      u.yield_error.reset();
      if (u.residents.empty()) u.held = {};
      see(id.str());
    }
  }
  // Somebody else has it load a model.
  void intrude(const std::string& upstream, const std::string& model) {
    UpstreamTruth& u = upstreams_.at(UpstreamId(upstream));
    u.residents = {{.name = model, .kind = ModelKind::kGeneration, .bytes = Bytes()}};
    u.held = truths_.at(ModelId(model)).bytes;
    see(upstream);
  }
  void see(const std::string& upstream, bool reachable = true) {
    const UpstreamTruth& u = upstreams_.at(UpstreamId(upstream));
    const bool measured = u.method == "process";
    tell(UpstreamSeen{u.upstream.id, reachable, u.tells_residents, u.residents,
                      measured || !u.residents.empty() ? u.held : DeviceBytes(), measured, u.runs});
  }
  Model& model(const std::string& id) { return *std::ranges::find(models_, ModelId(id), &Model::id); }
  std::vector<Model>& models() { return models_; }
  std::vector<Device>& devices() { return devices_; }
  Settings& settings() { return settings_; }
  Truth& truth(const std::string& id) { return truths_.at(ModelId(id)); }
  std::map<ModelId, Truth>& truths() { return truths_; }
  void configure() {
    tell(SettingsChanged{settings_, devices_});
    std::vector<Upstream> upstreams;
    for (const auto& [id, truth] : upstreams_) {
      if (!listed_out_.contains(id)) upstreams.push_back(truth.upstream);
    }
    tell(ModelsChanged{models_, std::move(upstreams)});
  }

  // ---- clients

  RequestId request(const std::string& model, std::optional<Duration> service = {},
                    PriorityClass priority = PriorityClass::kInteractive,
                    std::optional<Duration> deadline = {}, bool preemptible = false, double weight = 1) {
    const RequestId id(++last_request_);
    requests_[id] = {.id = id,
                     .model = ModelId(model),
                     .priority = priority,
                     .service = service,
                     .preemptible = preemptible,
                     .arrived = now_,
                     .waiting_since = now_,
                     .deadline = now_ + deadline.value_or(longest_wait(priority))};
    waiting_[{ModelId(model), priority}].insert(id);
    std::optional<TimePoint> until;
    if (deadline) until = now_ + *deadline;
    tell(RequestArrived{id, ModelId(model), priority, until, preemptible, weight});
    return id;
  }
  // One whose answer can be broken off and continued.
  RequestId stream(const std::string& model, std::optional<Duration> service = {},
                   PriorityClass priority = PriorityClass::kInteractive) {
    return request(model, service, priority, {}, true);
  }
  void cancel(RequestId id) {
    Request& r = requests_.at(id);
    r.left = true;
    if (r.fate == RequestFate::kWaiting) {
      r.fate = RequestFate::kLeft;
      waiting_[{r.model, r.priority}].erase(id);
    }
    tell(RequestCancelled{id});
    if (r.fate == RequestFate::kGranted) end_lease_soon(id);
  }
  void finish(RequestId id) {
    Request& r = requests_.at(id);
    if (r.fate != RequestFate::kGranted) return;
    r.fate = RequestFate::kEnded;
    tell(LeaseReleased{id});
  }

  // ---- administrators

  JobId load(const std::string& model, bool force = false) {
    const JobId id = new_job();
    tell(LoadWanted{id, ModelId(model), "tester", force});
    return id;
  }
  JobId choose(const std::string& model) {
    const JobId id = new_job();
    tell(SwitchWanted{id, ModelId(model), "tester"});
    return id;
  }
  JobId unload(const std::string& model, bool hold = false) {
    const JobId id = new_job();
    tell(UnloadWanted{id, model.empty() ? std::optional<ModelId>() : ModelId(model), "tester", hold, 1234});
    return id;
  }
  JobId pin(const std::string& model, bool pinned = true) {
    const JobId id = new_job();
    tell(PinChanged{id, ModelId(model), pinned});
    return id;
  }
  // Negative: for ever.
  void keep_alive(const std::string& model, Duration asked) { tell(KeepAliveAsked{ModelId(model), asked}); }
  void abandon(JobId id) {
    jobs_.at(id).abandoned = true;
    tell(JobAbandoned{id});
  }
  void shut_down(Duration in) { tell(ShutdownBegan{now_ + in}); }

  // ---- accidents

  void crash(const std::string& model) {
    for (auto& [id, worker] : workers_) {
      if (worker.alive && worker.model == ModelId(model)) return end_worker(id, "was killed by SIGKILL");
    }
    ADD_FAILURE() << model << " has no worker";
  }
  // Its worker says why, and dies.
  void end_with(InstanceId id, Error error) { end_worker(id, "was killed by SIGABRT", std::move(error)); }
  // Its worker takes so much of a device from now on, and is measured.
  void come_to_hold(const std::string& model, const std::string& device, Bytes bytes) {
    for (auto& [id, worker] : workers_) {
      if (worker.alive && worker.model == ModelId(model)) worker.held.set(DeviceId(device), bytes);
    }
    measure();
  }
  // So much of the host is taken by kept conversations.
  void keep_states(Bytes bytes) {
    states_ = bytes;
    tell(StatesKept{states_});
  }
  Bytes states() const { return states_; }
  bool& drops_states() { return drops_states_; }
  void set_external(const std::string& device, Bytes bytes) { external_.set(DeviceId(device), bytes); }
  void measure() {
    MemoryMeasured e;
    for (const Device& device : devices_) {
      e.devices.push_back({.device = device.id,
                           .capacity = device.capacity,
                           .free = physically_free(device.id),
                           .holders = {},
                           .per_process = true});
    }
    for (const auto& [id, worker] : workers_) {
      if (worker.alive) e.instances.push_back({worker.instance, worker.held, Bytes()});
    }
    tell(e);
  }

  // ---- time

  TimePoint now() const { return now_; }
  void at(TimePoint when, std::function<void()> what) {
    if (!silent_) agenda_.push({when, ++last_seq_, std::move(what)});
  }
  // From now on nobody outside does or answers anything: there is only the arbiter and its timer.
  void fall_silent() {
    silent_ = true;
    agenda_ = {};
  }
  // For when the timer is set; empty: it is not.
  std::optional<TimePoint> armed() const { return armed_; }
  void after(Duration d, std::function<void()> what) { at(now_ + d, std::move(what)); }
  // Lets everything happen that is due until then.
  void run_for(Duration d) { run_until(now_ + d); }
  void run_until(TimePoint end) {
    while (happen_next(end)) {
    }
    now_ = std::max(now_, end);
  }
  // Until it holds; a failure where it does not within an hour.
  bool run_until_true(const std::function<bool()>& holds) {
    const TimePoint end = now_ + std::chrono::hours(1);
    while (!holds()) {
      if (!happen_next(end)) return false;
    }
    return true;
  }
  // The next thing on the agenda, or the timer; false where nothing is due until `end`.
  bool happen_next(TimePoint end) {
    const bool timer = armed_ && (agenda_.empty() || *armed_ < agenda_.top().at);
    if (timer ? *armed_ > end : agenda_.empty() || agenda_.top().at > end) return false;
    if (timer) {
      now_ = std::max(now_, *armed_);
      armed_.reset();
      tell(TimerFired{});
      return true;
    }
    const Item item = agenda_.top();
    agenda_.pop();
    now_ = std::max(now_, item.at);
    item.what();
    return true;
  }

  // ---- what became of it

  const Request& of(RequestId id) const { return requests_.at(id); }
  const Job& of(JobId id) const { return jobs_.at(id); }
  RequestFate fate(RequestId id) const { return requests_.at(id).fate; }
  bool granted(RequestId id) const {
    return fate(id) == RequestFate::kGranted || fate(id) == RequestFate::kEnded;
  }
  bool rejected(RequestId id) const { return fate(id) == RequestFate::kRejected; }
  std::string reason(RequestId id) const { return of(id).error ? of(id).error->reason : ""; }
  Snapshot snapshot() const { return arbiter_.snapshot(now_); }
  std::optional<ExpectedWait> expected_wait(RequestId id) const { return arbiter_.expected_wait(id, now_); }
  LoadPlan plan(const std::string& id, const LoadOptions& options, const Forecast& forecast) const {
    return arbiter_.plan(ModelId(id), options, forecast);
  }
  ModelView view(const std::string& id) const {
    for (const ModelView& v : snapshot().models) {
      if (v.model.id == ModelId(id)) return v;
    }
    return {};
  }
  InstanceState state(const std::string& id) const {
    const ModelView v = view(id);
    return v.instance ? v.instance->state : InstanceState::kAbsent;
  }
  DeviceView device_view(const std::string& id) const {
    for (const DeviceView& v : snapshot().devices) {
      if (v.device.id == DeviceId(id)) return v;
    }
    return {};
  }
  bool has_worker(const std::string& model) const {
    return std::ranges::any_of(
        workers_, [&](const auto& w) { return w.second.alive && w.second.model == ModelId(model); });
  }
  int workers() const {
    return static_cast<int>(std::ranges::count_if(workers_, [](const auto& w) { return w.second.alive; }));
  }
  template <class T>
  std::vector<T> told() const {
    std::vector<T> found;
    for (const auto& [at, command] : commands_) {
      if (const T* c = std::get_if<T>(&command)) found.push_back(*c);
    }
    return found;
  }
  // How often a model's load was ordered.
  int loads(const std::string& model) const {
    return loads_.contains(ModelId(model)) ? loads_.at(ModelId(model)) : 0;
  }
  int loads() const {
    int sum = 0;
    for (const auto& [model, n] : loads_) sum += n;
    return sum;
  }
  bool decided(DecisionKind kind, const std::string& model) const {
    return std::ranges::any_of(told<RecordDecision>(), [&](const RecordDecision& d) {
      return d.decision.kind == kind && d.decision.model == ModelId(model);
    });
  }
  std::vector<PublishState> published(const std::string& model) const {
    std::vector<PublishState> all = told<PublishState>();
    std::erase_if(all, [&](const PublishState& p) { return p.model != ModelId(model); });
    return all;
  }
  const std::map<RequestId, Request>& requests() const { return requests_; }
  const std::map<JobId, Job>& jobs() const { return jobs_; }
  const std::vector<RequestId>& grants() const { return grants_; }
  std::uint64_t steps() const { return steps_; }
  int out_of_memory() const { return out_of_memory_; }
  bool shutdown_finished() const { return shutdown_finished_; }
  bool idle() const { return agenda_.empty(); }
  void keep_no_commands() { keep_commands_ = false; }

  // From the grant to the answer's first piece.
  Duration first_piece{};
  // From the command to the lease's return.
  Duration preemption_takes = ms(1);

  // Sees every event and every command; for whoever compares them with others'.
  std::function<void(const Event&, TimePoint)> on_event;
  std::function<void(const Command&, TimePoint)> on_command;
  // What an arbiter with a defect would have said instead; for tests of the checks.
  std::function<void(Commands&)> tamper;

  void tell(const Event& event) {
    ++steps_;
    if (on_event) on_event(event, now_);
    if (trace_) trace(now_, event);
    Commands commands = arbiter_.step(event, now_);
    if (tamper) tamper(commands);
    for (const Command& command : commands) {
      if (trace_) trace(now_, command);
      if (on_command) on_command(command, now_);
      if (keep_commands_) commands_.emplace_back(now_, command);
      std::visit([this](const auto& c) { carry_out(c); }, command);
    }
    arbiter_.check_invariants(now_);
  }

 private:
  struct Item {
    TimePoint at;
    std::uint64_t seq;
    std::function<void()> what;
    bool operator<(const Item& other) const { return std::pair(at, seq) > std::pair(other.at, other.seq); }
  };

  Duration longest_wait(PriorityClass priority) const {
    const Settings::Scheduling& s = settings_.scheduling;
    return priority == PriorityClass::kInteractive ? s.wait_interactive : s.wait_batch;
  }

  JobId new_job() {
    const JobId id(++last_job_);
    jobs_[id].id = id;
    return id;
  }

  Bytes physically_free(const DeviceId& device) const {
    Bytes used = external_.on(device);
    if (device == host_device()) used += states_;
    for (const auto& [id, worker] : workers_) {
      if (worker.alive || worker.release == ReleaseFate::kClings || worker.free_at > now_)
        used += worker.held.on(device);
    }
    for (const auto& [id, upstream] : upstreams_) used += upstream.held.on(device);
    const auto it = std::ranges::find(devices_, device, &Device::id);
    return it->capacity - used;
  }

  void end_lease_soon(RequestId id) {
    after(ms(1), [this, id, grants = requests_.at(id).grants] {
      if (requests_.at(id).grants == grants) finish(id);
    });
  }

  void end_worker(InstanceId id, std::string how, std::optional<Error> error = {}) {
    Worker& worker = workers_.at(id);
    worker.alive = false;
    worker.ended_at = now_;
    Truth& truth = truths_.at(worker.model);
    worker.free_at = now_ + truth.release_delay;
    if (!truth.releases.empty()) {
      worker.release = truth.releases.front();
      truth.releases.erase(truth.releases.begin());
    }
    for (auto& [request_id, r] : requests_) {
      if (r.fate == RequestFate::kGranted && r.instance == id) end_lease_soon(request_id);
    }
    tell(WorkerExited{id, worker.generation, std::move(how), worker.held, Bytes(), std::move(error)});
  }

  // Whether the worker still is what it was when something was planned for it.
  Worker* alive(InstanceId id) {
    const auto it = workers_.find(id);
    return it != workers_.end() && it->second.alive ? &it->second : nullptr;
  }

  // ---- commands

  void carry_out(const PredictFootprint& c) {
    const Truth& truth = truths_.at(c.model);
    if (!truth.predicts) return;
    FootprintPredicted e{c.instance, c.generation, {}, truth.predict_error};
    if (!e.error) e.footprint = Footprint{truth.predict.value_or(truth.bytes), FootprintSource::kPredicted};
    if (!e.error && (c.layers || !truth.tells_layers_when_asked))
      e.extent = truth.predicted_extent ? truth.predicted_extent : truth.extent;
    after(truth.predict_time, [this, e] { tell(e); });
  }

  // Which upstream answers for it; null: a worker of ours does.
  UpstreamTruth* upstream_of(const ModelId& id) {
    const auto it = std::ranges::find(models_, id, &Model::id);
    return it != models_.end() && it->remote ? &upstreams_.at(it->remote->upstream) : nullptr;
  }

  void load_upstream(const StartLoad& c, UpstreamTruth& u) {
    ++u.loads;
    for (const auto& [id, worker] : workers_) {
      EXPECT_FALSE(worker.alive && worker.free_at > now_) << "two families together";
    }
    if (!u.answers) return;
    after(u.load_time, [this, c, &u, began = now_] {
      if (u.load_error) return tell(LoadFailed{c.instance, c.generation, *u.load_error});
      if (const auto error = u.load_errors.find(c.model.str()); error != u.load_errors.end())
        return tell(LoadFailed{c.instance, c.generation, error->second});
      u.runs = true;
      u.residents = {{.name = c.model.str(), .kind = ModelKind::kGeneration, .bytes = Bytes()}};
      u.held = truths_.at(c.model).bytes;
      tell(LoadProgressed{c.instance, c.generation, LoadStage::kWeights, 0.5});
      tell(LoadSucceeded{c.instance, c.generation, u.held, Bytes(), 256, 0, now_ - began});
    });
  }

  void carry_out(const EvictUpstream& c) {
    UpstreamTruth& u = upstreams_.at(c.upstream);
    ++u.evictions;
    if (!u.answers) return;
    after(u.yield_error ? c.limit : u.yield_time, [this, c, &u] {
      if (!u.keeps_listing) u.residents.clear();
      if (!u.keeps_memory) u.held = {};
      tell(UpstreamYielded{c.instance, c.generation, u.yield_error});
    });
  }

  void carry_out(const LoadAtUpstream& c) {
    UpstreamTruth& u = *upstream_of(c.model);
    if (!u.answers) return;
    after(u.load_time, [this, c, &u] {
      if (u.load_error) return tell(UpstreamLoaded{c.instance, c.generation, c.model, u.load_error});
      u.residents.push_back({.name = c.model.str(), .kind = ModelKind::kGeneration, .bytes = Bytes()});
      u.held = DeviceBytes::max(u.held, truths_.at(c.model).bytes);
      tell(UpstreamLoaded{c.instance, c.generation, c.model, std::nullopt});
      see(u.upstream.id.str());
    });
  }

  // Nobody but the arbiter says on which devices.
  static DeviceBytes where_it_lies(const Truth& truth, const std::vector<LayerShare>& shares) {
    if (shares.empty()) return truth.bytes;
    DeviceBytes bytes;
    bytes.set(host_device(), truth.bytes.on(host_device()));
    if (!truth.extent) {
      EXPECT_EQ(shares.size(), 1u) << "it is in one piece";
      bytes.set(shares.front().device, truth.bytes.total() - bytes.total());
      return bytes;
    }
    const Extent& e = *truth.extent;
    std::size_t next = 0;
    for (const LayerShare& share : shares) {
      const std::size_t count = shares.size() == 1 ? e.layers.size() : static_cast<std::size_t>(share.layers);
      const bool has_output = &share == &shares.back();
      if (count > (has_output ? 1U : 0U)) {
        const Bytes work = has_output && count == 2 ? e.last_scratch : e.scratch;
        bytes.add(share.device, std::max(work, has_output ? e.output_scratch : Bytes()) + e.inputs);
        if (shares.size() > 1) bytes.add(share.device, e.pipelined);
      } else {
        bytes.add(share.device, e.output_scratch);
      }
      for (std::size_t n = 0; n < count; ++n, ++next)
        bytes.add(share.device, e.layers.at(next).weights + e.layers.at(next).cache);
    }
    EXPECT_EQ(next, e.layers.size()) << "every layer lies somewhere";
    return bytes;
  }

  void carry_out(const StartLoad& c) {
    if (UpstreamTruth* u = upstream_of(c.model)) return load_upstream(c, *u);
    ++loads_[c.model];
    Truth& truth = truths_.at(c.model);
    LoadFate fate = LoadFate::kSucceeds;
    if (!truth.fates.empty()) {
      fate = truth.fates.front();
      truth.fates.erase(truth.fates.begin());
    }
    Worker& worker = workers_[c.instance];
    worker = {.instance = c.instance, .generation = c.generation, .model = c.model, .pid = ++last_pid_};
    worker.shares = c.options.shares;
    promise(c.instance, c.reservation);
    const InstanceId id = c.instance;
    after(ms(1), [this, id] {
      if (const Worker* w = alive(id)) tell(WorkerTaken{id, w->generation, w->pid});
    });
    if (fate == LoadFate::kSilent) return;
    after(truth.load_time / 2, [this, id] {
      Worker* w = alive(id);
      if (w == nullptr) return;
      tell(LoadProgressed{id, w->generation, LoadStage::kWeights, 0.5});
    });
    after(truth.load_time, [this, id, fate, began = now_] {
      Worker* w = alive(id);
      if (w == nullptr) return;
      const Truth& t = truths_.at(w->model);
      if (fate == LoadFate::kDies) return end_worker(id, "was killed by SIGABRT");
      if (fate == LoadFate::kFails) return tell(LoadFailed{id, w->generation, t.load_error});
      DeviceBytes takes = where_it_lies(t, w->shares);
      if (t.lands_on) takes = {{*t.lands_on, takes.total()}};
      for (const auto& [device, bytes] : takes) {
        if (bytes <= physically_free(device)) continue;
        ++out_of_memory_;
        return tell(LoadFailed{id,
                               w->generation,
                               {.code = ErrorCode::kResourceExhausted,
                                .message = "out of memory",
                                .reason = "insufficient_memory"}});
      }
      w->held = takes;
      w->ready = true;
      // What turned out to be too much may be promised to others.
      for (const auto& [device, bytes] : DeviceBytes(promised_[id]))
        promised_[id].set(device, std::min(bytes, takes.on(device)));
      tell(LoadSucceeded{id, w->generation, w->held, Bytes(), t.slots, 4096, now_ - began});
    });
  }

  void carry_out(const StopInstance& c) {
    const Worker* worker = alive(c.instance);
    if (worker == nullptr) return;
    Truth& truth = truths_.at(worker->model);
    if (truth.ignored_stops > 0) {
      --truth.ignored_stops;
      return;
    }
    after(std::min(truth.stop_time, c.grace), [this, id = c.instance] {
      if (alive(id) != nullptr) end_worker(id, "exited with 0");
    });
  }

  void promise(InstanceId id, const DeviceBytes& reservation) {
    promised_[id] = reservation;
    DeviceBytes sum;
    for (const auto& [instance, bytes] : promised_) sum += bytes;
    for (const Device& device : devices_)
      EXPECT_LE(sum.on(device.id), device.capacity) << "no more is promised than there is";
  }

  void carry_out(const BeginDrain& c) { closed_.insert(c.instance); }

  void carry_out(const PublishState& c) {
    if (c.state != InstanceState::kAbsent && c.state != InstanceState::kFailed) return;
    closed_.erase(c.instance);
    if (promised_.erase(c.instance) == 0) return;
    const Worker& worker = workers_.at(c.instance);
    EXPECT_FALSE(worker.alive) << "what still runs is not told to be gone";
    EXPECT_TRUE(worker.measured || now_ >= worker.ended_at + settings_.limits.release_cap)
        << "memory is told to be free only once it was measured";
  }

  void measure_upstream(const MeasureRelease& c) {
    at(std::max(now_ + ms(1), c.not_before), [this, c] {
      const UpstreamTruth& u = upstreams_.at(c.upstream);
      const bool blind = u.method == "none";
      ReleaseMeasured e{c.instance, c.generation, blind ? DeviceBytes() : u.held, {}, {}, u.method, !blind};
      if (!e.residual.empty()) e.holders.push_back({4711, "ollama runner", u.held.total()});
      for (const Device& device : devices_)
        e.devices.push_back({device.id, device.capacity, physically_free(device.id), {}, true});
      tell(e);
    });
  }

  void carry_out(const MeasureRelease& c) {
    if (!c.upstream.empty()) return measure_upstream(c);
    const Worker& worker = workers_.at(c.instance);
    if (worker.release == ReleaseFate::kUnanswered) return;
    at(std::max(now_ + ms(1), c.not_before), [this, c] {
      Worker& w = workers_.at(c.instance);
      if (int& failing = truths_.at(w.model).failed_measurements; failing > 0) {
        --failing;
        return tell(
            ReleaseMeasured{c.instance, c.generation, {}, {}, {}, std::string(ReleaseReport::kNotMeasured)});
      }
      ReleaseMeasured e{c.instance, c.generation, {}, {}, {}, "process"};
      if (w.release == ReleaseFate::kClings || w.free_at > now_) {
        e.residual = w.held;
        if (!w.held.empty()) e.holders.push_back({w.pid, "llm-worker", w.held.total()});
      }
      for (const Device& device : devices_)
        e.devices.push_back({device.id, device.capacity, physically_free(device.id), {}, true});
      w.measured = true;
      tell(e);
    });
  }

  void carry_out(const DropStates& c) {
    EXPECT_GT(c.bytes, Bytes());
    EXPECT_LE(c.bytes, states_);
    if (!drops_states_) return;
    after(ms(20), [this, bytes = c.bytes] { keep_states(std::max(Bytes(), states_ - bytes)); });
  }

  void carry_out(const CutRequests& c) {
    for (const RequestId id : c.requests) {
      EXPECT_EQ(requests_.at(id).fate, RequestFate::kGranted);
      requests_.at(id).cut = true;
      end_lease_soon(id);
    }
  }

  void carry_out(const PreemptRequests& c) {
    EXPECT_FALSE(c.requests.empty());
    for (const RequestId id : c.requests) {
      const Request& r = requests_.at(id);
      EXPECT_EQ(r.fate, RequestFate::kGranted);
      EXPECT_EQ(r.instance, c.instance);
      EXPECT_TRUE(r.preemptible) << "only what can be continued is preempted";
      EXPECT_FALSE(r.cut);
      if (r.grants > 1) {
        EXPECT_TRUE(r.began || now_ - r.granted_at >= settings_.limits.drain_evict) << "it gets on";
        EXPECT_GE(now_ - r.granted_at,
                  std::min(settings_.scheduling.quantum_min, settings_.limits.drain_evict))
            << "who was preempted before moves on by a quantum";
      }
      // It may end by itself, or its client leave, before it has given its lease back.
      after(preemption_takes, [this, id, grants = r.grants] { preempt(id, grants); });
    }
  }

  void preempt(RequestId id, int grants) {
    Request& r = requests_.at(id);
    if (r.fate != RequestFate::kGranted || r.grants != grants || r.left) return;
    if (r.service) r.service = std::max(Duration(), *r.service - (now_ - r.granted_at));
    r.fate = RequestFate::kWaiting;
    r.waiting_since = now_;
    r.deadline =
        now_ + std::max(longest_wait(PriorityClass::kInteractive), longest_wait(PriorityClass::kBatch));
    ++r.preemptions;
    waiting_[{r.model, r.priority}].insert(id);
    tell(RequestPreempted{id});
  }

  void carry_out(const GrantLease& c) {
    Request& r = requests_.at(c.request);
    EXPECT_EQ(r.fate, RequestFate::kWaiting) << "a request is answered once";
    if (const UpstreamTruth* u = upstream_of(c.model)) {
      EXPECT_EQ(c.instance == InstanceId(),
                !u->upstream.shares_devices || model(c.model.str()).kind != ModelKind::kGeneration);
      EXPECT_EQ(c.model, r.model);
    } else {
      const Worker* worker = alive(c.instance);
      EXPECT_TRUE(worker != nullptr && worker->ready && worker->model == r.model)
          << "only the ready are granted";
    }
    EXPECT_FALSE(closed_.contains(c.instance)) << "a victim takes no new request";
    auto& queue = waiting_[{r.model, r.priority}];
    EXPECT_TRUE(!queue.empty() && *queue.begin() == c.request)
        << "first come, first served within model and class: request " << c.request.value();
    queue.erase(c.request);
    r.fate = RequestFate::kGranted;
    if (r.grants++ == 0) r.answered = now_;
    r.granted_at = now_;
    r.began = false;
    if (r.preemptible) {
      after(first_piece, [this, id = c.request, grants = r.grants] {
        Request& answered = requests_.at(id);
        if (answered.grants != grants || answered.fate != RequestFate::kGranted) return;
        answered.began = true;
        tell(AnswerBegan{id});
      });
    }
    r.longest_wait = std::max(r.longest_wait, now_ - r.waiting_since);
    r.instance = c.instance;
    grants_.push_back(c.request);
    if (!r.service) return;
    after(*r.service, [this, id = c.request, grants = r.grants] {
      if (requests_.at(id).grants == grants) finish(id);
    });
  }

  void carry_out(const RejectRequest& c) {
    Request& r = requests_.at(c.request);
    EXPECT_EQ(r.fate, RequestFate::kWaiting) << "a request is answered once";
    EXPECT_FALSE(c.error.message.empty());
    waiting_[{r.model, r.priority}].erase(c.request);
    r.fate = RequestFate::kRejected;
    if (r.grants == 0) r.answered = now_;
    r.error = c.error;
  }

  void carry_out(const FinishJob& c) {
    Job& job = jobs_.at(c.job);
    EXPECT_FALSE(job.done) << "a job ends once";
    EXPECT_FALSE(job.abandoned) << "an abandoned job is not finished";
    job.done = true;
    job.done_at = now_;
    job.error = c.error;
    job.result = c.result;
  }

  void carry_out(const ArmTimer& c) {
    EXPECT_GT(c.at, now_) << "the timer lies ahead";
    armed_ = c.at;
  }

  void carry_out(const FinishShutdown&) {
    EXPECT_FALSE(shutdown_finished_) << "shutdown finishes once";
    EXPECT_EQ(workers(), 0) << "nothing of ours is left";
    shutdown_finished_ = true;
  }

  template <class Told>
  void carry_out(const Told&) {}  // told for people and for the store

  Settings settings_;
  Arbiter arbiter_;
  std::vector<Device> devices_;
  std::vector<Model> models_;
  std::map<ModelId, Truth> truths_;
  DeviceBytes external_;
  Bytes states_;
  bool drops_states_ = true;  // when it is told to
  std::map<UpstreamId, UpstreamTruth> upstreams_;
  std::set<UpstreamId> listed_out_;
  std::map<InstanceId, Worker> workers_;
  std::map<InstanceId, DeviceBytes> promised_;  // to workers, from the order to load to the proof of release
  std::set<InstanceId> closed_;                 // instances whose gate was closed
  std::map<RequestId, Request> requests_;
  std::map<std::pair<ModelId, PriorityClass>, std::set<RequestId>> waiting_;
  std::map<JobId, Job> jobs_;
  std::map<ModelId, int> loads_;
  std::vector<RequestId> grants_;
  std::vector<std::pair<TimePoint, Command>> commands_;
  std::priority_queue<Item> agenda_;
  std::optional<TimePoint> armed_;
  TimePoint now_{};
  std::uint64_t last_request_ = 0;
  std::uint64_t last_job_ = 0;
  std::uint64_t last_seq_ = 0;
  std::uint64_t steps_ = 0;
  int last_pid_ = 1000;
  int out_of_memory_ = 0;
  bool keep_commands_ = true;
  bool shutdown_finished_ = false;
  bool trace_ = false;
  bool silent_ = false;
};

}  // namespace lm::core::testing
