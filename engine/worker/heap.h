// The worker's heap: what large requests leave in it is given back to the system.
#pragma once

#include <cstddef>

namespace lm::worker {

// What parsing a larger body leaves is worth the look for it.
inline constexpr std::size_t kLargeBody = std::size_t{1} << 20;

// A request with a large body was answered. Free pages of the heap go back to the system once no more such
// requests have ended for a second. Any thread; does not block.
void large_body_answered();

}  // namespace lm::worker
