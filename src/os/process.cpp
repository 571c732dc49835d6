#include "os/process.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>
#include <string_view>
#include <sys/syscall.h>
#include <unistd.h>

#include <fmt/format.h>

#include "os/system_error.h"

namespace lm::os {
namespace {

// The n-th word of a text separated by single spaces, counted from 0.
std::string_view word(std::string_view text, std::size_t n) {
  for (; n > 0; --n) {
    const auto space = text.find(' ');
    if (space == std::string_view::npos) return {};
    text.remove_prefix(space + 1);
  }
  return text.substr(0, text.find_first_of(" \n"));
}

template <class Number>
bool parse(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

}  // namespace

Result<ProcessStat> read_process_stat(pid_t pid, const std::filesystem::path& root) {
  LM_TRY(const std::string text, read_file(root / "proc" / std::to_string(pid) / "stat"));
  // The name stands in brackets and may itself have brackets and spaces: it ends at the last one.
  const auto open = text.find('(');
  const auto close = text.rfind(')');
  ProcessStat stat;
  stat.identity.pid = pid;
  if (open == std::string::npos || close == std::string::npos || close < open || close + 2 >= text.size()) {
    return fail(ErrorCode::kInternal, fmt::format("/proc/{}/stat has no name in brackets", pid));
  }
  stat.name = text.substr(open + 1, close - open - 1);
  const std::string_view rest = std::string_view(text).substr(close + 2);  // begins with field 3
  stat.state = rest.front();
  if (!parse(word(rest, 1), stat.parent) || !parse(word(rest, 2), stat.group) ||
      !parse(word(rest, 19), stat.identity.start_ticks)) {
    return fail(ErrorCode::kInternal, fmt::format("/proc/{}/stat has no parent, group or start time", pid));
  }
  return stat;
}

Result<ProcessIdentity> identify(pid_t pid) {
  LM_TRY(const ProcessStat stat, read_process_stat(pid));
  return stat.identity;
}

std::vector<ProcessIdentity> group_members(pid_t group, const std::filesystem::path& root) {
  std::vector<ProcessIdentity> members;
  std::error_code error;
  std::filesystem::directory_iterator entries(root / "proc", error);
  for (const auto end = std::filesystem::directory_iterator(); !error && entries != end;
       entries.increment(error)) {
    pid_t pid = 0;
    if (!parse(std::string_view(entries->path().filename().native()), pid)) continue;
    const auto stat = read_process_stat(pid, root);
    if (!stat || stat->group != group || stat->state == 'Z' || stat->state == 'X') continue;
    members.insert(pid == group ? members.begin() : members.end(), stat->identity);
  }
  return members;
}

Result<std::string> boot_id() {
  LM_TRY(std::string text, read_file("/proc/sys/kernel/random/boot_id"));
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

Result<UniqueFd> open_pidfd(pid_t pid) {
  UniqueFd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return fail(system_error(errno, fmt::format("opening process {}", pid)));
  return fd;
}

Result<void> send_signal(const UniqueFd& pidfd, int signal) {
  if (::syscall(SYS_pidfd_send_signal, pidfd.get(), signal, nullptr, 0) == 0 || errno == ESRCH) return {};
  return fail(system_error(errno, fmt::format("sending {}", signal_name(signal))));
}

std::string signal_name(int signal) {
  if (const char* name = ::sigabbrev_np(signal)) return fmt::format("SIG{}", name);
  return fmt::format("signal {}", signal);
}

}  // namespace lm::os
