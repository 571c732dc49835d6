#include "held_memory.h"

#include <algorithm>
#include <sys/mman.h>

namespace lm::fake {

HeldMemory::~HeldMemory() {
  if (base_ != nullptr) ::munmap(base_, size_);
}

bool HeldMemory::reserve(Bytes size) {
  size_ = static_cast<std::size_t>(size.count());
  if (size_ == 0) return true;
  void* found = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) return false;
  // Small pages only: the amount must be exact.
  ::madvise(found, size_, MADV_NOHUGEPAGE);
  base_ = static_cast<char*>(found);
  return true;
}

void HeldMemory::fill(Bytes more) {
  constexpr std::size_t kPage = 4096;
  const std::size_t end = std::min(size_, filled_ + static_cast<std::size_t>(more.count()));
  for (; filled_ < end; filled_ += kPage) base_[filled_] = 1;
}

}  // namespace lm::fake
