// From the manager's order to load to the engine's parameters.
#pragma once

#include <memory>
#include <optional>

#include "base/result.h"
#include "wire/messages.h"

struct common_params;

namespace lm::worker {

// Whether nothing of the model goes to a card. Opens the cards' contexts unless the options say "host".
bool stays_on_host(const LoadOptions& options);

// Fresh parameters, by heap because the type is large. `socket`: where the model's routes will be. Errors:
// reason invalid_options. Opens the cards' contexts unless the options say "host".
Result<std::unique_ptr<common_params>> load_parameters(const wire::Load& load, int context_train,
                                                       const std::string& socket);

}  // namespace lm::worker
