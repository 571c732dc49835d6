// `llm-manager replay`: a recorded day of a daemon, decided once more by a fresh arbiter. Nothing is loaded
// and nothing is touched.
#pragma once

#include <filesystem>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "base/time.h"

namespace lm::app {

// One event, or one of the commands that follow from it.
struct ReplayedLine {
  Duration at{};  // since the first event
  bool is_command = false;
  std::string_view name;
  std::string_view text;  // what there is to say of it
};

// The errors are those of runtime::read_recording. A broken promise of the arbiter's ends the process, as it
// did in the daemon, so each line is told before the next event is taken.
Result<void> replay(const std::filesystem::path& recording,
                    const std::function<void(const ReplayedLine&)>& tell);

}  // namespace lm::app
