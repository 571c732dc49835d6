#include "backend/upstreams.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "base/assert.h"
#include "base/gate.h"
#include "base/latch.h"

namespace lm::backend {
namespace {

// Used this recently, it may change at any moment.
constexpr Duration kInUse = std::chrono::seconds(5);
// Whoever is told that a model was loaded finds it in the list, unless the server is slower than this to say
// so.
constexpr Duration kListsSoon = std::chrono::seconds(1);
// A change of what is held that is worth telling.
constexpr Bytes kNoticeable = mib(16);
// A server's own heap breathes: less than this is no model. Where only the devices can be measured, others
// breathe too: then neither is this part of what was to come back.
constexpr Bytes kNoise = mib(32);
constexpr int kNoisePart = 16;
// A server that was never seen without a model: what it holds after its first release is taken for its own
// where it is at most this part of what it held before.
constexpr int kOwnPart = 4;
// Answers at the same time: theirs to say no.
constexpr int kSlots = 256;

Bytes positive(Bytes bytes) {
  return std::max(bytes, Bytes());
}

// What is left of `held` over `base`, nowhere negative.
DeviceBytes over(const DeviceBytes& held, const DeviceBytes& base) {
  DeviceBytes rest;
  for (const auto& [device, bytes] : held) rest.set(device, positive(bytes - base.on(device)));
  return rest;
}

DeviceBytes least(const DeviceBytes& a, const DeviceBytes& b) {
  DeviceBytes result;
  for (const auto& [device, bytes] : a) result.set(device, std::min(bytes, b.on(device)));
  return result;
}

bool is_noticeable(const DeviceBytes& a, const DeviceBytes& b) {
  const auto more = [](const DeviceBytes& one, const DeviceBytes& other) {
    return std::ranges::any_of(
        one, [&](const auto& entry) { return entry.second - other.on(entry.first) > kNoticeable; });
  };
  return a.empty() != b.empty() || more(a, b) || more(b, a);
}

// Without what is too little to be a model's.
DeviceBytes without_noise(const DeviceBytes& rest, const DeviceBytes& noise = {}) {
  DeviceBytes result;
  for (const auto& [device, bytes] : rest) {
    if (bytes > std::max(kNoise, noise.on(device))) result.set(device, bytes);
  }
  return result;
}

DeviceBytes part(const DeviceBytes& whole, int parts) {
  DeviceBytes result;
  for (const auto& [device, bytes] : whole) result.set(device, Bytes(bytes.count() / parts));
  return result;
}

DeviceBytes free_of(const std::vector<DeviceReading>& devices) {
  DeviceBytes free;
  for (const DeviceReading& device : devices) free.set(device.device, device.free);
  return free;
}

}  // namespace

struct Upstreams::Impl : std::enable_shared_from_this<Upstreams::Impl> {
  struct Watched {
    explicit Watched(std::shared_ptr<UpstreamServer> s, const boost::asio::any_io_executor& e)
        : server(std::move(s)),
          description(server->description()),
          wake(e),
          look_ended(e),
          models(server->configured()) {}

    const std::shared_ptr<UpstreamServer> server;
    const Upstream description;
    Latch wake;  // of the watch that sleeps
    bool at_once = false;
    std::uint64_t looks_begun = 0, looks_ended = 0;
    Latch look_ended;  // the next one
    TimePoint used{}, looked{}, told{};
    bool was_told = false;
    bool seen = false;  // a look has ended
    Duration pause{};
    int busy = 0;  // loads and evictions under way
    struct Loading {
      InstanceId instance;
      Generation generation;
      TimePoint told;
    };
    std::optional<Loading> loading;  // ordered last, and under way

    // As last seen.
    std::vector<Model> models;
    std::optional<Error> problem;
    bool tells_residents = false;
    bool runs = true;
    std::vector<Resident> residents;
    bool keeps_claims = false;  // it cannot be asked: what it said before counts

    // Measured. `processes` are all that were ever seen and still live: who is orphaned is no longer found.
    std::vector<os::ProcessIdentity> processes;
    std::vector<os::ProcessIdentity> current;  // those of them that the server has now
    os::ProcessIdentity root;                  // the first of them
    bool sees_processes = false;               // they could be seen once
    std::optional<DeviceBytes> own;            // held without a model
    DeviceBytes held;
    bool measured = true;  // `held` is: nothing of it is only its word
    struct Before {        // when the last eviction was ordered
      DeviceBytes all, claimed, free;
    };
    std::optional<Before> before;
    bool clung = false;  // what it was last asked to give back was not seen to come back
  };

