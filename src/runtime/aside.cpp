#include "runtime/aside.h"

#include <cerrno>
#include <cstdio>
#include <sys/stat.h>

#include <fmt/format.h>

#include "os/file.h"
#include "os/system_error.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRemoved = "removed";

}  // namespace

Result<Aside> make_aside(const fs::path& folder) {
  const fs::path place = folder / ".pull";
  for (int i = 1;; ++i) {
    Aside aside{.folder = folder, .key = fmt::format("{}.{}", kRemoved, i)};
    LM_TRY_VOID(os::make_private_folders(place));
    if (::mkdir((place / aside.key).c_str(), 0700) == 0) return aside;
    // ENOENT: a child that has emptied another one has removed what was empty around it.
    if (errno != EEXIST && errno != ENOENT)
      return fail(os::system_error(errno, "making a folder in " + place.string()));
  }
}

bool is_aside(std::string_view key) {
  return key.starts_with(kRemoved);
}

Result<void> move_aside(const Aside& aside, const fs::path& file) {
  const fs::path folder = aside.folder / ".pull" / aside.key;
  std::error_code missing;
  fs::path place = folder / file.filename();
  // Two files may have the same name.
  for (int i = 2; fs::exists(fs::symlink_status(place, missing)); ++i)
    place = folder / fmt::format("{}.{}", file.filename().string(), i);
  if (::rename(file.c_str(), place.c_str()) != 0)
    return fail(os::system_error(errno, "removing " + file.string()));
  return {};
}

}  // namespace lm::runtime
