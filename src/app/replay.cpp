#include "app/replay.h"

#include <optional>

#include "core/arbiter.h"
#include "core/trace_text.h"
#include "runtime/event_log.h"

namespace lm::app {

Result<void> replay(const std::filesystem::path& recording,
                    const std::function<void(const ReplayedLine&)>& tell) {
  core::Arbiter arbiter;
  std::optional<TimePoint> began;
  return runtime::read_recording(recording, [&](const Event& event, TimePoint at) {
    if (!began) began = at;
    tell({.at = at - *began, .is_command = false, .name = name_of(event), .text = core::trace_text(event)});
    for (const Command& command : arbiter.step(event, at)) {
      tell({.at = at - *began,
            .is_command = true,
            .name = name_of(command),
            .text = core::trace_text(command)});
    }
  });
}

}  // namespace lm::app