  Impl(boost::asio::any_io_executor e, const Clock& c, Listener l, Probes p, UpstreamsOptions o)
      : executor(std::move(e)),
        clock(c),
        listener(std::move(l)),
        probes(std::move(p)),
        options(o),
        gate(executor),
        stopped(executor) {}

  boost::asio::any_io_executor executor;
  const Clock& clock;
  Listener listener;
  Probes probes;
  UpstreamsOptions options;
  Gate gate;
  Latch stopped;
  // In the order of the configuration; never changed after the constructor.
  std::vector<std::unique_ptr<Watched>> all;

  Watched* find(const UpstreamId& id) {
    for (const auto& one : all) {
      if (one->description.id == id) return one.get();
    }
    return nullptr;
  }

  void post(Event event) {
    if (!stopped.is_open()) listener.post(std::move(event));
  }

  // ---- looking

  Task<> watch(std::shared_ptr<Impl> self, Watched* one) {
    while (!stopped.is_open()) {
      one->at_once = false;
      ++one->looks_begun;
      const bool changed = co_await look(self, one);
      ++one->looks_ended;
      std::exchange(one->look_ended, Latch(executor)).open();
      one->looked = clock.now();
      one->pause = next_pause(*one, changed);
      // Woken by its use it still keeps the shortest pause; by look_at() it keeps none.
      while (!stopped.is_open() && !one->at_once) {
        const Duration wanted =
            in_use(*one) && !one->problem ? std::min(one->pause, busy_pause(*one)) : one->pause;
        const Duration left = one->looked + wanted - clock.now();
        if (left <= Duration::zero()) break;
        one->wake = Latch(executor);
        co_await one->wake.wait(left);
      }
    }
  }

  bool in_use(const Watched& one) const {
    return one.busy > 0 || (one.used != TimePoint() && clock.now() < one.used + kInUse);
  }
  // A service elsewhere is no worse for being asked less often: nothing of it is on our devices.
  Duration busy_pause(const Watched& one) const {
    return one.description.shares_devices ? options.quick : options.slow;
  }

  Duration next_pause(const Watched& one, bool changed) const {
    if (one.problem) return changed ? options.quick : std::min(one.pause * 2, options.unreachable);
    if (changed || in_use(one)) return busy_pause(one);
    return std::min(one.pause * 2, one.description.shares_devices ? options.slow : options.elsewhere);
  }

  // True where something that matters is another than before.
  Task<bool> look(std::shared_ptr<Impl> self, Watched* one) {
    auto sight = co_await one->server->look();
    if (stopped.is_open()) co_return false;
    const bool first = !std::exchange(one->seen, true);
    const bool was_reachable = one->was_told && !one->problem;
    bool changed = !one->was_told;
    if (sight) {
      if (one->problem) log(fmt::format("{} at {} can be reached again", name(*one), one->description.url));
      const bool models = first || one->problem.has_value() || one->models != sight->models;
      one->problem.reset();
      one->keeps_claims = false;
      one->models = std::move(sight->models);
      changed = changed || models || one->tells_residents != sight->tells_residents ||
                one->residents != sight->residents || one->runs != sight->runs;
      one->tells_residents = sight->tells_residents;
      one->runs = sight->runs;
      one->residents = std::move(sight->residents);
      if (models) listener.models_changed();
    } else {
      const bool gone = sight.error().reason == "connect_failed";
      Error problem{.code = ErrorCode::kUnavailable,
                    .message = fmt::format("{} cannot be reached: {}", name(*one), sight.error().message),
                    .reason = "upstream_unreachable",
                    .fields = {{"upstream", one->description.id.str()}, {"url", one->description.url}},
                    .retry_after = {}};
      changed = changed || was_reachable;
      const bool is_other = one->problem != problem;
      if (is_other) log(problem.message);
      one->problem = std::move(problem);
      if (first || is_other) listener.models_changed();
      one->tells_residents = false;
      one->residents.clear();
      // Who does not answer still holds what it held; where nobody listens any more there is nobody.
      one->keeps_claims = !gone;
    }
    // Whoever answers while it loads is not silent, however long the load itself says nothing: a server of
    // many gigabytes takes minutes to start.
    if (one->loading && !one->problem && clock.now() >= one->loading->told + options.slow) {
      one->loading->told = clock.now();
      post(starting(*one->loading));
    }
    const DeviceBytes before = one->held;
    measure(*one);
    changed = changed || is_noticeable(before, one->held);
    tell(*one, changed);
    co_return changed;
  }

