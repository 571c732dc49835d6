#include "chat/mood.h"

namespace lm::chat {
namespace {

constexpr double kUsersWeight = 2.0 / 3;
constexpr double kSlight = 0.15;
constexpr double kStrong = 0.6;

using enum Mood;
constexpr MoodTable kUsual = {{
    // bad,    poor,     plain,     nice,       warm
    {kSad, kWorried, kCalm, kCheerful, kDelighted},        // calm
    {kWorried, kCalm, kCalm, kCheerful, kDelighted},       // cheerful
    {kWorried, kCalm, kCheerful, kDelighted, kDelighted},  // delighted
    {kSad, kWorried, kCalm, kCalm, kCheerful},             // worried
    {kUpset, kSad, kWorried, kCalm, kCheerful},            // sad
    {kUpset, kUpset, kSad, kWorried, kCalm},               // upset
}};

}  // namespace

std::string_view to_string(Mood mood) {
  switch (mood) {
    case kCalm:
      return "calm";
    case kCheerful:
      return "cheerful";
    case kDelighted:
      return "delighted";
    case kWorried:
      return "worried";
    case kSad:
      return "sad";
    case kUpset:
      return "upset";
  }
  return "calm";
}

Tone tone_of(double users, double answers) {
  const double both = kUsersWeight * users + (1 - kUsersWeight) * answers;
  if (both <= -kStrong) return Tone::kBad;
  if (both <= -kSlight) return Tone::kPoor;
  if (both < kSlight) return Tone::kPlain;
  if (both < kStrong) return Tone::kNice;
  return Tone::kWarm;
}

const MoodTable& usual_moods() {
  return kUsual;
}

}  // namespace lm::chat
