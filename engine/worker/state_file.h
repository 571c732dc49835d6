// A conversation's state in a file, looked at without the engine.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "domain/kept_state.h"

namespace lm::worker {

// The file as it is now, read once from its beginning to its end. Links are not followed. Errors: kNotFound
// or kUnavailable "io_error"; kInvalidArgument "damaged_state" where it cannot be a state at all.
Result<SlotState> describe_state(const std::filesystem::path& file, int tokens);

// Whether its size and checksums are those that were told when it was saved. Errors as above.
Result<void> check_state(const SlotState& state);

}  // namespace lm::worker