  // Waits for a look that begins from now on; there is only ever one at a time.
  Task<> next_look(std::shared_ptr<Impl> self, Watched* one, Duration limit) {
    const std::uint64_t wanted = one->looks_begun + 1;
    const TimePoint end = clock.now() + limit;
    look_at_once(*one);
    while (one->looks_ended < wanted && !stopped.is_open() && clock.now() < end) {
      const Latch ended = one->look_ended;
      co_await ended.wait(end - clock.now());
    }
  }

  void tell(Watched& one, bool changed) {
    const TimePoint now = clock.now();
    // Ten seconds at most between two, also where a look comes a little early.
    if (!changed && one.was_told && now < one.told + options.slow * 9 / 10) return;
    one.told = now;
    one.was_told = true;
    post(UpstreamSeen{.upstream = one.description.id,
                      .reachable = !one.problem,
                      .tells_residents = one.tells_residents,
                      .residents = one.residents,
                      .held = one.held,
                      .measured = one.measured,
                      .runs = one.runs});
  }

  void wake(Watched& one) { one.wake.open(); }

  void look_at_once(Watched& one) {
    one.at_once = true;
    wake(one);
  }

  static std::string name(const Watched& one) { return one.description.id.str(); }
  void log(std::string_view line) {
    if (listener.log) listener.log(line);
  }

  // ---- measuring

  // Brings `processes` up to date: those that live, found now or before.
  void find_processes(Watched& one) {
    if (!one.description.shares_devices) return;
    std::erase_if(one.processes, [](const os::ProcessIdentity& process) {
      const auto now = os::identify(process.pid);
      return !now || *now != process;
    });
    const auto found = one.server->processes();
    const auto root = found.empty() ? os::ProcessIdentity() : found.front();
    // Started anew it is another one; a rest of the one before it is nobody's own.
    if (!found.empty() && std::exchange(one.root, root) != root) one.own.reset();
    one.current = found;
    for (const os::ProcessIdentity& process : found) {
      if (std::ranges::find(one.processes, process) == one.processes.end()) one.processes.push_back(process);
    }
    one.sees_processes = one.sees_processes || !found.empty() || one.server->sees_processes();
  }

  DeviceBytes held_by_all(Watched& one) {
    find_processes(one);
    return one.processes.empty() ? DeviceBytes() : probes.held(one.processes);
  }

  // What its residents say, by device: the first that is no host's for what is accelerated.
  DeviceBytes claimed(const Watched& one) {
    DeviceBytes claims;
    if (one.residents.empty()) return claims;
    DeviceId card = host_device();
    for (const DeviceReading& device : probes.devices()) {
      if (device.device == host_device()) continue;
      card = device.device;
      break;
    }
    for (const Resident& resident : one.residents) {
      claims.add(card, resident.accelerated);
      claims.add(host_device(), resident.bytes - resident.accelerated);
    }
    return claims;
  }

  void measure(Watched& one) {
    if (!one.description.shares_devices) return;
    const DeviceBytes all_of_it = held_by_all(one);
    const DeviceBytes claims = claimed(one);
    if (!one.sees_processes) {
      one.measured = false;
      if (!one.keeps_claims) one.held = claims;
      return;
    }
    learn_own(one);
    const DeviceBytes before = std::exchange(one.held, of_models(one, all_of_it));
    one.measured = true;
    for (const DeviceReading& device : probes.devices()) {
      if (tells(device, claims, all_of_it)) continue;
      one.measured = false;
      one.held.set(device.device, one.keeps_claims ? before.on(device.device) : claims.on(device.device));
    }
  }

  // Whether what its processes hold on a card can be read off them. Not where the driver tells no bytes per
  // process (WSL2); nor where those that listen hold nothing of what it says it has there: then they are a
  // door to others, as a container's is.
  static bool tells(const DeviceReading& device, const DeviceBytes& claims, const DeviceBytes& held) {
    if (device.device == host_device()) return true;
    return device.per_process && (claims.on(device.device) <= kNoise || held.on(device.device) > Bytes());
  }

