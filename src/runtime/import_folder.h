// The folder of what was made of checkpoints: what of it is of no use any more. Looks at the folder and keeps
// marks in it; blocks for as long as the disk takes.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

namespace lm::runtime {

// A file that no configuration has named for so long is removed. Until then a model that is taken out of the
// configuration and put in again is not made anew.
inline constexpr auto kKeepUnnamedImport = std::chrono::days(7);

// Where a checkpoint's file lies in `imports`: the same for the same content and quantisation. Blocks while
// it looks at the folder, not into its files. nullopt: the folder is no checkpoint.
std::optional<std::filesystem::path> imported_file(const std::filesystem::path& checkpoint,
                                                   std::string_view quantize,
                                                   const std::filesystem::path& imports);

// Which files may go: of those that are not `named` the ones that another content of their checkpoint has
// taken the place of, those that nobody has named for kKeepUnnamedImport, and what importers have left
// unfinished. Notes since when a file is not named in a mark beside it (".NAME.unnamed"); marks are removed
// with their reason.
std::vector<std::filesystem::path> useless_imports(const std::filesystem::path& imports,
                                                   const std::set<std::filesystem::path>& named,
                                                   std::filesystem::file_time_type now);

}  // namespace lm::runtime
