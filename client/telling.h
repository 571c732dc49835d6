// An answer while it is told: what the model says goes through the filters and comes out as what is shown.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "chat/repetition.h"
#include "chat/traditional.h"
#include "llm_manager/question.h"

namespace lm::client {

// What is done to every answer, as vtuber.response says.
struct Filters {
  bool repetition = false;
  std::shared_ptr<const chat::TraditionalChinese> traditional;  // null: as the model writes
};

// Owned by the coroutine that asks. What several requests say is one answer.
class Telling {
 public:
  Telling(const Filters& filters, std::function<void(std::string_view)> on_text);

  // False where it goes in circles: the rest is not wanted.
  bool say(std::string_view piece);
  // Behind the last piece.
  void finish();

  const std::string& raw() const { return raw_; }    // what the model said, up to a loop
  const std::string& text() const { return text_; }  // what was shown
  bool looping() const { return loops_ && loops_->looping(); }

 private:
  void show(std::string text);

  std::function<void(std::string_view)> on_text_;
  std::optional<chat::RepetitionFilter> loops_;
  std::optional<chat::TraditionalStream> traditional_;
  std::string raw_, text_;
};

}  // namespace lm::client
