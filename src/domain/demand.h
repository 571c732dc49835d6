// How many models are wanted at the same time, and how many fit: a copy for lists and metrics.
#pragma once

#include <string>
#include <vector>

#include "domain/ids.h"

namespace lm {

struct DemandView {
  struct Row {
    ModelId model;      // told as people know it: an upstream by its name
    double rate = 0;    // requests a second, lately
    double wanted = 0;  // probability that it is wanted at a moment: 1 − e^(−λT)
    bool fits = false;  // beside those above it
  };
  double wanted = 0;      // expected number of models that are wanted at the same time: the rows' sum
  int fit = 0;            // so many of the rows fit together
  std::vector<Row> rows;  // of models that were asked for lately, the most wanted first
  std::string advice;  // a sentence where more are wanted than fit: what would make one more fit; else empty
};

}  // namespace lm
