#include "core/change_cost.h"

#include <algorithm>
#include <utility>

namespace lm::core {
namespace {

Duration moved(Duration mean, Duration by) {
  return from_seconds(0.8 * seconds(mean) + 0.2 * seconds(by));
}

}  // namespace

void ChangeCost::loaded(Duration took) {
  measured(took, Basis::kLoads);
}

void ChangeCost::changed(Duration took, Duration room, bool first) {
  measured(took, first ? Basis::kFirstChanges : Basis::kChanges);
  room_ = std::exchange(any_change_, true) ? moved(room_, room) : room;
}

void ChangeCost::measured(Duration cost, Basis kind) {
  if (kind < basis_) return;
  if (std::exchange(basis_, kind) < kind) {
    value_ = cost;
    return;
  }
  value_ = moved(value_, std::min(cost, std::max(4 * value_, kGuess)));
}

}  // namespace lm::core
