#include "checkpoint_folder.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

namespace fs = std::filesystem;

// What is read where it is there. The weights come on top, and a config.json in each folder of a
// sentence-transformers module.
constexpr auto kNames = std::to_array<std::string_view>(
    {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "vocab.txt",
     "tokenizer_config.json", "model.safetensors.index.json", "modules.json", "chat_template.jinja"});
constexpr std::size_t kMostFiles = 1'000;
constexpr std::size_t kMostModules = 16;

std::unexpected<Error> cannot_read(const fs::path& path, int error) {
  const auto code = error == ENOENT || error == ENOTDIR ? ErrorCode::kNotFound
                    : error == EACCES || error == EPERM ? ErrorCode::kPermissionDenied
                                                        : ErrorCode::kUnavailable;
  return fail(code,
              fmt::format("{} cannot be read: {}", path.string(), std::generic_category().message(error)),
              "io_error");
}

// nullopt where there is no such file.
Result<std::optional<OpenFile>> open_file(const fs::path& folder, const std::string& name) {
  // O_NONBLOCK: a FIFO of that name must not stop us; it has no effect on regular files.
  const int fd = ::open((folder / name).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  if (fd < 0) return cannot_read(folder / name, errno);
  struct stat status{};
  const int failed = ::fstat(fd, &status) == 0 ? 0 : errno;
  OpenFile file(name, fd, static_cast<std::uint64_t>(status.st_size));
  if (failed != 0) return cannot_read(folder / name, failed);
  if (!S_ISREG(status.st_mode)) return refuse(fmt::format("{} is no regular file", (folder / name).string()));
  return std::optional<OpenFile>(std::move(file));
}

// "1_Pooling": what sentence-transformers calls the folder of a module.
bool names_a_module(const std::string& name) {
  const auto digits = name.find('_');
  return digits != std::string::npos && digits > 0 &&
         std::ranges::all_of(name.substr(0, digits), [](char c) { return c >= '0' && c <= '9'; });
}

// A folder without config.json may be a model of a kind that people take for this one.
std::unexpected<Error> no_checkpoint(const fs::path& path, const std::vector<std::string>& names) {
  const auto some = [&](std::string_view end) {
    return std::ranges::any_of(names, [&](const auto& name) { return name.ends_with(end); });
  };
  std::string message = path.string() + " is no Hugging Face checkpoint: it has no config.json";
  if (some(".gguf"))
    message += "; it holds GGUF files, which are loaded as they are: name one of them";
  else if (some("params.json") || some("consolidated.safetensors"))
    message += "; use the model's folder in the Hugging Face format";
  return fail(ErrorCode::kNotFound, std::move(message), "invalid_checkpoint");
}

}  // namespace

OpenFile::OpenFile(OpenFile&& other) noexcept
    : name_(std::move(other.name_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      at_(std::exchange(other.at_, nullptr)) {}

OpenFile::~OpenFile() {
  if (at_ != nullptr) ::munmap(const_cast<char*>(at_), size_);
  if (fd_ >= 0) ::close(fd_);
}

Result<std::string_view> OpenFile::map() const {
  if (at_ == nullptr && size_ > 0) {
    void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
    if (at == MAP_FAILED) return cannot_read(name_, errno);
    at_ = static_cast<const char*>(at);
  }
  return std::string_view(at_, at_ == nullptr ? 0 : size_);
}

void OpenFile::release(std::uint64_t begin, std::uint64_t size) const {
  if (at_ == nullptr || size == 0) return;
  // Whole pages; those at the edges are shared with the neighbours, which may still be read.
  constexpr std::uint64_t kPage = 4'096;
  const std::uint64_t first = (begin + kPage - 1) / kPage * kPage;
  const std::uint64_t last = (begin + size) / kPage * kPage;
  if (last > first) ::madvise(const_cast<char*>(at_) + first, last - first, MADV_DONTNEED);
}

Result<CheckpointFolder> CheckpointFolder::open(const fs::path& path) {
  CheckpointFolder folder;
  std::error_code error;
  const auto whole = fs::canonical(path, error);
  if (error) return cannot_read(path, error.value());
  if (!fs::is_directory(whole, error)) {
    return refuse(path.string() +
                  " is no folder: a checkpoint is imported from the folder that holds its config.json");
  }
  folder.name_ = whole.filename().string();

  std::vector<std::string> names;
  std::vector<std::string> wanted(kNames.begin(), kNames.end());
  std::size_t modules = 0;
  for (fs::directory_iterator each(whole, error), end; !error && each != end; each.increment(error)) {
    names.push_back(each->path().filename().string());
    if (names.back().ends_with(".safetensors")) wanted.push_back(names.back());
    if (names_a_module(names.back()) && ++modules <= kMostModules)
      wanted.push_back(names.back() + "/config.json");
    if (wanted.size() > kMostFiles)
      return refuse(fmt::format("{} holds more than {} files", path.string(), kMostFiles));
  }
  if (error) return cannot_read(path, error.value());

  for (const auto& name : wanted) {
    LM_TRY(auto file, open_file(whole, name));
    if (file) folder.files_.emplace(name, std::move(*file));
  }
  if (folder.file("config.json") == nullptr) return no_checkpoint(path, names);
  return folder;
}

const OpenFile* CheckpointFolder::file(std::string_view name) const {
  const auto found = files_.find(name);
  return found == files_.end() ? nullptr : &found->second;
}

Result<std::string_view> CheckpointFolder::content(std::string_view name) const {
  const auto* found = file(name);
  if (found == nullptr) return std::string_view();
  return found->map();
}

std::vector<const OpenFile*> CheckpointFolder::weights() const {
  std::vector<const OpenFile*> out;
  for (const auto& [name, file] : files_) {
    if (name.ends_with(".safetensors")) out.push_back(&file);
  }
  return out;
}

std::uint64_t CheckpointFolder::size() const {
  std::uint64_t sum = 0;
  for (const auto& [name, file] : files_) sum += file.size();
  return sum;
}

}  // namespace lm::importer
