// Makes files that can be loaded of Hugging Face checkpoints: one llm-importer at a time, in the order in
// which they were wanted. Executes; which are wanted is the configuration's word.
#pragma once

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/error.h"
#include "domain/ids.h"
#include "os/subprocess.h"
#include "wire/import_line.h"

namespace lm::runtime {

struct Import {
  ModelId model;                 // whose it is
  std::filesystem::path folder;  // the checkpoint
  std::filesystem::path file;    // what becomes of it; its name says of which content
  std::string quantize;          // "4bit", …; empty: by the kind of model
  bool operator==(const Import&) const = default;
};

// On the main thread. Whoever owns it stops it before its listener goes.
class Imports {
 public:
  struct Seams {
    boost::asio::any_io_executor executor;
    std::filesystem::path program;  // llm-importer
    std::function<void(const Import&)> began;
    std::function<void(const Import&, double fraction)> progressed;
    // With what people should know, or why it came to nothing. May call want().
    std::function<void(const Import&, Result<std::vector<std::string>>)> ended;
  };

  explicit Imports(Seams seams);
  ~Imports();

  // These files are missing, all of them; an import that is not among them is ended. One that failed is not
  // tried again before forget_failures().
  void want(std::vector<Import> missing);
  // What failed may be tried again by the next want().
  void forget_failures() { failures_.clear(); }
  void forget_failure(const std::filesystem::path& file) { failures_.erase(file); }
  // Why there is no such file, if it was tried.
  const Error* failure(const std::filesystem::path& file) const;
  // Ends the import under way and begins none any more. Blocks until its process is gone, which is at once.
  void stop();

 private:
  struct Running;

  void begin_next();
  void hear(std::string_view line);
  void ended(const os::ExitStatus& status);

  Seams seams_;
  std::deque<Import> wanted_;
  std::map<std::filesystem::path, Error> failures_;
  std::shared_ptr<Running> running_;
  bool stopped_ = false;
};

}  // namespace lm::runtime
