// The guarantees at random: at loads from 10 to 95 % of what the machine can answer, for G1 and G2 above it,
// too; two to six models, wanted equally and unequally.
#include <set>
#include <tuple>

#include <fmt/format.h>

#include "core/arbiter_guarantees.h"

namespace lm::core {
namespace {

using namespace testing;

// Every square, so many times.
constexpr std::uint64_t kGrids = std::max(Square::kCount, worlds(5 * Square::kCount));

// Which squares were played.
class Grid {
 public:
  Square square(std::uint64_t seed) {
    const Square square = Square::of(seed);
    played_.emplace(square.load, square.models, square.equal);
    return square;
  }
  std::string told() const { return fmt::format("{} of {} squares", played_.size(), Square::kCount); }

 private:
  std::set<std::tuple<double, int, bool>> played_;
};

TEST(Guarantees, G1NobodyWaitsLongerThanOneTurnOfEveryModel) {
  double worst = 0;
  Grid grid;
  for_each_seed(kGrids, 2000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    Square square = grid.square(seed);
    if (seed / Square::kCount % 2 != 0) square.load *= 5;  // more than it can answer, too
    worst = std::max(worst, play_patience(dice, square, events));
    return events;
  });
  fmt::print("at most {:.2f} of the bound, {}\n", worst, grid.told());
}

TEST(Guarantees, G2ChangesCostLittleAtSaturation) {
  double worst = 0;
  for_each_seed(12, 4000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    const Square square{.load = 1, .models = dice.between(2, 6), .equal = dice.chance(50)};
    worst = std::max(worst, play_saturation(dice, square, events));
    return events;
  });
  fmt::print("at most {:.1f} % of the time, of {:.1f} % allowed\n", 100 * worst, 100.0 / 9);
}

TEST(Guarantees, G3NothingIsSwappedForNobody) {
  int turns = 0, fruitless = 0;
  Grid grid;
  for_each_seed(kGrids, 1000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    const Turns played = play_turns(dice, grid.square(seed), events);
    turns += played.all;
    fruitless += played.fruitless;
    return events;
  });
  EXPECT_GT(turns, 0);
  fmt::print("{} turns, {} of them for clients who left, {}\n", turns, fruitless, grid.told());
}

TEST(Guarantees, G4FirstComeFirstServedWithinModelAndClass) {
  int preemptions = 0;
  Grid grid;
  for_each_seed(kGrids, 1000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    preemptions += play_turns(dice, grid.square(seed), events).preemptions;
    return events;
  });
  EXPECT_GT(preemptions, 0) << "nobody ever came back to its place";
  fmt::print("{} came back to their places, {}\n", preemptions, grid.told());
}

TEST(Guarantees, G5EveryWaitEndsByItsDeadline) {
  int waited = 0;
  Grid grid;
  for_each_seed(kGrids, 1000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    waited += play_deadlines(dice, grid.square(seed), events);
    return events;
  });
  EXPECT_GT(waited, 0) << "nobody waited when the world fell silent";
  fmt::print("{} waited when nothing answered any more, {}\n", waited, grid.told());
}

TEST(Guarantees, G6AnyLoadBelowCapacityIsStable) {
  double worst = 0;
  Grid grid;
  for_each_seed(Square::kCount, 4000, [&](std::uint64_t seed, std::uint64_t events) {
    Dice dice(seed);
    worst = std::max(worst, play_stability(dice, grid.square(seed), events));
    return events;
  });
  fmt::print("at most {:.2f} of the bound, {}\n", worst, grid.told());
}

}  // namespace
}  // namespace lm::core
