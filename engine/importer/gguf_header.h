// The head of the GGUF file that a plan makes: all keys and the table of tensors.
#pragma once

#include <string>

#include "plan.h"

namespace lm::importer {

// Begins the file; the tensors follow in the plan's order, each padded to kGgufAlignment. Takes the
// tokenizer's tables out of the plan's memory.
std::string make_header(Plan& plan);

inline constexpr std::int64_t kGgufAlignment = 32;

}  // namespace lm::importer