  // What a server holds without a model is the least that was ever measured of it without one, so that one
  // that says it has none and keeps its memory does not make it its own.
  void learn_own(Watched& one) {
    if (one.server->rests_empty() || !one.tells_residents || !one.residents.empty() || one.busy > 0) return;
    const DeviceBytes all_of_it = one.current.empty() ? DeviceBytes() : probes.held(one.current);
    if (one.own) {
      one.own = least(*one.own, all_of_it);
    } else if (!one.before) {
      one.own = all_of_it;
    } else {
      for (const auto& [device, bytes] : all_of_it) {
        if (bytes * kOwnPart > one.before->all.on(device)) return;
      }
      one.own = all_of_it;
    }
  }

  // What its models hold, of what all of its processes hold. Those of one that rests empty are there for
  // models: each byte of theirs counts.
  static DeviceBytes of_models(const Watched& one, const DeviceBytes& all_of_it) {
    if (one.server->rests_empty()) return all_of_it;
    return without_noise(over(all_of_it, one.own.value_or(DeviceBytes())));
  }

  // ---- commands

  Task<> load(std::shared_ptr<Impl> self, Watched* one, InstanceId instance, Generation generation,
              std::string model) {
    const TimePoint began = clock.now();
    const Busy busy(*one);
    one->loading = {.instance = instance, .generation = generation, .told = began};
    post(starting(*one->loading));
    const auto loaded = co_await one->server->load(std::move(model), options.load_limit);
    if (one->loading && one->loading->generation == generation) one->loading.reset();
    if (!loaded) {
      look_at_once(*one);
      post(LoadFailed{instance, generation, loaded.error()});
      co_return;
    }
    const Duration took = clock.now() - began;
    measure(*one);
    look_at_once(*one);
    // Where only its own word tells what the new model takes, it has to be asked.
    if (!one->sees_processes && one->description.shares_devices)
      co_await next_look(self, one, options.unreachable);
    else if (one->tells_residents)
      co_await next_look(self, one, kListsSoon);
    post(LoadSucceeded{.instance = instance,
                       .generation = generation,
                       .held = one->held,
                       .reclaimable = {},
                       .slots = kSlots,
                       .context = 0,
                       .took = took});
  }

  static LoadProgressed starting(const Watched::Loading& load) {
    return {.instance = load.instance,
            .generation = load.generation,
            .stage = LoadStage::kStarting,
            .fraction = 0};
  }

  Task<> load_also(std::shared_ptr<Impl> self, Watched* one, InstanceId instance, Generation generation,
                   Model model) {
    const Busy busy(*one);
    const auto loaded = co_await one->server->load(model.remote->name, options.load_limit);
    co_await next_look(self, one, kListsSoon);
    post(UpstreamLoaded{instance, generation, model.id,
                        loaded ? std::nullopt : std::optional(loaded.error())});
  }

  Task<> evict(std::shared_ptr<Impl> self, Watched* one, EvictUpstream command) {
    const Busy busy(*one);
    one->loading.reset();
    const auto yielded = co_await one->server->yield(command.limit);
    look_at_once(*one);
    // Where nobody listens any more there is nobody to ask; where its processes cannot be seen either, what
    // the devices tell is the answer.
    const bool gone = !yielded && yielded.error().reason == "connect_failed" && !one->sees_processes;
    if (!yielded) log(fmt::format("{} has not given up its memory: {}", name(*one), yielded.error().message));
    post(UpstreamYielded{command.instance, command.generation,
                         yielded || gone ? std::nullopt : std::optional(yielded.error())});
  }

  void remember_before(Watched& one) {
    const DeviceBytes all_of_it = held_by_all(one);
    DeviceBytes claims = claimed(one);
    // Asked again for what it kept, it says that it has nothing: what it said before is what must come back.
    if (one.clung && one.before && claims.empty() && !one.measured) return;
    one.before =
        Watched::Before{.all = all_of_it, .claimed = std::move(claims), .free = free_of(probes.devices())};
  }

