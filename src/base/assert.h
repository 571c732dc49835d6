// LM_ASSERT(condition, "what was expected"): a broken invariant of ours ends the process, in release builds too.
// Bad input, a dead worker and a lying upstream are no broken invariants: those are Errors.
#pragma once

namespace lm {

[[noreturn]] void assertion_failed(const char* condition, const char* message, const char* file, int line) noexcept;

}  // namespace lm

#define LM_ASSERT(condition, message) \
  ((condition) ? static_cast<void>(0) : ::lm::assertion_failed(#condition, message, __FILE__, __LINE__))
