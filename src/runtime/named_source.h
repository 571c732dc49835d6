// Models that the configuration names by where they come from instead of by a path: "Qwen/Qwen3-0.6B",
// "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M", "ollama:llama3.2:1b".
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "domain/model.h"
#include "hub/source.h"

namespace lm::runtime {

// What a model_path names if it is no path: a source as `pull` takes it, or OWNER/REPO of Hugging Face's hub.
// nullopt where it is none. Of OWNER/REPO a file or folder that is there is for the caller to prefer.
std::optional<hub::Source> named_source(std::string_view model_path);

// Where a copy of it lies, pulled or in Hugging Face's cache (`huggingface`; empty: not looked at): a GGUF
// file of `found`, or a checkpoint's folder. nullopt where there is none that is whole. Blocks for a few
// looks at folders.
std::optional<std::filesystem::path> local_copy(const hub::Source& source,
                                                std::span<const std::filesystem::path> roots,
                                                const std::filesystem::path& huggingface,
                                                std::span<const Model> found);

}  // namespace lm::runtime
