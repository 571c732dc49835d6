// logs: the daemon's log file, its end and what comes.
#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <string>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/display_width.h"
#include "cli/json_view.h"
#include "os/file.h"

namespace lm::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlock = 64 << 10;
// Where the file system does not tell of changes (network folders), this is how often we look.
constexpr int kLookEveryMs = 1000;

Error error_of(ErrorCode code, std::string message, std::string reason) {
  return {.code = code,
          .message = std::move(message),
          .reason = std::move(reason),
          .fields = {},
          .retry_after = {}};
}

// Where the last `lines` lines of the file begin. The file may grow meanwhile.
std::uint64_t start_of_last(int file, std::uint64_t size, int lines) {
  if (lines <= 0) return size;
  std::string block;
  int wanted = lines;
  for (std::uint64_t end = size; end > 0;) {
    const std::uint64_t begin = end > kBlock ? end - kBlock : 0;
    block.resize(static_cast<std::size_t>(end - begin));
    const ssize_t n = ::pread(file, block.data(), block.size(), static_cast<off_t>(begin));
    if (n != static_cast<ssize_t>(block.size())) return begin;
    for (std::size_t i = block.size(); i-- > 0;) {
      // The break that ends the last line separates nothing.
      if (block[i] != '\n' || begin + i + 1 == size) continue;
      if (--wanted == 0) return begin + i + 1;
    }
    end = begin;
  }
  return 0;
}

// Whole lines out of a file that grows, is cut short, or is replaced by another of the same name.
class LogFile {
 public:
  LogFile(const Context& context, fs::path path) : context_(context), path_(std::move(path)) {}

  bool open(int lines) {
    file_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat info{};
    if (!file_ || ::fstat(file_.get(), &info) != 0 || !S_ISREG(info.st_mode)) return false;
    inode_ = info.st_ino;
    at_ = lines < 0 ? 0 : start_of_last(file_.get(), static_cast<std::uint64_t>(info.st_size), lines);
    return true;
  }

  // Prints what is new; afterwards looks whether the name means another file now.
  void follow() {
    if (file_) print_new();
    struct stat info{};
    if (::stat(path_.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return;
    if (!file_ || info.st_ino != inode_) {
      if (open(-1)) print_new();
    }
  }

  // A line whose end has not been written yet.
  void finish() {
    if (!partial_.empty()) print(partial_);
    partial_.clear();
  }

 private:
  void print_new() {
    struct stat info{};
    if (::fstat(file_.get(), &info) == 0 && static_cast<std::uint64_t>(info.st_size) < at_) {
      at_ = 0;
      partial_.clear();
    }
    std::string block(kBlock, '\0');
    for (;;) {
      const ssize_t n = ::pread(file_.get(), block.data(), block.size(), static_cast<off_t>(at_));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;
      at_ += static_cast<std::uint64_t>(n);
      partial_.append(block, 0, static_cast<std::size_t>(n));
      std::size_t begin = 0;
      for (std::size_t end; (end = partial_.find('\n', begin)) != std::string::npos; begin = end + 1) {
        print(std::string_view(partial_).substr(begin, end - begin));
      }
      partial_.erase(0, begin);
    }
  }

  void print(std::string_view line) const {
    if (context_.json) {
      context_.out().line(fmt::format(R"({{"line":{}}})", boost::json::serialize(boost::json::string(line))));
      return;
    }
    // A log quotes what clients and files say.
    context_.out().line(context_.out().is_terminal ? printable(line) : std::string(line));
  }

  const Context& context_;
  fs::path path_;
  os::UniqueFd file_;
  ino_t inode_ = 0;
  std::uint64_t at_ = 0;
  std::string partial_;
};

// The file that the daemon names; without a daemon the place where it writes by default.
Outcome<fs::path> find_log(Context& context) {
  auto daemon = context.daemon();
  if (!daemon) return std::unexpected(daemon.error());
  const auto answer = daemon->get("/api/v1/system", Patience::kQuick);
  if (answer) {
    const auto value = parse_json(*answer);
    const std::string_view file = value ? text_of(*value, "log_file") : std::string_view();
    if (!file.empty()) return fs::path(file);
    return std::unexpected(failure_of(
        error_of(ErrorCode::kNotFound, "this daemon writes no log file; its lines are on its standard error",
                 "no_log_file")));
  }
  if (answer.error().code != ExitCode::kUnreachable) return std::unexpected(answer.error());
  const auto folders =
      os::Folders::standard([&](const char* name) { return context.host.environment(name); });
  if (!folders) return std::unexpected(failure_of(folders.error()));
  context.err().line(
      coloured(context.err(), Colour::kDim, printable("no daemon answers; this is the log of the last one")));
  return folders->data / "llm-manager.log";
}

}  // namespace

ExitCode run(Context& context, const LogsOptions& options) {
  const auto path = find_log(context);
  if (!path) return context.report(path.error());
  LogFile log(context, *path);
  // The watch comes first, so that nothing falls between reading and waiting.
  const os::UniqueFd watch(options.follow ? ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC) : -1);
  if (watch)
    ::inotify_add_watch(watch.get(), path->parent_path().c_str(),
                        IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ATTRIB);
  if (!log.open(options.lines)) {
    return context.report(
        error_of(ErrorCode::kNotFound,
                 fmt::format("there is no log at {}; it may lie on the daemon's machine", path->string()),
                 "no_log_file"));
  }
  for (log.follow(); options.follow; log.follow()) {
    Interrupts* interrupts = context.interrupts;
    if (interrupts == nullptr) break;
    if (interrupts->wait_readable(watch.get(), kLookEveryMs)) {
      char ignored[4096];
      while (::read(watch.get(), ignored, sizeof ignored) > 0) {
      }
    }
    if (interrupts->take()) {
      log.finish();
      return ExitCode::kInterrupted;
    }
  }
  log.finish();
  return ExitCode::kOk;
}

}  // namespace lm::cli
