// Removing a model's files: which ones go, and what speaks against it. Looks at the disk and moves files
// within it; removing them takes its time and is somebody else's.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "domain/model.h"
#include "runtime/aside.h"

namespace lm::runtime {

struct RemovalRules {
  // Everything in there was fetched and may go: the cache.
  std::filesystem::path own_folder;
  // Where models are looked for: what is put aside lies in the one that the file is below.
  std::vector<std::filesystem::path> folders{};
  // Other tools': nothing in there is touched.
  std::vector<std::filesystem::path> foreign_folders{};
  // Whether a pull has written that file.
  std::function<bool(const std::string& path)> was_pulled;
  bool force = false;  // also what nobody has pulled, and what the configuration names
};

struct RemovedFiles {
  std::vector<std::string> files;
  std::vector<std::string> kept;  // that another model uses
  Bytes size;
  std::vector<Aside> aside;  // where they are now
};

// Puts the files of `model` aside (its parts, and its projector where no other of `all` uses it), so that
// they are gone for everybody who looks. All or nothing but for a disk that fails in the middle.
//
// kFailedPrecondition "in_use": another model is made of the same file; "configured": the configuration names
// it; kPermissionDenied "not_ours": another tool keeps it; kPermissionDenied "not_pulled": no pull has
// written it; kNotFound where no file is there.
Result<RemovedFiles> put_aside(const Model& model, const std::vector<Model>& all, const RemovalRules& rules);

// The same of what a pull has brought of a checkpoint, and of the file that was made of it (which may not be
// there).
Result<RemovedFiles> put_checkpoint_aside(const std::filesystem::path& folder,
                                          const std::filesystem::path& made, const RemovalRules& rules);

}  // namespace lm::runtime
