#include "wire/line_buffer.h"

namespace lm::wire {

void LineBuffer::append(std::string_view bytes) {
  if (overflowed_) return;
  // What was handed out is dropped here, once per read, so that many short lines do not cost a move each.
  if (begin_ > 0) {
    bytes_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
  }
  bytes_.append(bytes);
}

std::optional<std::string> LineBuffer::next() {
  if (overflowed_) return std::nullopt;
  const auto end = bytes_.find('\n', scanned_);
  if (end == std::string::npos) {
    scanned_ = bytes_.size();
    overflowed_ = bytes_.size() - begin_ > longest_;
    return std::nullopt;
  }
  if (end - begin_ > longest_) {
    overflowed_ = true;
    return std::nullopt;
  }
  std::string line = bytes_.substr(begin_, end - begin_);
  begin_ = scanned_ = end + 1;
  return line;
}

}  // namespace lm::wire
