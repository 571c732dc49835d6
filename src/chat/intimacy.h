// How close two have come: 0 (strangers) to 100. Rises with every exchange and with kind words, falls with
// unkind ones and with silence. Pure.
#pragma once

#include "base/time.h"

namespace lm::chat {

struct IntimacyRules {
  double exchange = 0.5;    // points for each exchange
  double kindness = 1.0;    // points times the user's sentiment, where that is above 0
  double unkindness = 3.0;  // the same below 0: trust goes faster than it comes
  double decay_per_day = 1.0;
  Duration grace = std::chrono::hours(24);  // so long a silence costs nothing
  bool operator==(const IntimacyRules&) const = default;
};

class Intimacy {
 public:
  explicit Intimacy(IntimacyRules rules = {}, double level = 0) : rules_(rules), level_(level) {}

  // `users`: the sentiment of what the user said. `silence`: since the exchange before; zero for the first.
  void exchanged(double users, Duration silence);
  // What it is after so long a silence.
  double level(Duration silence = {}) const;

 private:
  IntimacyRules rules_;
  double level_;
};

}  // namespace lm::chat
