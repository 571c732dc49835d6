#include "os/file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "os/system_error.h"

namespace lm::os {
namespace {

constexpr const char* kOwnFolder = "llm-manager";

Result<void> write_all(int fd, std::string_view text, const std::filesystem::path& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return fail(system_error(errno, fmt::format("writing {}", path.string())));
    }
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> sync_folder(const std::filesystem::path& folder) {
  const UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd || ::fsync(fd.get()) != 0)
    return fail(system_error(errno, fmt::format("syncing {}", folder.string())));
  return {};
}

Result<void> replace(const std::filesystem::path& path, std::string_view text, mode_t mode, bool sync) {
  std::string temporary = path.string() + ".XXXXXX";
  const UniqueFd fd(::mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return fail(system_error(errno, fmt::format("creating a file beside {}", path.string())));

  const auto write = [&]() -> Result<void> {
    LM_TRY_VOID(write_all(fd.get(), text, path));
    if (::fchmod(fd.get(), mode) != 0)
      return fail(system_error(errno, fmt::format("setting the mode of {}", temporary)));
    if (sync && ::fsync(fd.get()) != 0)
      return fail(system_error(errno, fmt::format("syncing {}", temporary)));
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
      return fail(system_error(errno, fmt::format("replacing {}", path.string())));
    }
    return {};
  };
  auto written = write();
  if (!written) ::unlink(temporary.c_str());
  return written;
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

std::optional<std::string> from_process_environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

std::optional<std::filesystem::path> home_in_password_database() {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  std::filesystem::path home(entry.pw_dir);
  if (!home.is_absolute()) return std::nullopt;
  return home;
}

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) reset(other.release());
  return *this;
}

int UniqueFd::release() {
  return std::exchange(fd_, -1);
}

void UniqueFd::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t limit) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
  if (!fd) return fail(system_error(errno, fmt::format("opening {}", path.string())));
  std::string text;
  // The size of a file below /proc is 0, so it is read until it ends; one byte beyond the limit tells a file
  // that is larger.
  std::size_t chunk = 4096;
  while (true) {
    const std::size_t at = text.size();
    text.resize(std::min(at + chunk, limit + 1));
    const ssize_t n = ::read(fd.get(), text.data() + at, text.size() - at);
    if (n < 0 && errno != EINTR) return fail(system_error(errno, fmt::format("reading {}", path.string())));
    text.resize(at + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0) return text;
    if (text.size() > limit) {
      return fail(ErrorCode::kResourceExhausted,
                  fmt::format("{} is larger than {} bytes", path.string(), limit), "file_too_large");
    }
    chunk = std::min<std::size_t>(chunk * 2, 1 << 18);
  }
}

Result<void> write_file_atomically(const std::filesystem::path& path, std::string_view text, mode_t mode) {
  LM_TRY_VOID(replace(path, text, mode, true));
  return sync_folder(folder_of(path));
}

Result<void> replace_file(const std::filesystem::path& path, std::string_view text, mode_t mode) {
  return replace(path, text, mode, false);
}

Result<void> make_private_folders(const std::filesystem::path& path) {
  std::filesystem::path so_far;
  for (const auto& part : path) {
    so_far /= part;
    if (part.empty() || part == "/") continue;
    if (::mkdir(so_far.c_str(), 0700) == 0 || errno == EEXIST) continue;
    // A parent that exists on a read-only disk, or that we may not write to, says so instead of EEXIST.
    const int error_number = errno;
    std::error_code ignored;
    if (std::filesystem::is_directory(so_far, ignored)) continue;
    return fail(system_error(error_number, fmt::format("making the folder {}", so_far.string())));
  }
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) {
    return fail(system_error(ENOTDIR, fmt::format("making the folder {}", path.string())));
  }
  return {};
}

