// The six guarantees of the policy (docs/scheduling.md), each as a play: a machine of which one model fits
// and clients who want several, watched as somebody sees it who knows nothing of the arbiter but its events
// and commands. Each play reports what it finds broken as failures of the running test.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/arbiter_seeds.h"
#include "core/arbiter_world.h"

namespace lm::core::testing {

// What is wrong with the arbiter; nothing, but where a check is tested.
struct Defect {
  SchedulingPolicy policy = SchedulingPolicy::kGated;
  std::function<void(World&, Commands&)> tamper = {};
};

// One square of the grid: every load with every number of models, wanted equally and unequally.
struct Square {
  static constexpr double kLoads[] = {0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95};
  static constexpr std::uint64_t kCount = std::size(kLoads) * 5 * 2;
  static Square of(std::uint64_t seed) {
    return {.load = kLoads[seed % std::size(kLoads)],
            .models = 2 + static_cast<int>(seed / std::size(kLoads) % 5),
            .equal = seed / (std::size(kLoads) * 5) % 2 == 0};
  }
  double load = 1;
  int models = 2;
  bool equal = true;
};

inline std::string name_of_model(int m) {
  return std::string(1, static_cast<char>('a' + m));
}

inline Settings one_at_a_time(const Defect& defect) {
  Settings settings = World::plain();
  settings.residency.max_loaded = 1;
  settings.scheduling.policy = defect.policy;
  return settings;
}

// Nobody is refused: neither for the length of a queue nor for that of a wait.
inline Settings patient(Settings settings) {
  settings.scheduling.queue_per_model = settings.scheduling.queue_total = 1'000'000;
  settings.scheduling.wait_interactive = settings.scheduling.wait_batch = std::chrono::hours(1000);
  return settings;
}

// Models of which one fits, with loads, ends and slots of their own, and who asks for them: at random, so
// that the answers come to `square.load` of what the machine can answer without changes.
struct Traffic {
  Traffic(Dice& random, const Square& wanted, const Settings& settings, const Defect& defect)
      : dice(random), square(wanted), world(settings), mean(dice.real(0.2, 4)) {
    world.keep_no_commands();
    if (defect.tamper) world.tamper = [this, tamper = defect.tamper](Commands& c) { tamper(world, c); };
    world.add_device("gpu", gib(10));
    const double skew = square.equal ? 0 : dice.real(0.5, 2);
    double work = 0;
    for (int m = 0; m < square.models; ++m) {
      world.add_model(name_of_model(m), gib(6));
      Truth& truth = world.truth(name_of_model(m));
      truth.slots = dice.between(1, 4);
      truth.load_time = sec(dice.real(0.1, 2));
      truth.stop_time = sec(dice.real(0, 0.1));
      truth.release_delay = sec(dice.real(0, 0.05));
      shares.push_back(std::pow(m + 1, -skew));
      all_shares += shares.back();
      work += shares.back() * mean / truth.slots;
      longest_change = std::max(longest_change, seconds(truth.load_time) + 0.2);
    }
    rate = square.load * all_shares / work;
    world.configure();
  }
  // Time passes until the next request; for whom it is.
  std::string next() {
    world.run_for(dice.exponential(1 / rate));
    double at = dice.real(0, all_shares);
    std::size_t m = 0;
    while (m + 1 < shares.size() && (at -= shares[m]) > 0) ++m;
    return name_of_model(static_cast<int>(m));
  }

