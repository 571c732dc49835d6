// Notices that an answer has begun to go in circles, while it comes. Pure.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace lm::chat {

// Fed with the pieces of one answer in their order. A loop is a stretch that repeats itself without a gap:
// anything up to eleven bytes for 96 bytes (a syllable), up to 39 bytes eight times (a phrase), up to 600
// bytes five times (a sentence, a verse). Inside a code block, where tables repeat themselves, four times as
// much. A refrain between verses is none: something stands between.
class RepetitionFilter {
 public:
  // How much of the piece is to be shown, in bytes: all of it, or up to where the loop was certain. After
  // that nothing.
  std::size_t feed(std::string_view piece);
  bool looping() const { return looping_; }

 private:
  static constexpr std::size_t kLongest = 600;

  bool take(char c);

  std::string tail_;                              // the last kLongest bytes
  std::array<std::size_t, kLongest + 1> runs_{};  // by period: how many bytes were the one so far before
  bool certain_ = false;                          // the bytes so far are a loop
  bool looping_ = false;                          // and its end was cut
  bool in_code_ = false;
  int backticks_ = 0;  // in a row
};

}  // namespace lm::chat
