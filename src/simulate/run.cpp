#include "simulate/run.h"

#include <algorithm>
#include <deque>
#include <map>
#include <queue>
#include <variant>

#include "base/assert.h"
#include "core/arbiter.h"

namespace lm::simulate {
namespace {

// The workers, the probe and the clients around an arbiter.
class VirtualMachine {
 public:
  VirtualMachine(const Machine& machine, const Workload& workload, const Settings& settings)
      : machine_(machine), workload_(workload), arbiter_(settings) {
    run_.answers.resize(workload.arrivals.size());
    run_.models.resize(machine.models.size());
    to_ask_.resize(static_cast<std::size_t>(workload.clients));
    for (std::size_t row = 0; row < workload.arrivals.size(); ++row) {
      const Arrival& arrival = workload.arrivals[row];
      if (arrival.client >= 0) {
        std::deque<std::size_t>& rows = to_ask_.at(static_cast<std::size_t>(arrival.client));
        rows.push_back(row);
        if (rows.size() > 1) continue;
      }
      coming_.push({.at = TimePoint(arrival.at), .row = row});
    }
    for (const std::string& name : workload.models) {
      const auto found = std::ranges::find(machine.models, name, &SimulatedModel::name);
      LM_ASSERT(found != machine.models.end(), "the machine has the workload's models");
      asked_.push_back(static_cast<std::size_t>(found - machine.models.begin()));
    }
    configure(settings);
  }

  RunRecord play(std::optional<Duration> horizon) {
    const TimePoint end = horizon ? TimePoint(*horizon) : TimePoint::max();
    while (happen_next(end)) {
    }
    const bool is_cut = horizon && (left_ > 0 || !coming_.empty());
    if (is_cut) run_.demand = arbiter_.snapshot(now_).demand;
    run_.ended = is_cut ? *horizon : now_.time_since_epoch();
    return std::move(run_);
  }

