// Files that are to be removed, out of everybody's sight at once: moved within their disk into a folder of
// their own, which a child then empties (Pulls::discard), since that may take the disk a while.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::runtime {

// FOLDER/.pull/KEY
struct Aside {
  std::filesystem::path folder;
  std::string key;
  bool operator==(const Aside&) const = default;
};

// A new one, empty: two removals never share one, so that neither waits for the other's end.
Result<Aside> make_aside(const std::filesystem::path& folder);
// Whether a folder in ".pull" is one: whatever is in it was to be removed, and may be at any time.
bool is_aside(std::string_view key);
// The file must lie on the same disk.
Result<void> move_aside(const Aside& aside, const std::filesystem::path& file);

}  // namespace lm::runtime
