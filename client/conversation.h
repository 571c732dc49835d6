// What a client has talked about so far, in figures. Time is a parameter.
#pragma once

#include <chrono>
#include <optional>
#include <string_view>

#include "chat/intimacy.h"
#include "chat/mood.h"
#include "llm_manager/question.h"
#include "llm_manager/status.h"

namespace lm::client {

// Owned by a session, under its lock.
class Conversation {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  void answered(std::string_view prompt, const llm_manager::Answer& answer, Duration took, TimePoint now);
  void failed() { ++stats_.failures; }
  llm_manager::ConversationStats stats(TimePoint now) const;

 private:
  Duration silence(TimePoint now) const { return last_ ? now - *last_ : Duration(); }

  llm_manager::ConversationStats stats_;
  chat::Mood mood_ = chat::Mood::kCalm;
  chat::Intimacy intimacy_;
  Duration spent_{};
  std::optional<TimePoint> last_;
};

}  // namespace lm::client
