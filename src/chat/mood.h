// The mood of whoever answers, as a total table of mood × tone. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lm::chat {

enum class Mood : std::uint8_t { kCalm, kCheerful, kDelighted, kWorried, kSad, kUpset };
inline constexpr std::size_t kMoods = 6;
std::string_view to_string(Mood mood);

// How an exchange sounded, both sides together: the user's words weigh twice as much as the answer's.
enum class Tone : std::uint8_t { kBad, kPoor, kPlain, kNice, kWarm };
inline constexpr std::size_t kTones = 5;
Tone tone_of(double users, double answers);

// What follows on which: a row for each mood, a column for each tone.
using MoodTable = std::array<std::array<Mood, kTones>, kMoods>;
const MoodTable& usual_moods();

inline Mood next_mood(const MoodTable& table, Mood mood, Tone tone) {
  return table.at(static_cast<std::size_t>(mood)).at(static_cast<std::size_t>(tone));
}

}  // namespace lm::chat
