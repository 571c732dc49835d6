#include "core/change_cost.h"

#include <algorithm>
#include <utility>

namespace lm::core {
namespace {

// What took longer waited for something else, such as a worker that would not end.
constexpr Duration kLongest = std::chrono::minutes(2);

Duration at_most_four_times(Duration believed, Duration measured) {
  return std::min({measured, std::max(4 * believed, ChangeCost::kGuess), kLongest});
}

Duration moved(Duration mean, Duration by) {
  return from_seconds(0.8 * seconds(mean) + 0.2 * seconds(by));
}

}  // namespace

void ChangeCost::loaded(Duration took) {
  measured(took, Basis::kLoads);
}

void ChangeCost::changed(Duration took, Duration room, bool first) {
  measured(took, first ? Basis::kFirstChanges : Basis::kChanges);
  room_ = std::exchange(any_change_, true) ? moved(room_, at_most_four_times(room_, room))
                                           : std::min(room, kLongest);
}

void ChangeCost::measured(Duration cost, Basis kind) {
  if (kind < basis_) return;
  if (std::exchange(basis_, kind) < kind) {
    value_ = std::min(cost, kLongest);
    return;
  }
  value_ = moved(value_, at_most_four_times(value_, cost));
}

}  // namespace lm::core
