#include "core/doubt.h"

#include <cmath>

namespace lm::core {

Duration Doubt::believed(Duration estimate, TimePoint now) const {
  if (!since_) return estimate;
  return from_seconds(seconds(estimate) * std::exp2(-seconds(now - *since_) / seconds(kHalf)));
}

void Doubt::refused(TimePoint now) {
  if (!since_) since_ = now;
}

}  // namespace lm::core