  Dice& dice;
  Square square;
  World world;
  double mean;  // of the answers' lengths, seconds
  double rate = 0;
  double longest_change = 0;  // seconds, without a drain
  std::vector<double> shares;
  double all_shares = 0;
};

// What becomes of the requests and of the time, seen from outside. From its beginning on it checks G3 (a
// model that was loaded served somebody, or somebody gave up on it) and G5 (nobody waits beyond a deadline).
class Watch {
 public:
  explicit Watch(World& world) : world_(world) {
    world.on_event = [this](const Event& event, TimePoint now) {
      pass(now);
      if (const auto* e = std::get_if<RequestArrived>(&event)) begin_wait(e->request);
      if (const auto* e = std::get_if<RequestCancelled>(&event); e != nullptr && end_wait(e->request))
        was_given_up(world_.of(e->request).model);
      if (std::holds_alternative<LeaseReleased>(event)) --active_;
      if (const auto* e = std::get_if<RequestPreempted>(&event)) {
        --active_;
        ++preemptions;
        begin_wait(e->request);
      }
    };
    world.on_command = [this](const Command& command, TimePoint now) {
      pass(now);
      std::visit([&](const auto& c) { see(c, now); }, command);
      most_waiting = std::max(most_waiting, waiting());
    };
  }
  // From now on; what was before does not count.
  void begin_anew() {
    from_ = last_ = world_.now();
    dead_ = 0;
    most_waiting = 0;
  }
  // The share of the time in which somebody waited and nobody was answered.
  double dead_share() const { return dead_ / std::max(1e-9, seconds(last_ - from_)); }
  int waiting() const { return static_cast<int>(waiting_.size()); }

  int most_waiting = 0;
  int turns = 0;      // that have ended
  int fruitless = 0;  // in which nobody was served, for those who waited had left
  int preemptions = 0;
  std::map<ModelId, int> largest_batch;      // who waited when a turn began
  std::map<ModelId, Duration> longest_wait;  // of those who were served

 private:
  struct Life {
    ModelId model;
    int served = 0;
    int given_up = 0;  // requests for it, while it was loaded or in memory
  };

  void pass(TimePoint now) {
    if (active_ == 0 && !waiting_.empty()) dead_ += seconds(now - last_);
    last_ = now;
    if (!waiting_.empty()) {
      EXPECT_GE(waiting_.begin()->first, now)
          << "request " << waiting_.begin()->second.value() << " waits beyond its deadline";
    }
  }
  void begin_wait(RequestId id) {
    const Request& r = world_.of(id);
    waiting_.emplace(r.deadline, id);
    ++waiting_for_[r.model];
  }
  bool end_wait(RequestId id) {
    const Request& r = world_.of(id);
    if (waiting_.erase({r.deadline, id}) == 0) return false;
    --waiting_for_[r.model];
    return true;
  }
  void was_given_up(const ModelId& model) {
    for (auto& [id, life] : lives_) life.given_up += life.model == model ? 1 : 0;
  }

  void see(const GrantLease& c, TimePoint now) {
    const Request& r = world_.of(c.request);
    Duration& longest = longest_wait[r.model];
    longest = std::max(longest, now - r.waiting_since);
    ++lives_[c.instance].served;
    ++active_;
    end_wait(c.request);
  }
  void see(const RejectRequest& c, TimePoint now) {
    const Request& r = world_.of(c.request);
    if (end_wait(c.request) && now >= r.deadline) was_given_up(r.model);
  }
  void see(const StartLoad& c, TimePoint) { lives_[c.instance].model = c.model; }
  void see(const PublishState& c, TimePoint) {
    if (c.state == InstanceState::kReady) {
      int& largest = largest_batch[c.model];
      largest = std::max(largest, waiting_for_[c.model]);
    }
    if (c.state != InstanceState::kAbsent && c.state != InstanceState::kFailed) return;
    const auto life = lives_.find(c.instance);
    if (life == lives_.end()) return;
    EXPECT_GT(life->second.served + life->second.given_up, 0) << c.model.str() << " was loaded for nobody";
    ++turns;
    fruitless += life->second.served == 0 ? 1 : 0;
    lives_.erase(life);
  }
  template <class Told>
  void see(const Told&, TimePoint) {}

