// How the device's time is shared, at random: what changes cost at saturation (G2), and that no load below
// what the machine can answer makes queues grow without end (G6).
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "core/arbiter_seeds.h"
#include "core/arbiter_world.h"

namespace lm::core {
namespace {

using namespace testing;

std::string name_of_model(int m) {
  return std::string(1, static_cast<char>('a' + m));
}

// What the arbiter does with the time, seen from outside.
class Watch {
 public:
  explicit Watch(World& world) : world_(world) {
    world.on_event = [this](const Event& event, TimePoint now) {
      pass(now);
      if (std::holds_alternative<RequestArrived>(event)) ++waiting_;
      if (std::holds_alternative<LeaseReleased>(event)) --active_;
      if (std::holds_alternative<RequestPreempted>(event)) {
        --active_;
        ++waiting_;
      }
    };
    world.on_command = [this](const Command& command, TimePoint now) {
      pass(now);
      if (std::holds_alternative<GrantLease>(command)) {
        ++active_;
        --waiting_;
      }
      if (std::holds_alternative<RejectRequest>(command)) --waiting_;
      most_waiting = std::max(most_waiting, waiting_);
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
  int waiting() const { return waiting_; }

  int most_waiting = 0;

 private:
  void pass(TimePoint now) {
    if (active_ == 0 && waiting_ > 0) dead_ += seconds(now - last_);
    last_ = now;
  }

  World& world_;
  TimePoint from_{};
  TimePoint last_{};
  double dead_ = 0;
  int active_ = 0;
  int waiting_ = 0;
};

// Two to six models of which one fits, with loads, ends and slots of their own.
struct Shared {
  Shared(Dice& dice, Settings settings, int count) : models(count), world(settings) {
    world.keep_no_commands();
    world.add_device("gpu", gib(10));
    for (int m = 0; m < models; ++m) {
      const std::string name = name_of_model(m);
      world.add_model(name, gib(6));
      Truth& truth = world.truth(name);
      truth.slots = dice.between(1, 4);
      truth.load_time = sec(dice.real(0.1, 2));
      truth.stop_time = sec(dice.real(0, 0.1));
      truth.release_delay = sec(dice.real(0, 0.05));
    }
    world.configure();
  }
  int models;
  World world;
};

// G2: where all models are wanted all the time, changes cost at most one part in k + 1 of it.
TEST(ArbiterShares, ChangesCostLittleAtSaturation) {
  double worst = 0;
  for_each_seed(12, 4000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    Settings settings = World::plain();
    settings.residency.max_loaded = 1;
    settings.scheduling.quantum_factor = 8;
    // Who waits for too long comes before what changes cost: not what is looked at here.
    settings.scheduling.age_cap_interactive = std::chrono::hours(10);
    settings.scheduling.drain = sec(dice.real(0, 2));
    const int models = dice.between(2, 6);
    Shared shared(dice, settings, models);
    World& world = shared.world;
    const bool equal = dice.chance(50);
    const double mean = dice.real(0.2, 4);
    std::function<void(std::string)> ask;
    // A client asks again once it has its answer: none of the models is ever without somebody who waits.
    std::function<void(std::string, RequestId)> look = [&](const std::string& model, RequestId id) {
      const RequestFate fate = world.fate(id);
      if (fate != RequestFate::kWaiting && fate != RequestFate::kGranted) return ask(model);
      world.after(ms(200), [&look, model, id] { look(model, id); });
    };
    ask = [&](const std::string& model) {
      if (world.steps() >= events) return;
      look(model,
           world.request(model, dice.exponential(mean), PriorityClass::kInteractive, {}, dice.chance(50)));
    };
    Watch watch(world);
    for (int m = 0; m < shared.models; ++m) {
      const int clients = 2 * world.truth(name_of_model(m)).slots + (equal ? 2 : dice.between(1, 12));
      for (int i = 0; i < clients; ++i) ask(name_of_model(m));
    }
    // The first changes are made on a guess.
    while (world.steps() < events / 4) world.run_for(sec(1));
    watch.begin_anew();
    while (world.steps() < events) world.run_for(sec(1));
    worst = std::max(worst, watch.dead_share());
    EXPECT_LE(watch.dead_share(), 1.05 / 9) << shared.models << " models";
    return world.steps();
  });
  fmt::print("at most {:.1f} % of the time, of {:.1f} % allowed\n", 100 * worst, 100.0 / 9);
}

// One square of the grid: every load with every number of models, wanted equally and unequally.
struct Square {
  static constexpr double kLoads[] = {0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95};
  static constexpr std::uint64_t kCount = std::size(kLoads) * 5 * 2;
  explicit Square(std::uint64_t seed)
      : load(kLoads[seed % std::size(kLoads)]),
        models(2 + static_cast<int>(seed / std::size(kLoads) % 5)),
        equal(seed / (std::size(kLoads) * 5) % 2 == 0) {}
  double load;
  int models;
  bool equal;
};

// G6: at 10 to 95 % of what the machine can answer without changes, queues stay within what the turns of all
// models make of them, and at the end everybody is served.
TEST(ArbiterShares, AnyLoadBelowCapacityIsStable) {
  double worst = 0;
  std::set<std::tuple<double, int, bool>> squares;
  for_each_seed(Square::kCount, 4000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    const Square square(seed);
    const double load = square.load;
    squares.emplace(square.load, square.models, square.equal);
    Settings settings = World::plain();
    settings.residency.max_loaded = 1;
    settings.scheduling.queue_per_model = settings.scheduling.queue_total = 1'000'000;
    settings.scheduling.wait_interactive = settings.scheduling.wait_batch = std::chrono::hours(1000);
    Shared shared(dice, settings, square.models);
    World& world = shared.world;
    const double skew = square.equal ? 0 : dice.real(0.5, 2);
    const double mean = dice.real(0.2, 4);
    double shares = 0, work = 0, change = 0;
    for (int m = 0; m < shared.models; ++m) {
      const Truth& truth = world.truth(name_of_model(m));
      const double share = std::pow(m + 1, -skew);
      shares += share;
      work += share * mean / truth.slots;
      change = std::max(change, seconds(truth.load_time) + 0.2);
    }
    const double rate = load * shares / work;
    Watch watch(world);
    std::vector<RequestId> all;
    while (world.steps() < events) {
      world.run_for(dice.exponential(1 / rate));
      double at = dice.real(0, shares);
      int m = 0;
      while (m + 1 < shared.models && (at -= std::pow(m + 1, -skew)) > 0) ++m;
      all.push_back(world.request(name_of_model(m), dice.exponential(mean), PriorityClass::kInteractive, {},
                                  dice.chance(50)));
    }
    // A round: every model's quantum, its drain and its change. Below capacity those who came in a round are
    // served in the next ones, and what is left of the capacity says in how many.
    const double round = shared.models * (9 * (change + 3 * mean) + 2);
    const double bound = 0.5 * rate * round / (1 - load);
    worst = std::max(worst, watch.most_waiting / bound);
    EXPECT_LE(watch.most_waiting, std::max(20.0, bound)) << shared.models << " models at " << load;
    world.run_for(std::chrono::hours(3));
    EXPECT_EQ(watch.waiting(), 0);
    for (const RequestId id : all) EXPECT_EQ(world.fate(id), RequestFate::kEnded) << world.reason(id);
    return world.steps();
  });
  fmt::print("at most {:.2f} of the bound, {} of {} squares\n", worst, squares.size(), Square::kCount);
}

}  // namespace
}  // namespace lm::core
