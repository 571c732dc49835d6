// Files and folders, as the daemon uses them: small, whole, private to its user. All of it blocks for as long
// as the disk takes. Every descriptor is close-on-exec. Errors are errno's with the path in the message
// (system_error.h).
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>

#include "base/result.h"

namespace lm::os {

// Owns a descriptor and closes it once. Negative owns nothing.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release();
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

inline constexpr std::size_t kSmallFile = std::size_t{1} << 20;

// The whole file, /proc and /sys included. More than `limit` bytes: kResourceExhausted, reason
// "file_too_large".
Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit = kSmallFile);

// Readers see the old text or the new one, and after a power cut too: temporary file beside it, fsync,
// rename, fsync of the folder.
Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view text,
                                   mode_t mode = 0600);

// Readers see the old text or the new one; after a power cut perhaps neither. Touches no disk synchronously.
Result<void> replace_file(const std::filesystem::path& path, std::string_view text, mode_t mode = 0600);

// The folder and its missing parents, each made with mode 0700. A folder that exists is left as it is; a file
// in the way is an error.
Result<void> make_private_folders(const std::filesystem::path& path);

// Makes one folder with mode 0700, or takes over one that is this user's own and closed to all others.
// Anything else by that name, a link too, is kPermissionDenied "foreign_folder". Its parent must exist, or is
// made as above.
Result<void> make_own_folder(const std::filesystem::path& path);

// Removes a file; one that is not there is fine.
Result<void> remove_file(const std::filesystem::path& path);

// An exclusive lock on a file that holds the owner's pid; the kernel gives it back when the process ends,
// however it ends. The file stays behind, empty where its owner ended by itself: removing a lock file is a
// race.
class LockFile {
 public:
  // Held by another: kAlreadyExists, reason "locked", field "pid" where the file tells it.
  static Result<LockFile> acquire(const std::filesystem::path& path);
  ~LockFile();
  LockFile(LockFile&&) noexcept = default;
  LockFile& operator=(LockFile&&) = delete;

  // The owner before this one, where it did not end by itself (kill -9, a crash, a power cut).
  std::optional<int> left_by() const { return left_by_; }

 private:
  LockFile(UniqueFd fd, std::optional<int> left_by) : fd_(std::move(fd)), left_by_(left_by) {}
  UniqueFd fd_;
  std::optional<int> left_by_;
};

// The file that this process was started from, links resolved: its parent folder is where the worker is
// found.
Result<std::filesystem::path> own_executable();

// Where the daemon keeps things, all below a folder named llm-manager.
struct Folders {
  std::filesystem::path
      cache;  // ${XDG_CACHE_HOME:-~/.cache}: models and engine builds; may be deleted at any time
  std::filesystem::path config;   // ${XDG_CONFIG_HOME:-~/.config}
  std::filesystem::path data;     // ${XDG_DATA_HOME:-~/.local/share}: the database, the log, the lock
  std::filesystem::path runtime;  // ${XDG_RUNTIME_DIR}, else data/run: sockets and run records

  // Reads one variable; nullopt where it is not set. The default reads this process's environment.
  using Lookup = std::function<std::optional<std::string>(const char* name)>;

  // Relative paths in XDG variables are ignored, as the XDG specification demands. Without HOME the user's
  // entry in the password database counts; without both: kFailedPrecondition. Makes nothing.
  static Result<Folders> standard(const Lookup& lookup = {});

  // With all state below `folder` (`--data`), the runtime folder included, so that two daemons do not meet.
  Folders with_data(const std::filesystem::path& folder) const;
};

// A Unix socket's path has at most 107 bytes: kInvalidArgument, reason "socket_path_too_long", with what to
// do.
Result<void> check_socket_path(const std::filesystem::path& path);

}  // namespace lm::os
