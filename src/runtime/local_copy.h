// Copies on this disk of what the configuration names by where it comes from instead of by a path
// (hub::named_source): "Qwen/Qwen3-0.6B", "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M", "ollama:llama3.2:1b".
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <span>

#include "domain/model.h"
#include "hub/source.h"

namespace lm::runtime {

// Where a copy of it lies, pulled or in Hugging Face's cache (`huggingface`; empty: not looked at): a GGUF
// file of `found`, or a checkpoint's folder. nullopt where there is none that is whole. Blocks for a few
// looks at folders.
std::optional<std::filesystem::path> local_copy(const hub::Source& source,
                                                std::span<const std::filesystem::path> roots,
                                                const std::filesystem::path& huggingface,
                                                std::span<const Model> found);

// Whether the folder has a checkpoint's description and all of its weights, as far as the names of numbered
// parts tell. One of which files are just being put there (`arriving`) is none yet. Looks at names only;
// blocks for as long as that takes.
bool is_checkpoint(const std::filesystem::path& folder, const std::set<std::filesystem::path>& arriving);

}  // namespace lm::runtime
