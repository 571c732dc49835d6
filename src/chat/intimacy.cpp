#include "chat/intimacy.h"

#include <algorithm>

namespace lm::chat {
namespace {

constexpr double kMost = 100;
constexpr double kSecondsOfADay = 86'400;

}  // namespace

double Intimacy::level(Duration silence) const {
  const double days = seconds(std::max(Duration(), silence - rules_.grace)) / kSecondsOfADay;
  return std::clamp(level_ - days * rules_.decay_per_day, 0.0, kMost);
}

void Intimacy::exchanged(double users, Duration silence) {
  const double words = users > 0 ? rules_.kindness * users : rules_.unkindness * users;
  level_ = std::clamp(level(silence) + rules_.exchange + words, 0.0, kMost);
}

}  // namespace lm::chat
