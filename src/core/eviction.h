// Which instances go so that a load fits: the cheapest set that just makes room. A pure function.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/time.h"
#include "core/ledger.h"

namespace lm::core {

struct Victim {
  Need frees;
  double cost = 0;  // of losing it; positive
};

// What losing an instance costs: its reload, times how often that has to be expected. `rate` is how often it
// was asked for lately, a second; what was used a moment ago is asked for again although nobody has counted
// yet, so recency adds to it. The rarest and longest idle is cheapest; among equals the quickest to reload.
double eviction_cost(Duration reload, Duration idle, double rate);

// Indices into `candidates`, cheapest sum first; empty optional where even all of them do not cover
// `shortage`. Exact up to 16 candidates, beyond that greedy with a clean-up of members that are not needed.
// Deterministic: ties go to the lower indices.
std::optional<std::vector<std::size_t>> cheapest_set(const Need& shortage,
                                                     std::span<const Victim> candidates);

}  // namespace lm::core
