// Models that other tools keep on this machine: Ollama's, LM Studio's, those in Hugging Face's cache. Found,
// not copied, and never changed. Ollama's manifests and the descriptions of checkpoints are read by
// llm-importer, confined; else names alone are looked at.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/time.h"
#include "config/config.h"
#include "domain/model.h"

namespace lm::runtime {

// An empty one is not looked at.
struct StoreFolders {
  std::filesystem::path ollama, lm_studio, huggingface;

  // Reads one variable; nullopt where it is not set.
  using Lookup = std::function<std::optional<std::string>(const char* name)>;
  static StoreFolders of(const config::ModelSources& sources, const Lookup& lookup);
  bool operator==(const StoreFolders&) const = default;
};

struct Stored {
  Model model;         // its origin is the tool's name
  std::string sha256;  // lower-case hex; empty where no name tells it
};

// LM Studio's and Hugging Face's GGUF files. Blocks while it looks.
std::vector<Stored> named_stores(const StoreFolders& folders);

// A checkpoint that lies somewhere, and that nobody has named.
struct Checkpoint {
  std::string name;  // as people know it: the repository's, or the folder's
  std::filesystem::path folder;
  std::string origin;                       // the tool, or the folder
  ModelKind kind = ModelKind::kGeneration;  // once it was looked into
  bool operator==(const Checkpoint&) const = default;
};
// Those in Hugging Face's cache, as far as they are whole, nobody having looked into them. Blocks while it
// looks.
std::vector<Checkpoint> cached_checkpoints(const std::filesystem::path& huggingface);

// The revision of a repository that Hugging Face's cache has: its main one, else the last that was written.
std::optional<std::filesystem::path> cached_snapshot(const std::filesystem::path& huggingface,
                                                     std::string_view repository);

// What is only known by a look into files, which a child takes. One thread.
class StoreReader {
 public:
  static constexpr std::size_t kMostCheckpoints = 1'000;

  struct Seams {
    boost::asio::any_io_executor executor;
    std::filesystem::path program;             // llm-importer
    std::function<void(bool changed)> looked;  // a look has ended; whether the lists are others now
    Duration limit = std::chrono::minutes(1);  // of a look: a disk may be one that does not answer
  };
  explicit StoreReader(Seams seams);
  ~StoreReader();

  // Looks into Ollama's folder (an empty one has no models) and at these checkpoints, unless it has done so
  // or is about to; `again`: even then.
  void look(const std::filesystem::path& ollama, std::vector<Checkpoint> candidates, bool again);
  const std::vector<Stored>& models() const { return models_; }
  // Those of the candidates that could be imported.
  const std::vector<Checkpoint>& checkpoints() const { return checkpoints_; }
  // Whether looked() is still to be called.
  bool is_looking() const { return look_ != nullptr; }
  // Ends the child, if it runs.
  void stop();

 private:
  struct Look;
  void ended(bool whole);

  Seams seams_;
  std::filesystem::path ollama_;
  std::vector<Checkpoint> candidates_;
  std::shared_ptr<Look> look_;
  std::vector<Stored> models_;
  std::vector<Checkpoint> checkpoints_;
};

// One list: `own` first and as they are, then those of the stores that are no double of any before them. A
// double has the same SHA-256 as another, or, where one of the two is not known, the same size and the same
// bytes in sixty-four places; its name becomes an alias of the first. Blocks for a few reads of files of the
// same size.
class Doubles {
 public:
  std::vector<Model> merge(std::vector<Model> own, std::vector<Stored> stored);

 private:
  // What was read of a file is kept while it is the same file.
  std::map<std::string, std::string> samples_;
};

}  // namespace lm::runtime
