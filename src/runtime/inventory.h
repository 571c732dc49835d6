// The models there are: the configuration's and those in the model folders, checked against the disk. Blocks
// while it looks.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "config/config.h"
#include "config/models.h"
#include "domain/model.h"
#include "runtime/imports.h"
#include "runtime/stores.h"

namespace lm::runtime {

struct Inventory {
  std::vector<Model> models;             // a file that is not there is the model's problem, not an error
  std::map<std::string, ModelId> roles;  // "chat", "knowledge", "translation", "embedding"
  std::vector<std::string> warnings;
  std::vector<Import>
      missing;  // files that have to be made of checkpoints; their models have the problem "importing"
  // Files made of checkpoints, and the quantisation that is tried where they cannot be loaded.
  std::map<std::filesystem::path, std::string> otherwise;
  // Models of which nothing is here, and the source that brings them: their problem is "not_fetched".
  std::map<ModelId, std::string> unfetched;
  // Checkpoints that nobody has named or asked for, by their models: their problem is "not_imported".
  std::map<ModelId, std::filesystem::path> unimported;
  // All checkpoints that lie somewhere; which of them could be imported is for a look into them to say.
  std::vector<Checkpoint> candidates;
  // Models of which only their names tell the kind, and their files, where somebody has looked into them.
  std::set<ModelId> guessed;
  // Pulled checkpoints that are models of their own.
  std::map<ModelId, std::filesystem::path> checkpoints;
};

// What take_inventory looks at beside the configuration.
struct InventoryPlaces {
  std::vector<std::filesystem::path> folders;  // of models, beside the configuration's own
  std::filesystem::path imports;
  std::vector<std::filesystem::path> pulled;  // where pulls put their files
  std::filesystem::path huggingface;          // its cache; empty: not looked at
  // Where pulls have brought a checkpoint's files; what is none, or not whole, is left out.
  std::vector<std::filesystem::path> checkpoints;
  std::vector<Checkpoint> found;  // those of the candidates that could be imported
  // Whether somebody has asked for the found checkpoint in that folder.
  std::function<bool(const std::filesystem::path&)> is_wanted{};
  // Adds what other tools keep.
  std::function<std::vector<Model>(std::vector<Model>)> with_stores{};
  // Whether that file was made and could not be loaded: the next quantisation takes its place.
  std::function<bool(const std::filesystem::path&)> is_unusable{};
  config::KindIn kind_in{};  // what was found in a file, where somebody has looked
};

// A model_path that names a Hugging Face checkpoint stands for its file among the imports; one that names a
// source (hub::named_source) for its copy here.
Inventory take_inventory(const config::Config& config, const InventoryPlaces& places);

// The quantisations that an import is tried with, one after the other: as it is configured, then what takes
// more room and is sure to be read. Of nothing configured the kind decides.
std::vector<std::string> quantisations(const std::string& configured, ModelKind kind);

// Which file is there, as the disk tells without its being read: another name where it was replaced, an empty
// one where there is none.
std::string fingerprint_of(const std::filesystem::path& file);

}  // namespace lm::runtime
