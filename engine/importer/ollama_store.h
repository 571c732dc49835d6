// The models that Ollama keeps on this disk, by its manifests: found, not copied.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "wire/stored_model.h"

namespace lm::importer {

// A manifest as it lies on the disk, unread.
struct Manifest {
  std::string name;  // "llama3.2:1b": what the path says, as Ollama writes it
  std::string text;
};

// FOLDER/manifests/HOST/NAMESPACE/NAME/TAG. Opens files and parses nothing; those that are too large, and
// more than some thousand, are left out.
std::vector<Manifest> collect_manifests(const std::filesystem::path& folder);

// What they say; what is no manifest of a model is left out. Pure.
std::vector<wire::StoredModel> read_manifests(const std::vector<Manifest>& manifests);

}  // namespace lm::importer
