#include "runtime/removal.h"

#include <algorithm>

#include <fmt/format.h>

#include "config/split_name.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

// All parts of a split file, else the file itself.
std::vector<fs::path> parts_of(const fs::path& first) {
  const auto name = config::split_name(first.stem().string());
  if (!name) return {first};
  std::vector<fs::path> parts;
  for (int i = 1; i <= name->count; ++i)
    parts.push_back(first.parent_path() / (name->stem(i) + first.extension().string()));
  return parts;
}

bool is_below(const fs::path& path, const fs::path& folder) {
  if (folder.empty()) return false;
  std::error_code error;
  const fs::path real = fs::weakly_canonical(path, error), root = fs::weakly_canonical(folder, error);
  if (error) return false;
  return std::mismatch(root.begin(), root.end(), real.begin(), real.end()).first == root.end();
}

// Where the daemon looks at its next start, if it does not come to emptying it.
fs::path root_of(const fs::path& file, const RemovalRules& rules) {
  if (is_below(file, rules.own_folder)) return rules.own_folder;
  const auto found =
      std::ranges::find_if(rules.folders, [&](const fs::path& folder) { return is_below(file, folder); });
  return found == rules.folders.end() ? file.parent_path() : *found;
}

Result<void> put_aside(const fs::path& file, const fs::path& root, std::vector<Aside>& asides) {
  auto aside = std::ranges::find(asides, root, &Aside::folder);
  if (aside == asides.end()) {
    LM_TRY(Aside made, make_aside(root));
    aside = asides.insert(asides.end(), std::move(made));
  }
  const auto moved = move_aside(*aside, file);
  // Another disk is mounted in between.
  if (!moved && root != file.parent_path()) return put_aside(file, file.parent_path(), asides);
  return moved;
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
  for (const fs::path& folder : rules.foreign_folders) {
    if (!is_below(model.artifact.path, folder) && !is_below(model.artifact.path.parent_path(), folder))
      continue;
    return fail(ErrorCode::kPermissionDenied,
                fmt::format("{} is {}'s: remove it there", model.artifact.path.string(), model.origin),
                "not_ours");
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
    const auto size = fs::file_size(file, missing);
    LM_TRY_VOID(put_aside(file, root_of(file, rules), removed.aside));
    if (!missing) removed.size += Bytes(static_cast<std::int64_t>(size));
    removed.files.push_back(file.string());
    // What pulls have made around it goes where it is empty now.
    for (fs::path folder = file.parent_path();
         is_own && folder != rules.own_folder && is_below(folder, rules.own_folder);
         folder = folder.parent_path()) {
      if (!fs::remove(folder, missing) || missing) break;
    }
  }
  return removed;
}

Result<RemovedFiles> put_checkpoint_aside(const fs::path& folder, const fs::path& made,
                                          const RemovalRules& rules) {
  RemovedFiles removed;
  std::error_code missing;
  std::vector<fs::path> files;
  for (fs::recursive_directory_iterator each(folder, missing), end; !missing && each != end;
       each.increment(missing)) {
    if (each->is_regular_file(missing)) files.push_back(each->path());
  }
  if (fs::is_regular_file(made, missing)) files.push_back(made);
  for (const fs::path& file : files) {
    const auto size = fs::file_size(file, missing);
    if (!missing) removed.size += Bytes(static_cast<std::int64_t>(size));
    removed.files.push_back(file.string());
  }
  std::ranges::sort(removed.files);
  for (const fs::path& place : {folder, made}) {
    if (fs::exists(place, missing)) LM_TRY_VOID(put_aside(place, root_of(place, rules), removed.aside));
  }
  return removed;
}

}  // namespace lm::runtime
