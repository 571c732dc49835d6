#include "api/chat_history.h"

#include <utility>

namespace lm::api {

void ChatHistory::add(std::string question, std::string answer) {
  bytes_ += question.size() + answer.size();
  turns_.push_back({.question = std::move(question), .answer = std::move(answer)});
  while (!turns_.empty() && (turns_.size() > kMostTurns || bytes_ > kMostBytes)) forget_oldest();
}

void ChatHistory::forget_half() {
  for (std::size_t left = (turns_.size() + 1) / 2; left > 0; --left) forget_oldest();
}

void ChatHistory::forget_oldest() {
  bytes_ -= turns_.front().question.size() + turns_.front().answer.size();
  turns_.pop_front();
}

}  // namespace lm::api
