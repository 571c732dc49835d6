#include "os/orphans.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <map>
#include <optional>
#include <poll.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include <fmt/format.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/system_error.h"

namespace lm::os {
namespace {

constexpr std::string_view kSuffix = ".run";
constexpr std::size_t kLargestRecord = std::size_t{16} * 1024;

struct Record {
  ProcessIdentity process;
  std::string boot;
  std::string name;
  std::filesystem::path socket;
};

template <class Number>
bool parse(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// "key value" lines.
std::optional<Record> parse_record(std::string_view text) {
  std::map<std::string, std::string, std::less<>> values;
  while (!text.empty()) {
    const auto newline = text.find('\n');
    if (newline == std::string_view::npos) return std::nullopt;
    const auto line = text.substr(0, newline);
    text.remove_prefix(newline + 1);
    const auto space = line.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    values.emplace(line.substr(0, space), line.substr(space + 1));
  }
  Record record;
  if (!parse(values["pid"], record.process.pid) || !parse(values["start"], record.process.start_ticks))
    return std::nullopt;
  if (record.process.pid <= 1 || values["boot"].empty()) return std::nullopt;
  record.boot = values["boot"];
  record.name = values["name"];
  record.socket = values["socket"];
  return record;
}

// Only ever a socket: a record that somebody altered must not make us remove anything else.
void remove_socket(const std::filesystem::path& path) {
  struct stat status{};
  if (path.empty() || ::lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  ::unlink(path.c_str());
}

struct Dying {
  Record record;
  std::filesystem::path file;
  UniqueFd pidfd;
};

// The pidfd comes first: what is verified after it is verified of the process that it names.
Result<std::optional<UniqueFd>> kill_if_same(const Record& record, std::string_view boot) {
  if (record.boot != boot) return std::nullopt;
  auto pidfd = open_pidfd(record.process.pid);
  if (!pidfd) {
    // EINVAL: the number now belongs to a thread of another process.
    if (pidfd.error().code == ErrorCode::kNotFound || pidfd.error().number("errno") == EINVAL)
      return std::nullopt;
    return fail(std::move(pidfd).error());
  }
  const auto stat = read_process_stat(record.process.pid);
  if (!stat || stat->identity != record.process || stat->state == 'Z' || stat->state == 'X')
    return std::nullopt;
  // A live leader keeps its group's number; the pidfd's own signal is for one that never led a group.
  if (stat->group == record.process.pid) ::kill(-record.process.pid, SIGKILL);
  LM_TRY_VOID(send_signal(*pidfd, SIGKILL));
  return std::move(*pidfd);
}

// Waits until readable or until `deadline`.
bool has_ended(const UniqueFd& pidfd, TimePoint deadline) {
  const SteadyClock clock;
  while (true) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock.now()).count();
    pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    const int n = ::poll(&ended, 1, static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000)));
    if (n > 0) return true;
    if (n == 0 && left <= 0) return false;
  }
}

}  // namespace

RunRecord::RunRecord(std::filesystem::path file, std::filesystem::path socket)
    : file_(std::move(file)), socket_(std::move(socket)) {}

RunRecord::RunRecord(RunRecord&& other) noexcept
    : file_(std::exchange(other.file_, {})), socket_(std::exchange(other.socket_, {})) {}

RunRecord& RunRecord::operator=(RunRecord&& other) noexcept {
  if (this != &other) {
    remove();
    file_ = std::exchange(other.file_, {});
    socket_ = std::exchange(other.socket_, {});
  }
  return *this;
}

void RunRecord::remove() {
  if (file_.empty()) return;
  remove_socket(socket_);
  ::unlink(file_.c_str());
  file_.clear();
}

Result<RunRecord> RunRecord::write(const std::filesystem::path& run_folder, ProcessIdentity process,
                                   std::string name, std::filesystem::path socket) {
  std::erase(name, '\n');
  if (socket.native().find('\n') != std::string::npos) {
    return fail(ErrorCode::kInvalidArgument, "a socket's path must have no newline");
  }
  LM_TRY(const std::string boot, boot_id());
  const auto file = run_folder / fmt::format("{}{}", process.pid, kSuffix);
  // Gone after a power cut is as good as synced: so is the process. A rename is enough, and costs no disk
  // write on this path.
  const std::string text = fmt::format("pid {}\nstart {}\nboot {}\nname {}\nsocket {}\n", process.pid,
                                       process.start_ticks, boot, name, socket.string());
  LM_TRY_VOID(replace_file(file, text));
  return RunRecord(file, std::move(socket));
}

Result<std::vector<Orphan>> reap_orphans(const std::filesystem::path& run_folder, Duration limit) {
  std::vector<Orphan> orphans;
  std::error_code error;
  std::filesystem::directory_iterator entries(run_folder, error);
  if (error == std::errc::no_such_file_or_directory) return orphans;
  if (error)
    return fail(system_error(error.value(), fmt::format("reading the folder {}", run_folder.string())));
  LM_TRY(const std::string boot, boot_id());

  std::vector<std::filesystem::path> files;
  for (const auto end = std::filesystem::directory_iterator(); !error && entries != end;
       entries.increment(error)) {
    // Also the temporary files beside them, whose writer was killed.
    if (entries->path().filename().string().find(kSuffix) != std::string::npos)
      files.push_back(entries->path());
  }
  std::vector<Dying> dying;
  for (const auto& file : files) {
    const auto text = read_file(file, kLargestRecord);
    const auto record = text ? parse_record(*text) : std::nullopt;
    if (!record) {
      ::unlink(file.c_str());
      continue;
    }
    auto killed = kill_if_same(*record, boot);
    if (!killed) {
      log::warning("process {} ({}) of an earlier run cannot be ended: {}", record->process.pid, record->name,
                   killed.error().message);
      orphans.push_back({.process = record->process, .name = record->name, .ended = false});
      continue;
    }
    if (*killed) {
      dying.push_back({.record = *record, .file = file, .pidfd = std::move(**killed)});
      continue;
    }
    remove_socket(record->socket);
    ::unlink(file.c_str());
  }

  const TimePoint deadline = SteadyClock().now() + limit;
  for (const auto& one : dying) {
    const bool ended = has_ended(one.pidfd, deadline);
    if (ended) {
      remove_socket(one.record.socket);
      ::unlink(one.file.c_str());
    }
    orphans.push_back({.process = one.record.process, .name = one.record.name, .ended = ended});
  }
  return orphans;
}

std::vector<ProcessIdentity> find_strays(const std::string& name, const std::filesystem::path& root) {
  std::vector<ProcessIdentity> strays;
  std::error_code error;
  std::filesystem::directory_iterator entries(root / "proc", error);
  for (const std::filesystem::directory_iterator end; !error && entries != end; entries.increment(error)) {
    pid_t pid = 0;
    if (!parse(entries->path().filename().string(), pid)) continue;
    const auto stat = read_process_stat(pid, root);
    if (stat && stat->name == name && stat->parent == 1 && stat->state != 'Z')
      strays.push_back(stat->identity);
  }
  return strays;
}

}  // namespace lm::os
