// The tables of each of the daemon's files, as the steps that led to them. Steps are only ever added: files
// written by each of them are out there.
#pragma once

#include <span>
#include <string_view>

namespace lm::store {

struct Layout {
  std::string_view file;               // its name in the data folder
  std::span<const char* const> steps;  // step i brings a file from PRAGMA user_version i to i + 1
  std::string_view lost;               // what starts anew where a damaged file had to be moved aside
};

// state.db
const Layout& state_layout();
// conversations.db
const Layout& conversation_layout();

}  // namespace lm::store
