#include "unfinished_file.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

namespace lm::importer {
namespace {

namespace fs = std::filesystem;

std::unexpected<Error> io_error(const fs::path& path, int error) {
  const auto code = error == ENOENT || error == ENOTDIR  ? ErrorCode::kNotFound
                    : error == EACCES || error == EPERM  ? ErrorCode::kPermissionDenied
                    : error == ENOSPC || error == EDQUOT ? ErrorCode::kResourceExhausted
                                                         : ErrorCode::kUnavailable;
  return fail(code, fmt::format("{}: {}", path.string(), std::generic_category().message(error)), "io_error");
}

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

}  // namespace

UnfinishedFile::UnfinishedFile(UnfinishedFile&& other) noexcept
    : place_(std::move(other.place_)), hidden_(std::move(other.hidden_)), fd_(std::exchange(other.fd_, -1)) {}

UnfinishedFile::~UnfinishedFile() {
  if (fd_ < 0) return;
  ::unlink(hidden_.c_str());
  ::close(fd_);
}

Result<UnfinishedFile> UnfinishedFile::create(fs::path place) {
  const auto hidden = folder_of(place) / ("." + place.filename().string() + ".partial");
  while (true) {
    const int fd = ::open(hidden.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return io_error(hidden, errno);
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const int error = errno;
      ::close(fd);
      if (error != EWOULDBLOCK) return io_error(hidden, error);
      return fail(ErrorCode::kAlreadyExists,
                  fmt::format("{} is being written by another process", place.string()), "busy");
    }
    // Whoever held the lock may have published or removed what was opened here: then it is none of ours.
    struct stat opened{}, named{};
    if (::fstat(fd, &opened) == 0 && ::stat(hidden.c_str(), &named) == 0 && opened.st_ino == named.st_ino &&
        opened.st_dev == named.st_dev) {
      UnfinishedFile file(std::move(place), hidden, fd);
      if (::ftruncate(fd, 0) != 0) return io_error(hidden, errno);
      return file;
    }
    ::close(fd);
  }
}

Result<void> UnfinishedFile::publish() {
  if (::fchmod(fd_, 0644) != 0 || ::fsync(fd_) != 0) return io_error(hidden_, errno);
  if (::rename(hidden_.c_str(), place_.c_str()) != 0) return io_error(place_, errno);
  ::close(std::exchange(fd_, -1));
  const auto folder = folder_of(place_);
  const int at = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) return io_error(folder, errno);
  const int synced = ::fsync(at) == 0 ? 0 : errno;
  ::close(at);
  return synced == 0 ? Result<void>() : io_error(folder, synced);
}

}  // namespace lm::importer
