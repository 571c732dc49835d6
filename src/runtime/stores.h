// Models that other tools keep on this machine: Ollama's, LM Studio's, those in Hugging Face's cache. Found,
// not copied, and never changed. Ollama's manifests are read by llm-importer, confined; of the others names
// alone are looked at.
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

// LM Studio's and Hugging Face's. Blocks while it looks.
std::vector<Stored> named_stores(const StoreFolders& folders);
// The revision of a repository that Hugging Face's cache has: its main one, else the last that was written.
std::optional<std::filesystem::path> cached_snapshot(const std::filesystem::path& huggingface,
                                                     std::string_view repository);

// Ollama's, in a child. One thread.
class OllamaStore {
 public:
  struct Seams {
    boost::asio::any_io_executor executor;
    std::filesystem::path program;  // llm-importer
    std::function<void()> changed;  // models() is another list
  };
  explicit OllamaStore(Seams seams);
  ~OllamaStore();

  // Looks into the folder anew; an empty one has no models.
  void look(const std::filesystem::path& folder);
  const std::vector<Stored>& models() const { return models_; }
  // Ends the child, if it runs.
  void stop();

 private:
  struct Look;
  void ended(bool whole);

  Seams seams_;
  std::shared_ptr<Look> look_;
  std::vector<Stored> models_;
};

// One list: `own` first and as they are, then those of the stores that are no double of any before them. A
// double has the same SHA-256 as another, or, where one of the two is not known, the same size and the same
// bytes in sixteen places; its name becomes an alias of the first. Blocks for a few reads of files of the
// same size.
class Doubles {
 public:
  std::vector<Model> merge(std::vector<Model> own, std::vector<Stored> stored);

 private:
  // What was read of a file is kept while it is the same file.
  std::map<std::string, std::string> samples_;
};

}  // namespace lm::runtime