  World& world_;
  std::set<std::pair<TimePoint, RequestId>> waiting_;  // by deadline
  std::map<ModelId, int> waiting_for_;
  std::map<InstanceId, Life> lives_;
  TimePoint from_{};
  TimePoint last_{};
  double dead_ = 0;
  int active_ = 0;
};

// G1: nobody waits longer than its age cap and one turn of every model, where a turn is its batch, a quantum,
// a drain and a change: however much more is asked for than the machine can answer. The share of that bound
// that was needed.
inline double play_patience(Dice& dice, const Square& square, std::uint64_t events,
                            const Defect& defect = {}) {
  Settings settings = one_at_a_time(defect);
  settings.scheduling.queue_per_model = dice.between(4, 40);
  settings.scheduling.quantum_factor = dice.real(0, 8);
  settings.scheduling.age_cap_interactive = sec(dice.real(1, 30));
  settings.scheduling.drain = sec(dice.real(0, 2));
  settings.scheduling.wait_interactive = std::chrono::hours(1000);
  Traffic traffic(dice, square, settings, defect);
  World& world = traffic.world;
  Watch watch(world);
  const double longest = 1.9 * traffic.mean;
  while (world.steps() < events) {
    const std::string model = traffic.next();
    world.request(model, sec(dice.real(0.1 * traffic.mean, longest)), PriorityClass::kInteractive, {},
                  dice.chance(50));
  }
  world.run_for(std::chrono::hours(3));
  EXPECT_EQ(watch.waiting(), 0);
  EXPECT_EQ(world.out_of_memory(), 0) << "room is proved free before it is promised";
  const auto batch = [&](const std::string& model) {
    return std::ceil(1.0 * watch.largest_batch[ModelId(model)] / world.truth(model).slots) * longest;
  };
  // The cost of a change as it is measured has the drain in it; before anything is measured it is two
  // seconds.
  const double quantum = std::max(seconds(settings.scheduling.quantum_min),
                                  settings.scheduling.quantum_factor * (traffic.longest_change + longest));
  double round = 0;
  for (int m = 0; m < square.models; ++m)
    round += batch(name_of_model(m)) + quantum + longest + traffic.longest_change;
  double worst = 0;
  for (const auto& [model, wait] : watch.longest_wait) {
    const double bound = seconds(settings.scheduling.age_cap_interactive) + round + batch(model.str());
    EXPECT_LE(seconds(wait), bound) << "somebody waited too long for " << model.str() << ", one of "
                                    << square.models << " at " << square.load;
    worst = std::max(worst, seconds(wait) / bound);
  }
  return worst;
}

// G2: where all models are wanted all the time, changes cost at most one part in k + 1 of it. The part.
inline double play_saturation(Dice& dice, const Square& square, std::uint64_t events,
                              const Defect& defect = {}) {
  Settings settings = one_at_a_time(defect);
  settings.scheduling.quantum_factor = 8;
  // Who waits for too long comes before what changes cost: not what is looked at here.
  settings.scheduling.age_cap_interactive = std::chrono::hours(10);
  settings.scheduling.drain = sec(dice.real(0, 2));
  Traffic traffic(dice, square, settings, defect);
  World& world = traffic.world;
  // A client asks again as good as at once when it has its answer: none of the models is ever without
  // somebody who waits, however short its answers are.
  std::function<void(std::string)> ask;
  std::function<void(std::string, RequestId)> look = [&](const std::string& model, RequestId id) {
    const RequestFate fate = world.fate(id);
    if (fate != RequestFate::kWaiting && fate != RequestFate::kGranted) return ask(model);
    world.after(sec(traffic.mean / 50), [&look, model, id] { look(model, id); });
  };
  ask = [&](const std::string& model) {
    if (world.steps() >= events) return;
    look(model, world.request(model, dice.exponential(traffic.mean), PriorityClass::kInteractive, {},
                              dice.chance(50)));
  };
  Watch watch(world);
  for (int m = 0; m < square.models; ++m) {
    const int clients = 2 * world.truth(name_of_model(m)).slots + (square.equal ? 2 : dice.between(1, 12));
    for (int i = 0; i < clients; ++i) ask(name_of_model(m));
  }
  // The first changes are made on a guess.
  while (world.steps() < events / 4) world.run_for(sec(1));
  watch.begin_anew();
  while (world.steps() < events) world.run_for(sec(1));
  EXPECT_LE(watch.dead_share(), 1.05 / 9)
      << "of the time goes by in changes, with " << square.models << " models";
  return watch.dead_share();
}

// Both classes, answers that can be set aside, clients that are in a hurry and clients that leave.
inline void play_restless(Traffic& traffic, std::uint64_t events) {
  Dice& dice = traffic.dice;
  World& world = traffic.world;
  std::vector<RequestId> asked;
  while (world.steps() < events) {
    const std::string model = traffic.next();
    std::optional<Duration> deadline;
    if (dice.chance(30)) deadline = dice.exponential(10);
    asked.push_back(world.request(model, dice.exponential(traffic.mean),
                                  dice.chance(60) ? PriorityClass::kInteractive : PriorityClass::kBatch,
                                  deadline, dice.chance(60)));
    if (dice.chance(20)) {
      const RequestId one = dice.one_of(asked);
      if (world.fate(one) == RequestFate::kWaiting) world.cancel(one);
    }
    if (asked.size() > 20) asked.erase(asked.begin());
  }
}

struct Turns {
  int all, fruitless, preemptions;
};

// G3, and G4, which the world itself checks at every grant.
inline Turns play_turns(Dice& dice, const Square& square, std::uint64_t events, const Defect& defect = {}) {
  Settings settings = one_at_a_time(defect);
  settings.scheduling.quantum_factor = dice.real(0, 8);
  settings.scheduling.age_cap_interactive = sec(dice.real(1, 30));
  settings.scheduling.drain = sec(dice.real(0, 2));
  Traffic traffic(dice, square, settings, defect);
  Watch watch(traffic.world);
  play_restless(traffic, events);
  EXPECT_EQ(traffic.world.out_of_memory(), 0) << "room is proved free before it is promised";
  return {watch.turns, watch.fruitless, watch.preemptions};
}

// G5: whoever waits is told by its deadline, also where nothing outside answers any more; and until then
// there is an instance on its way that it waits for. How many waited in silence.
inline int play_deadlines(Dice& dice, const Square& square, std::uint64_t events, const Defect& defect = {}) {
  Settings settings = one_at_a_time(defect);
  settings.scheduling.wait_interactive = sec(dice.real(1, 60));
  settings.scheduling.wait_batch = sec(dice.real(1, 120));
  Traffic traffic(dice, square, settings, defect);
  World& world = traffic.world;
  Watch watch(world);
  play_restless(traffic, events);
  for (const ModelView& view : world.snapshot().models) {
    const bool wanted = std::ranges::any_of(world.requests(), [&](const auto& r) {
      return r.second.fate == RequestFate::kWaiting && r.second.model == view.model.id;
    });
    EXPECT_TRUE(!wanted || view.instance) << "somebody waits for nothing";
  }
  const int waiting = watch.waiting();
  world.fall_silent();
  world.run_for(minutes(5));
  EXPECT_EQ(watch.waiting(), 0) << "and nobody tells them";
  return waiting;
}

// G6: queues stay within what the turns of all models make of them, and at the end everybody is served. The
// share of that bound that was needed.
inline double play_stability(Dice& dice, const Square& square, std::uint64_t events,
                             const Defect& defect = {}) {
  Traffic traffic(dice, square, patient(one_at_a_time(defect)), defect);
  World& world = traffic.world;
  Watch watch(world);
  std::vector<RequestId> all;
  while (world.steps() < events) {
    const std::string model = traffic.next();
    all.push_back(world.request(model, dice.exponential(traffic.mean), PriorityClass::kInteractive, {},
                                dice.chance(50)));
  }
  // A round: every model's quantum, its drain and its change. Below capacity those who came in a round are
  // served in the next ones, and what is left of the capacity says in how many.
  const double round = square.models * (9 * (traffic.longest_change + 3 * traffic.mean) + 2);
  const double bound = std::max(20.0, 0.5 * traffic.rate * round / (1 - square.load));
  EXPECT_LE(watch.most_waiting, bound)
      << "so many wait, for " << square.models << " models at " << square.load;
  world.run_for(std::chrono::hours(3));
  EXPECT_EQ(watch.waiting(), 0);
  for (const RequestId id : all) EXPECT_EQ(world.fate(id), RequestFate::kEnded) << world.reason(id);
  return watch.most_waiting / bound;
}

}  // namespace lm::core::testing
