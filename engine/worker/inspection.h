// Answers to Inspect and ListDevices.
#pragma once

#include <functional>

#include "base/result.h"
#include "wire/messages.h"

namespace lm::worker {

// Reads metadata; with `exact` (never in a sandbox) lets the engine load with nothing allocated and takes its
// account.
Result<wire::Inspected> inspect(const wire::Inspect& order);

// The same in a process that has given up everything but reading what it opened before; the sandbox shuts in
// here, after the files were opened and before a byte of them is looked at. Every chat template in the file
// is run here too, whatever kind of model it is: one that never ends ends this process, at
// wire::kInspectionProcessorTime; `begins` is told before each step, so that the manager knows which it was.
Result<wire::Inspected> inspect_in_sandbox(const wire::Inspect& order,
                                           const std::function<void(wire::InspectionStep)>& begins);

wire::DevicesListed list_devices(const wire::ListDevices& order);

}  // namespace lm::worker
