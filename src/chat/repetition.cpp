#include "chat/repetition.h"

#include <algorithm>

namespace lm::chat {
namespace {

constexpr std::size_t kSyllable = 11;
constexpr std::size_t kPhrase = 39;
constexpr std::size_t kSyllablesBytes = 96;
constexpr std::size_t kPhrases = 8;
constexpr std::size_t kSentences = 5;
constexpr std::size_t kInCode = 4;

// How long a stretch of that period is a loop.
constexpr std::size_t least_loop(std::size_t period) {
  if (period <= kSyllable) return kSyllablesBytes;
  return period * (period <= kPhrase ? kPhrases : kSentences);
}

}  // namespace

std::size_t RepetitionFilter::feed(std::string_view piece) {
  for (std::size_t i = 0; i < piece.size() && !looping_; ++i) {
    // It ends before a character, not in the middle of one.
    if (certain_ && (static_cast<unsigned char>(piece[i]) & 0xc0u) != 0x80u) {
      looping_ = true;
      return i;
    }
    certain_ = take(piece[i]) || certain_;
  }
  return looping_ ? 0 : piece.size();
}

bool RepetitionFilter::take(char c) {
  backticks_ = c == '`' ? backticks_ + 1 : 0;
  if (backticks_ == 3) in_code_ = !in_code_;
  const std::size_t before = std::min(tail_.size(), kLongest);
  bool loop = false;
  for (std::size_t period = 1; period <= before; ++period) {
    std::size_t& run = runs_.at(period);
    run = tail_[tail_.size() - period] == c ? run + 1 : 0;
    loop = loop || run + period >= least_loop(period) * (in_code_ ? kInCode : 1);
  }
  tail_ += c;
  if (tail_.size() >= 2 * kLongest) tail_.erase(0, tail_.size() - kLongest);
  return loop;
}

}  // namespace lm::chat
