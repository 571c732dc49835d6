#include "runtime/removal.h"

#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "os/file.h"
#include "os/system_error.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

// All parts of a split file ("…-00001-of-00003.gguf"), else the file itself.
std::vector<fs::path> parts_of(const fs::path& first) {
  constexpr std::size_t kTail = 15;
  const std::string stem = first.stem().string();
  if (stem.size() <= kTail || stem.substr(stem.size() - kTail, 10) != "-00001-of-") return {first};
  const std::string digits = stem.substr(stem.size() - 5);
  if (digits.find_first_not_of("0123456789") != std::string::npos) return {first};
  std::vector<fs::path> parts;
  for (int i = 1; i <= std::stoi(digits); ++i) {
    parts.push_back(first.parent_path() / fmt::format("{}-{:05}-of-{}{}", stem.substr(0, stem.size() - kTail),
                                                      i, digits, first.extension().string()));
  }
  return parts;
}

bool is_below(const fs::path& path, const fs::path& folder) {
  if (folder.empty()) return false;
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error), root = fs::weakly_canonical(folder, error);
  if (error) return false;
  return std::mismatch(root.begin(), root.end(), real.begin(), real.end()).first == root.end();
}

}  // namespace

Result<RemovedFiles> put_aside(const Model& model, const std::vector<Model>& all, const RemovalRules& rules) {
  RemovedFiles removed;
  std::vector<fs::path> files;
  std::error_code missing;
  for (const fs::path& part : parts_of(model.artifact.path))
    if (fs::is_regular_file(part, missing)) files.push_back(part);
  if (files.empty()) {
    return fail(ErrorCode::kNotFound,
                fmt::format("{} has no file: {} is not there", model.id.str(), model.artifact.path.string()),
                "not_found");
  }
  for (const Model& other : all) {
    if (other.id == model.id || other.artifact.path != model.artifact.path) continue;
    return fail(ErrorCode::kFailedPrecondition,
                fmt::format("{} is made of the same file as {}: take that out of the configuration first",
                            model.id.str(), other.id.str()),
                "in_use");
  }
  const bool was_found = model.origin == model.artifact.path.parent_path().string();
  if (!was_found && !rules.force) {
    return fail(ErrorCode::kFailedPrecondition,
                fmt::format("{} is named by {}: take it out there first, or say --force", model.id.str(),
                            model.origin),
                "configured");
  }
  if (const fs::path& projector = model.artifact.projector; !projector.empty()) {
    const bool shared = std::ranges::any_of(all, [&](const Model& other) {
      return other.id != model.id && other.artifact.projector == projector;
    });
    if (shared)
      removed.kept.push_back(projector.string());
    else if (fs::is_regular_file(projector, missing))
      files.push_back(projector);
  }
  if (!rules.force) {
    for (const fs::path& file : files) {
      if (rules.was_pulled(file.string()) || is_below(file, rules.own_folder)) continue;
      return fail(
          ErrorCode::kPermissionDenied,
          fmt::format("{} was not fetched by a pull: say --force to remove it all the same", file.string()),
          "not_pulled");
    }
  }
  for (const fs::path& file : files) {
    const bool is_own = is_below(file, rules.own_folder);
    const fs::path root = is_own ? rules.own_folder : file.parent_path();
    const fs::path aside = root / ".pull" / "removed";
    LM_TRY_VOID(os::make_private_folders(aside));
    const auto size = fs::file_size(file, missing);
    if (!missing) removed.size += Bytes(static_cast<std::int64_t>(size));
    // Two files may have the same name.
    fs::path place = aside / file.filename();
    for (int i = 2; fs::exists(place, missing); ++i)
      place = aside / fmt::format("{}.{}", file.filename().string(), i);
    if (::rename(file.c_str(), place.c_str()) != 0)
      return fail(os::system_error(errno, "removing " + file.string()));
    removed.files.push_back(file.string());
    if (std::ranges::find(removed.aside, root) == removed.aside.end()) removed.aside.push_back(root);
    // What pulls have made around it goes where it is empty now.
    for (fs::path folder = file.parent_path();
         is_own && folder != rules.own_folder && is_below(folder, rules.own_folder);
         folder = folder.parent_path()) {
      if (!fs::remove(folder, missing) || missing) break;
    }
  }
  return removed;
}

}  // namespace lm::runtime
