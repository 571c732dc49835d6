#include "client/private_daemon.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <fcntl.h>
#include <mutex>
#include <poll.h>
#include <pthread.h>
#include <set>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "os/file.h"

namespace lm::client {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr auto kStopLimit = std::chrono::seconds(10);
constexpr std::size_t kLongestWord = 16u << 10;  // of what a daemon says that does not start
constexpr int kLifelineNumber = 3;

// Our ends of all lifelines. A forked child closes its copies: what it would hold would outlive us.
class Lifelines {
 public:
  static Lifelines& all() {
    static auto* const one = new Lifelines;  // for ever: daemons may be stopped while the process ends
    return *one;
  }

  void add(int fd) {
    const std::scoped_lock lock(mutex_);
    ends_.insert(fd);
  }
  void close(int fd) {
    const std::scoped_lock lock(mutex_);
    if (ends_.erase(fd) != 0) ::close(fd);
  }

 private:
  Lifelines() {
    ::pthread_atfork([] { all().mutex_.lock(); }, [] { all().mutex_.unlock(); },
                     [] {
                       for (const int fd : all().ends_) ::close(fd);
                       all().ends_.clear();
                       all().mutex_.unlock();
                     });
  }

  std::mutex mutex_;
  std::set<int> ends_;
};

Error failure(std::string_view what, int number) {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("{}: {}", what, std::generic_category().message(number)),
          .reason = "no_daemon",
          .fields = {},
          .retry_after = {}};
}

struct Pipe {
  os::UniqueFd read, write;

  static Result<Pipe> make() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return fail(failure("making a pipe", errno));
    return Pipe{os::UniqueFd(ends[0]), os::UniqueFd(ends[1])};
  }
};

// A file that has no name.
Result<os::UniqueFd> memory_file(const char* name, std::string_view text) {
  os::UniqueFd file(::memfd_create(name, MFD_CLOEXEC));
  if (!file) return fail(failure("making a file in memory", errno));
  while (!text.empty()) {
    const ssize_t written = ::write(file.get(), text.data(), text.size());
    if (written < 0) return fail(failure("writing the configuration", errno));
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  ::lseek(file.get(), 0, SEEK_SET);
  return file;
}

std::string text_of(int memory) {
  std::string text(kLongestWord, '\0');
  const ssize_t size = ::pread(memory, text.data(), text.size(), 0);
  text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  return text;
}

// What the command line says before it ends, without its mark: "error: the configuration …".
std::string reason_of(std::string text) {
  constexpr std::string_view kMark = "error: ";
  if (const std::size_t at = text.rfind(kMark); at != std::string::npos) text.erase(0, at + kMark.size());
  return text;
}

bool wait_for(int fd, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd one{.fd = fd, .events = POLLIN, .revents = 0};
    const int ready = ::poll(&one, 1, static_cast<int>(std::max<std::int64_t>(0, left)));
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return false;
  }
}

}  // namespace

Result<fs::path> find_program(const fs::path& named) {
  constexpr const char* kName = "llm-manager";
  const auto usable = [](const fs::path& path) { return ::access(path.c_str(), X_OK) == 0; };
  std::vector<fs::path> tried;
  const auto not_found = [](const std::string& where) {
    return fail(ErrorCode::kNotFound,
                fmt::format("{} is no program that can be run: scripts/bootstrap builds llm-manager, and "
                            "LLM_MANAGER_PROGRAM names it",
                            where),
                "no_program");
  };
  if (!named.empty())
    return usable(named) ? Result<fs::path>(fs::absolute(named)) : not_found(named.string());
  if (const char* variable = std::getenv("LLM_MANAGER_PROGRAM"); variable != nullptr && *variable != '\0')
    return usable(variable) ? Result<fs::path>(fs::absolute(variable)) : not_found(variable);
  Dl_info here{};
  if (::dladdr(reinterpret_cast<const void*>(&find_program), &here) != 0 && here.dli_fname != nullptr) {
    std::error_code error;
    // PREFIX/bin of PREFIX/lib/libllm_manager.so and PREFIX/lib/TRIPLET/libllm_manager.so; build/bin.
    for (fs::path folder = fs::canonical(here.dli_fname, error).parent_path(); tried.size() < 8;
         folder = folder.parent_path()) {
      tried.push_back(folder / kName);
      tried.push_back(folder / "bin" / kName);
    }
  }
  if (const char* path = std::getenv("PATH")) {
    for (std::string_view rest = path; !rest.empty();) {
      const std::size_t colon = rest.find(':');
      tried.push_back(fs::path(rest.substr(0, colon)) / kName);
      rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
    }
  }
  for (const fs::path& path : tried)
    if (usable(path)) return path;
  return not_found(kName);
}

