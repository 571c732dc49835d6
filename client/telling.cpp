#include "client/telling.h"

#include <utility>

namespace lm::client {

Telling::Telling(const Filters& filters, std::function<void(std::string_view)> on_text)
    : on_text_(std::move(on_text)) {
  if (filters.repetition) loops_.emplace();
  if (filters.traditional) traditional_.emplace(filters.traditional);
}

bool Telling::say(std::string_view piece) {
  if (loops_) piece = piece.substr(0, loops_->feed(piece));
  raw_ += piece;
  show(traditional_ ? traditional_->feed(piece) : std::string(piece));
  return !looping();
}

void Telling::finish() {
  if (traditional_) show(traditional_->finish());
}

void Telling::show(std::string text) {
  if (text.empty()) return;
  text_ += text;
  if (on_text_) on_text_(text);
}

}  // namespace lm::client
