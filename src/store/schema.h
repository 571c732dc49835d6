// The tables, as the steps that led to them. Steps are only ever added: files written by each of them are out
// there.
#pragma once

#include <span>

namespace lm::store {

// Step i brings a file from PRAGMA user_version i to i + 1.
std::span<const char* const> schema_steps();

}  // namespace lm::store
