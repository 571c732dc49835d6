// What a pull is just putting in its place: a list beside it, so that nobody takes a half of a model for a
// whole one, and so that whoever goes on after an interruption knows what is left to do. Blocks for as long
// as the disk takes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace lm::config {

struct Arrival {
  std::string from;  // in the pull's own folder
  std::string to;    // in the folder that models lie in
  std::int64_t size = 0;
  std::string hash;  // "sha256:…"; empty where nothing was promised
  bool operator==(const Arrival&) const = default;
};

// The list's name in the pull's own folder, FOLDER/.pull/KEY.
inline constexpr std::string_view kArrivingList = "arriving";

// One line each; no field may have a tab, a newline or another control character.
std::string arriving_text(const std::vector<Arrival>& arrivals);
// nullopt where it is not whole, or none.
std::optional<std::vector<Arrival>> read_arriving(const std::filesystem::path& list);

// Every file that some pull into that folder is putting there.
std::set<std::filesystem::path> arriving_files(const std::filesystem::path& folder);

}  // namespace lm::config
