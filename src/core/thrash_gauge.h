// The thrash gauge: how many models are wanted at the same time, against how many fit. Pure.
//
// A model is wanted at a moment where it answers, or where the next request for it is near enough that
// keeping it is better than loading it again. A change costs S, and the policy spends at most one part in k+1
// of the time on changes, so a residency has to last Q = max(quantum_min, k·S): the shortest time in which a
// load pays for itself, and with the load T = Q + S. Who is asked for again within T of an answer was worth
// keeping. Arrivals at rate λ whose answers take s keep a model wanted for s + T each; the probability that
// at least one of these spans covers a moment is 1 − e^(−λ(s+T)), whatever the shape of the answers' lengths
// (M/G/∞). λs is the number of answers under way (Little). The sum over all models is the expected number of
// models wanted; if it is more than what fits, no order of turns can avoid changes: more memory, smaller
// models or fewer of them can.
#pragma once

#include <vector>

#include "core/ledger.h"
#include "domain/demand.h"
#include "domain/model.h"

namespace lm::core {

struct Wanted {
  ModelId model;         // as people know it
  double rate = 0;       // λ, requests a second
  double answering = 0;  // λs
  Need need;             // what it takes; empty where that is not known
  bool pinned = false;   // its owner wants it always
  // The family that has to hold the devices for it; empty: it keeps no other family out.
  std::optional<Family> family;
};

// 1 − e^(−(λs + λT)); `worth_keeping` is T.
double wanted_probability(double rate, double answering, Duration worth_keeping);

// `empty` is a ledger without charges of models. Models that nobody has asked for lately have no row, unless
// they are pinned: those take room. Who fits is found in the order of the rows.
DemandView thrash_gauge(std::vector<Wanted> models, Ledger empty, Duration worth_keeping);

}  // namespace lm::core
