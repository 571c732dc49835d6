#include "probe/control_group.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "os/file.h"

namespace lm::probe {
namespace {

constexpr std::size_t kLargestTable = std::size_t{4} << 20;  // a mountinfo with thousands of containers

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool contains(const std::vector<std::string_view>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

// mountinfo writes white space in paths as octal: "\040".
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, code, 8).ptr == text.data() + i + 4) {
      plain.push_back(static_cast<char>(code));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

enum class Version { kOne, kTwo };

// Where a hierarchy is mounted, and which of its groups is shown there.
struct Mount {
  Version version;
  std::string shown;
  std::string folder;
};

std::vector<Mount> memory_mounts(const std::filesystem::path& root) {
  std::vector<Mount> mounts;
  const auto text = os::read_file(root / "proc/self/mountinfo", kLargestTable);
  if (!text) return mounts;
  for (const auto line : split(*text, '\n')) {
    const auto words = split(line, ' ');
    const auto dash = std::ranges::find(words, "-");
    if (words.size() < 5 || words.end() - dash < 4) continue;
    const auto type = dash[1];
    const bool one = type == "cgroup" && contains(split(dash[3], ','), "memory");
    if (!one && type != "cgroup2") continue;
    mounts.push_back({.version = one ? Version::kOne : Version::kTwo,
                      .shown = unescape(words[3]),
                      .folder = unescape(words[4])});
  }
  return mounts;
}

// Our group in the hierarchy, as the kernel names it.
std::optional<std::string> own_group(std::string_view table, Version version) {
  for (const auto line : split(table, '\n')) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const auto controllers = line.substr(first + 1, second - first - 1);
    const bool ours =
        version == Version::kTwo ? controllers.empty() : contains(split(controllers, ','), "memory");
    if (ours) return std::string(line.substr(second + 1));
  }
  return std::nullopt;
}

// The part of `group` below what the mount shows; empty where it shows a group that is not above ours, as in
// a container that has another's view of the names.
std::string below(const std::string& group, const std::string& shown) {
  if (group.find("/..") != std::string::npos) return {};
  if (shown == "/") return group == "/" ? std::string() : group;
  if (!group.starts_with(shown) || (group.size() > shown.size() && group[shown.size()] != '/')) return {};
  return group.substr(shown.size());
}

// A file with one number. "max", and what v1 writes for it, is no number.
std::optional<Bytes> read_amount(const std::filesystem::path& file) {
  const auto text = os::read_file(file, 256);
  if (!text) return std::nullopt;
  std::int64_t count = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), count);
  constexpr std::int64_t kUnlimited = std::numeric_limits<std::int64_t>::max() - (std::int64_t{1} << 20);
  if (error != std::errc() || count < 0 || count >= kUnlimited) return std::nullopt;
  return Bytes(count);
}

// The sum of these "name value" lines.
Bytes sum_of(std::string_view statistics, std::initializer_list<std::string_view> names) {
  Bytes sum;
  for (const auto line : split(statistics, '\n')) {
    const auto space = line.find(' ');
    if (space == std::string_view::npos || std::ranges::find(names, line.substr(0, space)) == names.end())
      continue;
    std::int64_t count = 0;
    const auto number = line.substr(space + 1);
    if (std::from_chars(number.data(), number.data() + number.size(), count).ec == std::errc())
      sum += Bytes(count);
  }
  return sum;
}

std::optional<ControlGroupLimit> read_group(const std::filesystem::path& root, const std::string& folder,
                                            Version version) {
  const auto path = root / std::filesystem::path(folder).relative_path();
  std::optional<Bytes> limit;
  std::optional<Bytes> used;
  const auto statistics = os::read_file(path / "memory.stat").value_or("");
  ControlGroupLimit group{.folder = folder, .limit = {}, .used = {}, .file_pages = {}};
  if (version == Version::kTwo) {
    limit = read_amount(path / "memory.max");
    const auto high = read_amount(path / "memory.high");
    if (high && (!limit || *high < *limit)) limit = high;
    used = read_amount(path / "memory.current");
    group.file_pages = sum_of(statistics, {"inactive_file", "active_file"});
  } else {
    limit = read_amount(path / "memory.limit_in_bytes");
    used = read_amount(path / "memory.usage_in_bytes");
    group.file_pages = sum_of(statistics, {"total_inactive_file", "total_active_file"});
  }
  if (!limit || !used) return std::nullopt;
  group.limit = *limit;
  group.used = *used;
  return group;
}

}  // namespace

std::vector<ControlGroupLimit> read_control_group_limits(const std::filesystem::path& root) {
  std::vector<ControlGroupLimit> limits;
  const auto table = os::read_file(root / "proc/self/cgroup");
  if (!table) return limits;
  for (const auto& mount : memory_mounts(root)) {
    const auto group = own_group(*table, mount.version);
    if (!group) continue;
    std::string rest = below(*group, mount.shown);
    while (true) {
      if (auto limit = read_group(root, mount.folder + rest, mount.version))
        limits.push_back(std::move(*limit));
      if (rest.empty()) break;
      const auto slash = rest.rfind('/');
      rest.erase(slash == std::string::npos ? 0 : slash);
    }
  }
  return limits;
}

}  // namespace lm::probe
