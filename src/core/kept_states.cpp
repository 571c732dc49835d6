#include "core/kept_states.h"

#include <algorithm>
#include <tuple>

namespace lm::core {
namespace {

bool goes_before(const KeptState& a, const KeptState& b) {
  return std::tuple(!a.loaded, a.last_used, a.id) < std::tuple(!b.loaded, b.last_used, b.id);
}

Bytes sum_of(std::span<const KeptState> states) {
  Bytes sum;
  for (const KeptState& state : states) sum += state.size;
  return sum;
}

// Takes from the front of `states`, which are in the order of their going, until `budget` holds.
std::vector<KeptState> overflow(std::vector<KeptState>& states, Bytes budget) {
  Bytes sum = sum_of(states);
  auto end = states.begin();
  for (; end != states.end() && sum > budget; ++end) sum -= end->size;
  std::vector<KeptState> gone(states.begin(), end);
  states.erase(states.begin(), end);
  return gone;
}

}  // namespace

StateMoves keep_within(std::span<const KeptState> states, const StateBudget& budget) {
  std::vector<KeptState> memory, disk;
  for (const KeptState& state : states) (state.in_memory ? memory : disk).push_back(state);
  std::ranges::sort(memory, goes_before);

  StateMoves moves;
  for (KeptState& state : overflow(memory, budget.memory)) {
    const bool quicker = budget.disk_rate > 0 && from_seconds(static_cast<double>(state.size.count()) /
                                                              budget.disk_rate) < state.reread;
    // One that is larger than the disk's budget would push out everything there, and itself.
    if (quicker && state.size <= budget.disk) {
      disk.push_back(state);
    } else {
      moves.drop.push_back(state.id);
    }
  }
  std::ranges::sort(disk, goes_before);
  for (const KeptState& state : overflow(disk, budget.disk)) moves.drop.push_back(state.id);
  for (const KeptState& state : disk) {
    if (state.in_memory) moves.spill.push_back(state.id);
  }
  return moves;
}

}  // namespace lm::core
