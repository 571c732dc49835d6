// What a waiting request has to expect.
#pragma once

#include "base/time.h"
#include "domain/ids.h"

namespace lm {

struct ExpectedWait {
  int position = 1;     // among those who wait for its model, 1: the next one; itself counted
  Duration wait{};      // from now until it is served, expected; of waits beyond a day only that they are
  ModelId holder;       // the model in whose turn it waits, as people know it; empty: only for its own load
  Duration held_for{};  // until that turn is expected to end
  bool operator==(const ExpectedWait&) const = default;
};

}  // namespace lm