  ReleaseMeasured release(Watched& one, const MeasureRelease& command) {
    ReleaseMeasured event{.instance = command.instance,
                          .generation = command.generation,
                          .residual = {},
                          .holders = {},
                          .devices = {},
                          .method = {}};
    const DeviceBytes all_of_it = held_by_all(one);
    event.devices = probes.devices();
    const DeviceBytes claims = one.before ? one.before->claimed : DeviceBytes();
    const DeviceBytes before = one.before ? one.before->all : DeviceBytes();
    const DeviceBytes& wanted = claims.empty() ? command.expected : claims;
    if (one.sees_processes) {
      event.method = "process";
      learn_own(one);
      event.residual = of_models(one, all_of_it);
    }
    DeviceBytes converging;  // what only the devices' free memory can prove
    for (const DeviceReading& device : event.devices) {
      if (one.sees_processes && tells(device, claims, before)) continue;
      const Bytes bytes = wanted.on(device.device);
      if (bytes > Bytes()) {
        converging.set(device.device, bytes);
      } else if (wanted.empty() && !one.tells_residents) {
        event.complete = false;  // neither it nor anybody else says what was there
      }
    }
    if (!converging.empty()) {
      event.method = "device";
      const DeviceBytes residual = not_returned(one, converging, free_of(event.devices));
      for (const auto& [device, bytes] : residual) event.residual.set(device, bytes);
    } else if (!one.sees_processes) {
      event.method = "none";
      event.complete = false;
    }
    one.clung = !event.residual.empty();
    if (!one.clung) return event;
    if (one.sees_processes) event.holders = holders(one);
    for (const DeviceReading& device : event.devices) {
      if (converging.on(device.device) > Bytes() && event.residual.on(device.device) > Bytes())
        event.holders.insert(event.holders.end(), device.holders.begin(), device.holders.end());
    }
    return event;
  }

  // What of `wanted` the devices' free memory has not grown by since the eviction was ordered.
  static DeviceBytes not_returned(const Watched& one, const DeviceBytes& wanted, const DeviceBytes& free) {
    DeviceBytes residual;
    for (const auto& [device, bytes] : wanted) {
      const Bytes grown = one.before ? free.on(device) - one.before->free.on(device) : Bytes();
      residual.set(device, positive(bytes - positive(grown)));
    }
    return without_noise(residual, part(wanted, kNoisePart));
  }

  std::vector<Holder> holders(const Watched& one) {
    std::vector<Holder> found;
    for (const os::ProcessIdentity& process : one.processes) {
      const Bytes bytes = probes.held({process}).total();
      if (bytes == Bytes()) continue;
      const auto stat = os::read_process_stat(process.pid);
      found.push_back({.pid = process.pid, .name = stat ? stat->name : std::string("?"), .bytes = bytes});
    }
    std::ranges::sort(found, std::ranges::greater(), &Holder::bytes);
    return found;
  }

  Task<ReleaseMeasured> measure_release(std::shared_ptr<Impl> self, MeasureRelease command) {
    const Duration early = command.not_before - clock.now();
    if (early > Duration::zero()) co_await stopped.wait(early);
    Watched* one = find(command.upstream);
    if (one == nullptr) {
      co_return ReleaseMeasured{.instance = command.instance,
                                .generation = command.generation,
                                .residual = {},
                                .holders = {},
                                .devices = probes.devices(),
                                .method = "none",
                                .complete = false};
    }
    co_return release(*one, command);
  }

  // Counts as in use for as long as it lives.
  class Busy {
   public:
    explicit Busy(Watched& one) : one_(one) { ++one_.busy; }
    ~Busy() { --one_.busy; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    Watched& one_;
  };
};

Upstreams::Upstreams(boost::asio::any_io_executor executor, const Clock& clock,
                     std::vector<std::shared_ptr<UpstreamServer>> servers, Listener listener, Probes probes,
                     UpstreamsOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), clock, std::move(listener), std::move(probes),
                                   options)) {
  for (auto& server : servers) {
    LM_ASSERT(impl_->find(server->description().id) == nullptr, "upstreams have different names");
    impl_->all.push_back(std::make_unique<Impl::Watched>(std::move(server), impl_->executor));
  }
}

Upstreams::~Upstreams() = default;

Task<> Upstreams::watch() {
  const auto impl = impl_;
  for (const auto& one : impl->all) impl->gate.start(impl->watch(impl, one.get()));
  co_await impl->stopped.wait(Duration::max());
  co_await impl->gate.wait_empty(Duration::max());
}

Task<> Upstreams::stop() {
  const auto impl = impl_;
  impl->gate.close();
  impl->stopped.open();
  impl->gate.cancel();
  co_await impl->gate.wait_empty(Duration::max());
}

Task<> Upstreams::wait_until_seen(Duration limit) {
  const auto impl = impl_;
  const TimePoint end = impl->clock.now() + limit;
  for (const auto& one : impl->all) {
    while (one->looks_ended == 0 && !impl->stopped.is_open() && impl->clock.now() < end) {
      const Latch ended = one->look_ended;
      co_await ended.wait(end - impl->clock.now());
    }
  }
}

