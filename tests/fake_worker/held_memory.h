// Memory that is really there: private, anonymous, every page written.
#pragma once

#include <cstddef>

#include "base/bytes.h"

namespace lm::fake {

// Owned by the load; given back with the process. Not reclaimable, as an engine's weights without mmap.
class HeldMemory {
 public:
  HeldMemory() = default;
  ~HeldMemory();
  HeldMemory(const HeldMemory&) = delete;
  HeldMemory& operator=(const HeldMemory&) = delete;

  // Nothing is taken yet. False where the address space is refused.
  bool reserve(Bytes size);
  // Writes so much more of it.
  void fill(Bytes more);

 private:
  char* base_ = nullptr;
  std::size_t size_ = 0;
  std::size_t filled_ = 0;
};

}  // namespace lm::fake