 private:
  // What will happen of itself, unless its worker is gone by then.
  struct Due {
    enum class What : std::uint8_t {
      kPredicted,
      kLoaded,
      kExited,
      kReleased,
      kBegan,
      kAnswered,
      kCut,
      kSetAside
    };
    TimePoint at;
    std::uint64_t order;  // of two at the same time, the one that was set going first
    What what;
    std::uint64_t id;  // of the instance, or of the request
    bool operator>(const Due& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  struct Coming {
    TimePoint at;
    std::size_t row;  // of the workload's arrivals: of two at the same time, the first
    bool operator>(const Coming& other) const { return at != other.at ? at > other.at : row > other.row; }
  };
  struct Worker {
    Generation generation;
    std::size_t model;
    TimePoint ordered_at;
    bool stopping = false;
    bool sets_aside = false;  // answers, before it ends
  };

  void configure(const Settings& settings) {
    std::vector<Device> devices;
    for (const SimulatedDevice& device : machine_.devices) {
      devices.push_back({.id = DeviceId(device.name),
                         .kind = DeviceKind::kOther,
                         .name = device.name,
                         .capacity = device.memory,
                         .headroom = device.headroom,
                         .limit = {}});
    }
    Settings mine = settings;
    std::vector<Model> models;
    for (const SimulatedModel& described : machine_.models) {
      Model& model = models.emplace_back();
      model.id = ModelId(described.name);
      model.artifact.fingerprint = described.name;
      model.policy.pinned = described.pinned;
      model.policy.weight = described.weight;
      by_name_.emplace(model.id, by_name_.size());
      // A load here tells no progress: it is not silent for that.
      mine.limits.load_silence = std::max(mine.limits.load_silence, 2 * described.load);
    }
    tell(SettingsChanged{mine, std::move(devices)});
    tell(ModelsChanged{std::move(models), {}});
  }

  bool happen_next(TimePoint end) {
    // Pins are loaded and idle models unloaded for nobody: once all is answered the run is over.
    if (coming_.empty() && left_ == 0) return false;
    TimePoint next = TimePoint::max();
    const TimePoint arrival = coming_.empty() ? TimePoint::max() : coming_.top().at;
    if (!agenda_.empty()) next = agenda_.top().at;
    next = std::min({next, arrival, timer_.value_or(TimePoint::max())});
    LM_ASSERT(next != TimePoint::max(), "whoever waits is waited for by somebody");
    if (next > end) return false;
    now_ = std::max(now_, next);
    // What ends makes room before the next one asks for it.
    if (!agenda_.empty() && agenda_.top().at <= now_) {
      const Due due = agenda_.top();
      agenda_.pop();
      happen(due);
    } else if (arrival <= now_) {
      arrive();
    } else {
      timer_.reset();
      tell(TimerFired{});
    }
    return true;
  }

  void arrive() {
    const std::size_t row = coming_.top().row;
    coming_.pop();
    ++left_;
    run_.answers[row].fate = Answered::Fate::kWaiting;
    run_.answers[row].asked = now_.time_since_epoch();
    const auto model = static_cast<std::size_t>(workload_.arrivals[row].model);
    tell(RequestArrived{RequestId(row + 1),
                        ModelId(machine_.models[asked_[model]].name),
                        PriorityClass::kInteractive,
                        {},
                        machine_.set_aside.has_value()});
    if (coming_.empty()) run_.demand = arbiter_.snapshot(now_).demand;
  }

  // What was asked has ended, and whoever asks one after the other goes on.
  void ended(std::uint64_t request) {
    --left_;
    const int client = workload_.arrivals[request - 1].client;
    if (client < 0) return;
    std::deque<std::size_t>& rows = to_ask_[static_cast<std::size_t>(client)];
    rows.pop_front();
    if (rows.empty()) return;
    coming_.push({.at = std::max(now_, TimePoint(workload_.arrivals[rows.front()].at)), .row = rows.front()});
  }

  void happen(const Due& due) {
    const InstanceId instance(due.id);
    const auto worker = workers_.find(instance);
    switch (due.what) {
      case Due::What::kPredicted:
        if (const auto wanted = predictions_.find(instance); wanted != predictions_.end()) {
          const auto [generation, model] = wanted->second;
          predictions_.erase(wanted);
          tell(FootprintPredicted{
              instance, generation, Footprint{bytes_of(model), FootprintSource::kPredicted}, {}});
        }
        return;
      case Due::What::kLoaded:
        // Told to end while it loaded, or gone already.
        if (worker == workers_.end() || worker->second.stopping) return;
        tell(LoadSucceeded{instance, worker->second.generation, bytes_of(worker->second.model), Bytes(),
                           machine_.models[worker->second.model].slots, 0, now_ - worker->second.ordered_at});
        return;
      case Due::What::kExited:
        tell(WorkerExited{instance, worker->second.generation, "exited with 0",
                          bytes_of(worker->second.model), Bytes()});
        return;
      case Due::What::kReleased: {
        const Generation generation = worker->second.generation;
        workers_.erase(worker);
        tell(ReleaseMeasured{instance, generation, {}, {}, {}, "process"});
        return;
      }
      case Due::What::kBegan:
        if (answering_.contains(due.id)) tell(AnswerBegan{RequestId(due.id)});
        return;
      case Due::What::kAnswered:
        // Of an answer that was set aside meanwhile: it ends later.
        if (const auto answer = answering_.find(due.id);
            answer != answering_.end() && answer->second == due.at)
          end_answer(due.id, Answered::Fate::kAnswered);
        return;
      case Due::What::kSetAside:
        return set_aside(due.id);
      case Due::What::kCut:
        return end_answer(due.id, Answered::Fate::kCut);
    }
  }

  void set_aside(std::uint64_t request) {
    Answered& answer = run_.answers[request - 1];
    if (answer.fate != Answered::Fate::kAnswering) return;  // it ended in the same moment
    answer.fate = Answered::Fate::kWaiting;
    aside_.insert_or_assign(request, answering_.at(request) - now_);
    answering_.erase(request);
    const std::size_t model = asked_[static_cast<std::size_t>(workload_.arrivals[request - 1].model)];
    ++run_.models[model].preempted;
    ++waiting_aside_[ModelId(machine_.models[model].name)];
    tell(RequestPreempted{RequestId(request)});
  }

  void end_answer(std::uint64_t request, Answered::Fate fate) {
    Answered& answer = run_.answers[request - 1];
    if (answer.fate != Answered::Fate::kAnswering) return;  // it was cut off before
    answer.fate = fate;
    answer.ended = now_.time_since_epoch();
    answering_.erase(request);
    ended(request);
    tell(LeaseReleased{RequestId(request)});
  }

  DeviceBytes bytes_of(std::size_t model) const {
    const SimulatedModel& described = machine_.models[model];
    return {{DeviceId(machine_.find_device(described.device)->name), described.memory}};
  }

  // From the grant to the answer's first token. What was read once is kept with the answer that is set aside.
  Duration reading(std::uint64_t request) const {
    const Arrival& arrival = workload_.arrivals[request - 1];
    if (!workload_.by_tokens) return {};
    return machine_.models[asked_[static_cast<std::size_t>(arrival.model)]].service(arrival.context, 0);
  }

  Duration service(std::uint64_t request) const {
    const Arrival& arrival = workload_.arrivals[request - 1];
    if (!workload_.by_tokens) return arrival.service;
    return machine_.models[asked_[static_cast<std::size_t>(arrival.model)]].service(arrival.context,
                                                                                    arrival.generated);
  }

  void set_going(TimePoint at, Due::What what, std::uint64_t id) {
    agenda_.push({.at = std::max(at, now_), .order = ++last_order_, .what = what, .id = id});
  }

  void tell(const Event& event) {
    for (const Command& command : arbiter_.step(event, now_))
      std::visit([this](const auto& c) { carry_out(c); }, command);
  }

  // ---- commands. Each kind is named: a new one has to be thought of here too.

  void carry_out(const PredictFootprint& c) {
    predictions_.insert_or_assign(c.instance, std::pair(c.generation, by_name_.at(c.model)));
    set_going(now_, Due::What::kPredicted, c.instance.value());
  }
  void carry_out(const StartLoad& c) {
    const std::size_t model = by_name_.at(c.model);
    workers_.insert_or_assign(c.instance,
                              Worker{.generation = c.generation, .model = model, .ordered_at = now_});
    ++run_.models[model].loads;
    run_.models[model].moved += machine_.models[model].memory;
    Duration load = machine_.models[model].load;
    if (waiting_aside_.contains(c.model)) load += *machine_.set_aside;
    set_going(now_ + load, Due::What::kLoaded, c.instance.value());
  }
  void carry_out(const StopInstance& c) {
    const auto worker = workers_.find(c.instance);
    if (worker == workers_.end() || worker->second.stopping) return;
    worker->second.stopping = true;
    Duration unload = machine_.models[worker->second.model].unload;
    if (worker->second.sets_aside) unload += *machine_.set_aside;
    set_going(now_ + unload, Due::What::kExited, c.instance.value());
  }
  void carry_out(const MeasureRelease& c) {
    set_going(c.not_before, Due::What::kReleased, c.instance.value());
  }
  void carry_out(const GrantLease& c) {
    Answered& answer = run_.answers[c.request.value() - 1];
    LM_ASSERT(answer.fate == Answered::Fate::kWaiting, "a request is answered once");
    const std::uint64_t id = c.request.value();
    answer.fate = Answered::Fate::kAnswering;
    Duration left = service(id);
    Duration reads = reading(id);
    if (const auto aside = aside_.find(id); aside != aside_.end()) {
      left = aside->second;
      reads = {};
      aside_.erase(aside);
      if (--waiting_aside_.at(c.model) == 0) waiting_aside_.erase(c.model);
    } else {
      answer.granted = now_.time_since_epoch();
    }
    answering_.insert_or_assign(id, now_ + left);
    if (machine_.set_aside) set_going(now_ + std::min(reads, left), Due::What::kBegan, id);
    set_going(now_ + left, Due::What::kAnswered, id);
  }
  void carry_out(const TellWait& c) { run_.answers[c.request.value() - 1].expected = c.wait.wait; }
  void carry_out(const RejectRequest& c) {
    Answered& answer = run_.answers[c.request.value() - 1];
    LM_ASSERT(answer.fate == Answered::Fate::kWaiting, "a request is answered once");
    answer.fate = Answered::Fate::kRefused;
    aside_.erase(c.request.value());
    answer.ended = now_.time_since_epoch();
    ended(c.request.value());
  }
  void carry_out(const CutRequests& c) {
    for (const RequestId request : c.requests) set_going(now_, Due::What::kCut, request.value());
  }
  void carry_out(const PreemptRequests& c) {
    Worker& worker = workers_.at(c.instance);
    worker.sets_aside = true;
    for (const RequestId request : c.requests) set_going(now_, Due::What::kSetAside, request.value());
  }
  void carry_out(const DropStates&) { LM_ASSERT(false, "no conversations are kept here"); }
  void carry_out(const ArmTimer& c) { timer_ = c.at; }
  void carry_out(const EvictUpstream&) { LM_ASSERT(false, "there is no upstream here"); }
  void carry_out(const LoadAtUpstream&) { LM_ASSERT(false, "there is no upstream here"); }
  void carry_out(const FinishShutdown&) { LM_ASSERT(false, "nobody shuts this machine down"); }
  // Told for people and for the store.
  void carry_out(const BeginDrain&) {}
  void carry_out(const FinishJob&) {}
  void carry_out(const RecordFootprint&) {}
  void carry_out(const RecordDecision&) {}
  void carry_out(const PublishState&) {}
  void carry_out(const PublishSwitch&) {}
  void carry_out(const RecordHold&) {}
  void carry_out(const RecordPin&) {}

  const Machine& machine_;
  const Workload& workload_;
  core::Arbiter arbiter_;
  std::vector<std::size_t> asked_;  // for each of the workload's models, which of the machine's it is
  std::map<ModelId, std::size_t> by_name_;
  std::map<InstanceId, std::pair<Generation, std::size_t>> predictions_;
  std::map<InstanceId, Worker> workers_;
  std::map<std::uint64_t, TimePoint> answering_;  // requests, until when
  std::map<std::uint64_t, Duration> aside_;       // requests that were set aside, with what is left of them
  std::map<ModelId, int> waiting_aside_;          // how many of each model
  std::priority_queue<Due, std::vector<Due>, std::greater<>> agenda_;
  std::optional<TimePoint> timer_;
  TimePoint now_{};
  std::priority_queue<Coming, std::vector<Coming>, std::greater<>> coming_;
  std::vector<std::deque<std::size_t>> to_ask_;  // for each client its rows that have not ended
  std::uint64_t left_ = 0;                       // arrived and not ended
  std::uint64_t last_order_ = 0;
  RunRecord run_;
};

}  // namespace

RunRecord run(const Machine& machine, const Workload& workload, const Settings& settings,
              std::optional<Duration> horizon) {
  return VirtualMachine(machine, workload, settings).play(horizon);
}

}  // namespace lm::simulate
