// The files of a Hugging Face checkpoint folder: opened by name before the sandbox shuts, read after. Which
// files are opened depends on their names only, since nothing may be parsed yet.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace lm::importer {

// One file, open for reading; its content is mapped when it is first asked for. Not copied.
class OpenFile {
 public:
  OpenFile(std::string name, int fd, std::uint64_t size) : name_(std::move(name)), fd_(fd), size_(size) {}
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&&) = delete;
  ~OpenFile();

  const std::string& name() const { return name_; }  // within the folder
  std::uint64_t size() const { return size_; }

  // The whole content. Valid while this lives; a file that is cut short meanwhile ends the process (SIGBUS).
  // Errors: io_error.
  Result<std::string_view> map() const;
  // These bytes of the mapping will not be needed again: they stop counting as memory of this process.
  void release(std::uint64_t begin, std::uint64_t size) const;

 private:
  std::string name_;
  int fd_;
  std::uint64_t size_;
  mutable const char* at_ = nullptr;
};

class CheckpointFolder {
 public:
  // Opens config.json, what may describe tokenizer, generation and pooling, and every *.safetensors. Blocks
  // on the disk. Errors: kNotFound (no folder, or no config.json in it), kPermissionDenied, kInvalidArgument
  // with reason invalid_checkpoint (a folder of another kind: the message says which).
  static Result<CheckpointFolder> open(const std::filesystem::path& path);

  const std::string& name() const { return name_; }  // the folder's own
  // nullptr where the folder has none of that name. Names with a folder are "1_Pooling/config.json".
  const OpenFile* file(std::string_view name) const;
  // The content of a small file, "" where there is none.
  Result<std::string_view> content(std::string_view name) const;
  std::vector<const OpenFile*> weights() const;  // *.safetensors, by name
  std::uint64_t size() const;                    // bytes of all files

 private:
  std::string name_;
  std::map<std::string, OpenFile, std::less<>> files_;
};

}  // namespace lm::importer
