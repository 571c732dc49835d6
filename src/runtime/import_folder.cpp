#include "runtime/import_folder.h"

#include <algorithm>
#include <fcntl.h>
#include <map>
#include <string>
#include <sys/file.h>
#include <system_error>

#include <fmt/format.h>

#include "base/checksum.h"
#include "config/model_folder.h"
#include "os/file.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUnnamed = ".unnamed", kPartial = ".partial";

// What files of the same checkpoint and quantisation have in common: all but the content's number.
std::string_view subject_of(std::string_view stem) {
  return stem.substr(0, stem.rfind('-'));
}

// ".NAME.gguf.unnamed" and ".NAME.gguf.partial": NAME.gguf.
std::optional<std::string> marked_name(const std::string& name, std::string_view end) {
  if (!name.starts_with('.') || !name.ends_with(end) || name.size() <= end.size() + 1) return std::nullopt;
  return name.substr(1, name.size() - end.size() - 1);
}

// An importer holds the lock for as long as it writes.
bool is_abandoned(const fs::path& partial) {
  const os::UniqueFd file(::open(partial.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  return file && ::flock(file.get(), LOCK_EX | LOCK_NB) == 0;
}

}  // namespace

std::optional<fs::path> imported_file(const fs::path& checkpoint, std::string_view quantize,
                                      const fs::path& imports) {
  std::error_code error;
  const fs::path whole = fs::canonical(checkpoint, error);
  if (error || !fs::is_regular_file(whole / "config.json", error)) return std::nullopt;
  // Files that are replaced, or still being downloaded, make another import.
  std::vector<std::string> files;
  for (fs::directory_iterator each(whole, error), end; !error && each != end; each.increment(error)) {
    std::error_code gone;
    if (!each->is_regular_file(gone)) continue;
    const auto size = each->file_size(gone);
    const auto changed = each->last_write_time(gone).time_since_epoch().count();
    if (!gone) files.push_back(fmt::format("{} {} {}\n", each->path().filename().string(), size, changed));
  }
  if (error) return std::nullopt;
  std::ranges::sort(files);
  std::string content;
  for (const auto& file : files) content += file;
  return imports / fmt::format("{}-{:016x}-{:016x}.gguf", config::canonical_name(whole.filename().string()),
                               checksum(fmt::format("{}\n{}\n", whole.string(), quantize)),
                               checksum(content));
}

std::vector<fs::path> useless_imports(const fs::path& imports, const std::set<fs::path>& named,
                                      fs::file_time_type now) {
  std::set<std::string> files, partial;
  std::map<std::string, fs::file_time_type> unnamed_since;
  std::error_code error;
  for (fs::directory_iterator each(imports, error), end; !error && each != end; each.increment(error)) {
    std::error_code gone;
    const std::string name = each->path().filename().string();
    if (!each->is_regular_file(gone)) continue;
    if (const auto marked = marked_name(name, kUnnamed)) {
      unnamed_since.emplace(*marked, each->last_write_time(gone));
    } else if (const auto unfinished = marked_name(name, kPartial)) {
      partial.insert(*unfinished);
    } else if (!name.starts_with('.') && each->path().extension() == ".gguf") {
      files.insert(name);
    }
  }
  std::set<std::string> fresh;  // subjects of what is named and there
  for (const fs::path& file : named) {
    if (files.contains(file.filename().string())) fresh.emplace(subject_of(file.stem().string()));
  }
  const auto mark_of = [&](const std::string& name) {
    return imports / fmt::format(".{}{}", name, kUnnamed);
  };
  std::vector<fs::path> useless;
  for (const std::string& name : files) {
    const fs::path file = imports / name;
    const auto since = unnamed_since.find(name);
    if (named.contains(file)) continue;
    if (fresh.contains(std::string(subject_of(file.stem().string()))) ||
        (since != unnamed_since.end() && since->second + kKeepUnnamedImport <= now)) {
      useless.push_back(file);
    } else if (since == unnamed_since.end()) {
      (void)os::replace_file(mark_of(name), "");
    }
  }
  for (const auto& [name, since] : unnamed_since) {
    const bool is_kept = files.contains(name) && !named.contains(imports / name) &&
                         std::ranges::find(useless, imports / name) == useless.end();
    if (!is_kept) fs::remove(mark_of(name), error);
  }
  for (const std::string& name : partial) {
    const fs::path file = imports / fmt::format(".{}{}", name, kPartial);
    // The next import of what is named takes it over.
    if (!named.contains(imports / name) && is_abandoned(file)) useless.push_back(file);
  }
  return useless;
}

}  // namespace lm::runtime