Result<std::unique_ptr<PrivateDaemon>> PrivateDaemon::start(const PrivateDaemonOptions& options) {
  LM_TRY(Pipe lifeline, Pipe::make());
  LM_TRY(Pipe output, Pipe::make());
  LM_TRY(const os::UniqueFd input, memory_file("configuration", options.configuration));
  LM_TRY(const os::UniqueFd errors, memory_file("errors", {}));

  std::vector<std::string> words{options.program.string(), "serve", "--lifeline",
                                 std::to_string(kLifelineNumber)};
  const auto add = [&words](const char* option, const fs::path& value) {
    if (value.empty()) return;
    words.emplace_back(option);
    words.push_back(value.string());
  };
  add("--config", options.configuration.empty() ? options.configuration_file : fs::path("-"));
  add("--data", options.data);
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);

  // Above every number that they are given, so that none overwrites another before it was copied.
  const auto raised = [](const os::UniqueFd& fd) {
    return os::UniqueFd(::fcntl(fd.get(), F_DUPFD_CLOEXEC, kLifelineNumber + 1));
  };
  std::array<os::UniqueFd, 4> given{raised(input), raised(output.write), raised(errors),
                                    raised(lifeline.read)};
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  for (std::size_t number = 0; number < given.size(); ++number)
    ::posix_spawn_file_actions_adddup2(&files, given.at(number).get(), static_cast<int>(number));
  ::posix_spawn_file_actions_addclosefrom_np(&files, kLifelineNumber + 1);
  sigset_t none, every;
  ::sigemptyset(&none);
  ::sigfillset(&every);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &every);
  // A session of its own: Ctrl-C is for us, and the daemon ends when we do.
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::unique_ptr<PrivateDaemon> daemon(new PrivateDaemon);
  const int failed =
      ::posix_spawn(&daemon->pid_, options.program.c_str(), &files, &attributes, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    daemon->pid_ = 0;
    return fail(failure("starting " + options.program.string(), failed));
  }
  daemon->owner_ = ::getpid();
  daemon->process_ = static_cast<int>(::syscall(SYS_pidfd_open, daemon->pid_, 0));
  daemon->lifeline_ = lifeline.write.release();
  Lifelines::all().add(daemon->lifeline_);
  // Only the daemon's own: that it has ended is seen by the end of its output.
  given = {};
  output.write.reset();
  LM_TRY_VOID(daemon->wait_until_it_listens(output.read.get(), errors.get(), options.start_limit));
  return daemon;
}

Result<void> PrivateDaemon::wait_until_it_listens(int output, int errors, std::chrono::milliseconds limit) {
  constexpr std::string_view kListening = "listening on ";
  const auto until = Clock::now() + limit;
  std::string said;
  while (said.find('\n') == std::string::npos) {
    if (!wait_for(output, until)) {
      return fail(ErrorCode::kDeadlineExceeded,
                  fmt::format("the private daemon could not be used after {} ms", limit.count()),
                  "start_timeout");
    }
    std::array<char, 512> piece{};
    const ssize_t size = ::read(output, piece.data(), piece.size());
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) {
      const std::string why = reason_of(text_of(errors));
      return fail(ErrorCode::kUnavailable,
                  why.empty() ? std::string("the private daemon ended before it could be used") : why,
                  "no_daemon");
    }
    said.append(piece.data(), static_cast<std::size_t>(size));
  }
  said.resize(said.find('\n'));
  if (!said.starts_with(kListening))
    return fail(ErrorCode::kUnavailable, "what was started is no LLM Manager", "no_daemon");
  address_ = said.substr(kListening.size());
  return {};
}

PrivateDaemon::~PrivateDaemon() {
  stop();
}

void PrivateDaemon::stop() {
  if (pid_ == 0 || owner_ != ::getpid()) return;
  Lifelines::all().close(lifeline_);
  if (process_ >= 0) {
    if (!wait_for(process_, Clock::now() + kStopLimit))
      ::syscall(SYS_pidfd_send_signal, process_, SIGKILL, 0, 0);
    ::close(process_);
  } else {
    ::kill(pid_, SIGKILL);
  }
  // ECHILD: somebody else in this process has waited for it.
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

}  // namespace lm::client