Result<void> make_own_folder(const std::filesystem::path& path) {
  LM_TRY_VOID(make_private_folders(path.parent_path()));
  if (::mkdir(path.c_str(), 0700) == 0) return {};
  const int error_number = errno;
  struct stat status{};
  if (error_number != EEXIST || ::lstat(path.c_str(), &status) != 0)
    return fail(system_error(error_number, fmt::format("making the folder {}", path.string())));
  if (S_ISDIR(status.st_mode) && status.st_uid == ::geteuid() && (status.st_mode & 0077) == 0) return {};
  return fail(ErrorCode::kPermissionDenied,
              fmt::format("{} is there already and is not a folder of this user's alone", path.string()),
              "foreign_folder");
}

Result<void> remove_file(const std::filesystem::path& path) {
  if (::unlink(path.c_str()) == 0 || errno == ENOENT) return {};
  return fail(system_error(errno, fmt::format("removing {}", path.string())));
}

Result<LockFile> LockFile::acquire(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) return fail(system_error(errno, fmt::format("opening the lock {}", path.string())));
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail(system_error(errno, fmt::format("locking {}", path.string())));
    std::int64_t pid = 0;
    if (const auto text = read_file(path, 64))
      std::from_chars(text->data(), text->data() + text->size(), pid);
    Error error{.code = ErrorCode::kAlreadyExists,
                .message = fmt::format("another process{} holds {}",
                                       pid > 0 ? fmt::format(" (pid {})", pid) : "", path.string()),
                .reason = "locked",
                .fields = {},
                .retry_after = {}};
    if (pid > 0) error.fields.emplace_back("pid", pid);
    return fail(std::move(error));
  }
  std::optional<int> left_by;
  if (int pid = 0; const auto text = read_file(path, 64)) {
    if (std::from_chars(text->data(), text->data() + text->size(), pid).ec == std::errc()) left_by = pid;
  }
  if (::ftruncate(fd.get(), 0) != 0)
    return fail(system_error(errno, fmt::format("emptying {}", path.string())));
  LM_TRY_VOID(write_all(fd.get(), fmt::format("{}\n", ::getpid()), path));
  return LockFile(std::move(fd), left_by);
}

LockFile::~LockFile() {
  // A pid that stays is only a number that by then is somebody else's.
  if (fd_ && ::ftruncate(fd_.get(), 0) != 0) return;
}

Result<std::filesystem::path> own_executable() {
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return fail(system_error(error.value(), "reading /proc/self/exe"));
  return path;
}

Result<Folders> Folders::standard(const Lookup& lookup) {
  const auto read = [&lookup](const char* name) -> std::optional<std::filesystem::path> {
    const auto value = lookup ? lookup(name) : from_process_environment(name);
    if (!value) return std::nullopt;
    std::filesystem::path path(*value);
    if (!path.is_absolute()) return std::nullopt;
    return path;
  };
  auto home = read("HOME");
  if (!home) home = home_in_password_database();
  if (!home) {
    return fail(ErrorCode::kFailedPrecondition, "no home folder: set HOME, or give --data a folder");
  }
  Folders folders{
      .cache = read("XDG_CACHE_HOME").value_or(*home / ".cache") / kOwnFolder,
      .config = read("XDG_CONFIG_HOME").value_or(*home / ".config") / kOwnFolder,
      .data = read("XDG_DATA_HOME").value_or(*home / ".local/share") / kOwnFolder,
      .runtime = {},
  };
  const auto runtime = read("XDG_RUNTIME_DIR");
  folders.runtime = runtime ? *runtime / kOwnFolder : folders.data / "run";
  return folders;
}

Folders Folders::with_data(const std::filesystem::path& folder) const {
  Folders moved = *this;
  moved.data = folder;
  moved.runtime = folder / "run";
  return moved;
}

Result<void> check_socket_path(const std::filesystem::path& path) {
  constexpr std::size_t kLongest = sizeof(sockaddr_un::sun_path) - 1;
  const std::size_t length = path.native().size();
  if (length <= kLongest) return {};
  return fail(ErrorCode::kInvalidArgument,
              fmt::format("the socket path {} has {} bytes, at most {} work: use a shorter data folder, or "
                          "set XDG_RUNTIME_DIR",
                          path.string(), length, kLongest),
              "socket_path_too_long");
}

}  // namespace lm::os
