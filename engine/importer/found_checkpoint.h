// Checkpoints that lie somewhere on this disk: whether each could be imported, told by its description alone.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "domain/model.h"

namespace lm::importer {

// A checkpoint's description as it lies on the disk, unread.
struct FoundCheckpoint {
  std::string config;          // config.json; empty where there is none, or none that is small
  bool makes_vectors = false;  // modules.json is there
};

// Opens a small file for each folder and parses nothing.
FoundCheckpoint collect_checkpoint(const std::filesystem::path& folder);

// What it would be imported as. nullopt: of an architecture, a class or a kind of weights that is not
// imported. What else an import may refuse is not looked at. Pure.
std::optional<ModelKind> kind_of_checkpoint(const FoundCheckpoint& found);

}  // namespace lm::importer
