// The GGUF files and checkpoints of model folders, by their names alone: nothing is opened. Reads folders, so
// it blocks for as long as the disk takes.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/problem.h"
#include "domain/model.h"

namespace lm::config {

struct FolderLimits {
  int depth = 8;         // folders within folders
  int entries = 50'000;  // files and folders looked at, all together
};

struct FolderScan {
  std::vector<Model> models;  // by folder in the order given, then by path: the same files give the same list
  std::vector<std::filesystem::path> checkpoints;  // folders with a config.json and *.safetensors
  std::vector<Warning> warnings;
};

// Folders below are searched too, hidden ones not; links are followed, but nothing is found twice. Parts of a
// split file are one model; where some are not there, Model.problem names them. Projectors ("mmproj") are
// attached to the models beside them. Downloads that are not finished are skipped. A folder that is not there
// is a warning, and so is a file whose path is not UTF-8, which is left out.
FolderScan scan_model_folders(std::span<const std::filesystem::path> folders,
                              const FolderLimits& limits = {});

// A file's stem as a model's id: lower case, UTF-8, without spaces, slashes and quotes.
std::string canonical_name(std::string_view stem);

// "qwen3-8b" of "qwen3-8b-q4_k_m": a canonical name without the quantization at its end.
std::string without_quantization(std::string_view name);

// What a model of that name most likely is; generation where nothing tells.
ModelKind guess_kind(std::string_view name);

}  // namespace lm::config
