#include "core/kept_memory.h"

#include <algorithm>

namespace lm::core {
namespace {

// A file in memory is gone at once; one that is copied to disk first takes a moment.
constexpr Duration kMostWait = std::chrono::seconds(5);
constexpr Duration kPause = std::chrono::seconds(30);

}  // namespace

void KeptMemory::now_keeps(Bytes bytes) {
  if (bytes < bytes_) coming_ = std::max(Bytes(), coming_ - (bytes_ - bytes));
  bytes_ = bytes;
  if (coming_ == Bytes()) due_ = again_ = TimePoint();
}

void KeptMemory::ask(Bytes bytes, TimePoint now) {
  coming_ = coming(now) + bytes;
  due_ = now + kMostWait;
  again_ = due_ + kPause;
}

Bytes KeptMemory::droppable(TimePoint now) const {
  if (now < due_) return std::max(Bytes(), bytes_ - coming_);
  return now < again_ ? Bytes() : bytes_;
}

}  // namespace lm::core
