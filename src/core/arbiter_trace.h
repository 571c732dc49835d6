// Events and commands on standard error, for LLM_MANAGER_TRACE=1 in the arbiter's tests.
#pragma once

#include <cstdio>

#include <fmt/format.h>

#include "core/trace_text.h"

namespace lm::core::testing {

inline void trace(TimePoint now, const Event& event) {
  std::fputs(
      fmt::format("{:10.3f} > {}{}\n", seconds(now.time_since_epoch()), name_of(event), trace_text(event))
          .c_str(),
      stderr);
}

inline void trace(TimePoint now, const Command& command) {
  std::fputs(fmt::format("{:10.3f}   < {}{}\n", seconds(now.time_since_epoch()), name_of(command),
                         trace_text(command))
                 .c_str(),
             stderr);
}

}  // namespace lm::core::testing
