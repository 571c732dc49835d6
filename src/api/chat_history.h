// What was said in a conversation so far, as far as it is kept. Pure.
#pragma once

#include <cstddef>
#include <deque>
#include <string>

namespace lm::api {

// Owned by its conversation. Bounded: the oldest turns are forgotten first.
class ChatHistory {
 public:
  static constexpr std::size_t kMostTurns = 64;
  static constexpr std::size_t kMostBytes = std::size_t{64} << 10;

  struct Turn {
    std::string question;
    std::string answer;
  };

  void add(std::string question, std::string answer);
  const std::deque<Turn>& turns() const { return turns_; }
  // The older half, rounded up, is forgotten: a model's context was too small for all of it.
  void forget_half();

 private:
  void forget_oldest();

  std::deque<Turn> turns_;
  std::size_t bytes_ = 0;
};

}  // namespace lm::api
