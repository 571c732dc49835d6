// Events and commands as text for people: what LLM_MANAGER_TRACE=1 shows in the arbiter's tests, and a
// replay.
#pragma once

#include <string>

#include "domain/command.h"

namespace lm::core {

// What there is to say of it beside its name: " r3 tinyllama".
std::string trace_text(const Event& event);
std::string trace_text(const Command& command);

}  // namespace lm::core
