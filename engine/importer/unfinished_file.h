// A file that nobody sees until it is whole: written under a hidden name beside its place, then synced and
// renamed into it. What a killed process leaves is taken over by the next one for the same place.
#pragma once

#include <filesystem>

#include "base/result.h"

namespace lm::importer {

class UnfinishedFile {
 public:
  // Empty, and locked against another process that writes the same. Errors: kAlreadyExists (one does),
  // kNotFound (no such folder), io_error.
  static Result<UnfinishedFile> create(std::filesystem::path place);
  UnfinishedFile(UnfinishedFile&& other) noexcept;
  UnfinishedFile& operator=(UnfinishedFile&&) = delete;
  // Removes it unless it was published.
  ~UnfinishedFile();

  int fd() const { return fd_; }

  // Visible from now on, also after a crash of the machine; what stood in its place is replaced. Blocks on
  // the disk. Errors: io_error, and the file is not visible.
  Result<void> publish();

 private:
  UnfinishedFile(std::filesystem::path place, std::filesystem::path hidden, int fd)
      : place_(std::move(place)), hidden_(std::move(hidden)), fd_(fd) {}

  std::filesystem::path place_, hidden_;
  int fd_;
};

}  // namespace lm::importer
