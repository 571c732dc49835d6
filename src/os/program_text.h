// The machine code that this process has mapped: its program's and its libraries'.
#pragma once

#include <cstddef>

#include "base/result.h"

namespace lm::os {

// Takes the code that was run until now out of this process's resident memory; what is run again comes back,
// a page fault for each 64 KiB, from the page cache. For a process that lives for months after a start that
// ran ten times the code which it needs from then on. Only mappings that cannot be written are touched, so
// that nothing is lost. Returns the bytes of the mappings let go of. Errors: errno's of reading
// /proc/self/maps.
Result<std::size_t> release_program_text();

}  // namespace lm::os