Task<> Upstreams::look_again(UpstreamId id, Duration limit) {
  const auto impl = impl_;
  if (auto* one = impl->find(id)) co_await impl->next_look(impl, one, limit);
}

std::vector<Model> Upstreams::models() const {
  std::vector<Model> models;
  for (const auto& one : impl_->all) {
    for (const Model& model : one->models) {
      models.push_back(model);
      if (one->problem) models.back().problem = one->problem;
    }
  }
  return models;
}

std::vector<Upstream> Upstreams::upstreams() const {
  std::vector<Upstream> upstreams;
  for (const auto& one : impl_->all) upstreams.push_back(one->description);
  return upstreams;
}

std::vector<Upstreams::Trouble> Upstreams::troubles() const {
  std::vector<Trouble> found;
  for (const auto& one : impl_->all) {
    if (!one->problem && one->seen) continue;
    const Error error = one->problem.value_or(
        Error{.code = ErrorCode::kUnavailable,
              .message = fmt::format("{} has not answered at {} yet", Impl::name(*one), one->description.url),
              .reason = "upstream_unreachable",
              .fields = {{"upstream", one->description.id.str()}},
              .retry_after = {}});
    found.push_back({one->description, error, one->models.empty()});
  }
  return found;
}

bool Upstreams::all_seen() const {
  return std::ranges::all_of(impl_->all, [](const auto& one) { return one->seen; });
}

void Upstreams::take_over(const Upstreams& former) {
  for (const auto& one : impl_->all) {
    const auto* before = former.impl_->find(one->description.id);
    if (before == nullptr || before->description.family != one->description.family) continue;
    if (before->server->configured() != one->server->configured()) continue;
    one->models = before->models;
    if (before->description == one->description) one->problem = before->problem;
  }
}

std::shared_ptr<UpstreamServer> Upstreams::find(const UpstreamId& id) const {
  const auto* one = impl_->find(id);
  return one != nullptr ? one->server : nullptr;
}

void Upstreams::touch(const UpstreamId& id) {
  auto* one = impl_->find(id);
  if (one == nullptr) return;
  const bool was_used = impl_->in_use(*one);
  one->used = impl_->clock.now();
  // Its watch sleeps for longer than suits one in use.
  if (!was_used) impl_->wake(*one);
}

void Upstreams::look_at(const UpstreamId& id) {
  if (auto* one = impl_->find(id)) impl_->look_at_once(*one);
}

namespace {

Error not_configured(const Model& model) {
  return {.code = ErrorCode::kNotFound,
          .message = fmt::format("{} belongs to no upstream that is configured", model.id.str()),
          .reason = "model_not_found",
          .fields = {},
          .retry_after = {}};
}

}  // namespace

void Upstreams::load(InstanceId instance, Generation generation, const Model& model) {
  auto* one = model.remote ? impl_->find(model.remote->upstream) : nullptr;
  if (one == nullptr) {
    impl_->post(LoadFailed{instance, generation, not_configured(model)});
    return;
  }
  impl_->gate.start(impl_->load(impl_, one, instance, generation, model.remote->name));
}

void Upstreams::load_also(InstanceId instance, Generation generation, const Model& model) {
  auto* one = model.remote ? impl_->find(model.remote->upstream) : nullptr;
  if (one == nullptr) {
    impl_->post(UpstreamLoaded{instance, generation, model.id, not_configured(model)});
    return;
  }
  impl_->gate.start(impl_->load_also(impl_, one, instance, generation, model));
}

void Upstreams::evict(EvictUpstream command) {
  auto* one = impl_->find(command.upstream);
  if (one == nullptr) {
    impl_->post(
        UpstreamYielded{command.instance, command.generation,
                        Error{.code = ErrorCode::kNotFound,
                              .message = fmt::format("no upstream is named {}", command.upstream.str()),
                              .reason = {},
                              .fields = {},
                              .retry_after = {}}});
    return;
  }
  // Now, not when the task begins: whoever dies in between is one of those that may leave something behind.
  impl_->remember_before(*one);
  impl_->gate.start(impl_->evict(impl_, one, std::move(command)));
}

Task<ReleaseMeasured> Upstreams::measure_release(MeasureRelease command) {
  return impl_->measure_release(impl_, std::move(command));
}

}  // namespace lm::backend
