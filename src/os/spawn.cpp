#include "os/spawn.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/assert.h"
#include "os/system_error.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define LM_SPAWN_WITH_OWN_MEMORY 1
#endif
#endif

// The child below runs in the parent's memory, on a stack that no sanitizer knows.
#define LM_IN_CHILD __attribute__((no_sanitize("address", "undefined", "thread"), noinline))

namespace lm::os {
namespace {

enum class Step : int { kParent, kGroup, kFolder, kDescriptors, kPriority, kOomScore, kLimits, kExec };

struct Failure {
  Step step;
  int error_number;
};

struct Plan {
  const char* program;
  char* const* arguments;
  char* const* environment;
  const char* folder;        // null: ours
  InheritedFd* descriptors;  // `ours` is overwritten by the child
  std::size_t descriptor_count;
  const ResourceLimit* limits;
  std::size_t limit_count;
  const char* oom_score;  // null: as ours
  int nice;
  pid_t parent;
  bool dies_with_parent;
  int failure_fd;
  int lowest_free;  // no descriptor number asked for is as high as this
};

LM_IN_CHILD void give_up(const Plan& plan, Step step) {
  const Failure failure{step, errno};
  // A pipe takes this much at once or not at all, and the parent takes silence for an unknown failure.
  [[maybe_unused]] const auto n = ::syscall(SYS_write, plan.failure_fd, &failure, sizeof failure);
  ::syscall(SYS_exit_group, 127);
}

// Only system calls from here to exec: the parent's memory, its locks included, is as the parent left it.
LM_IN_CHILD int child_main(void* argument) {
  Plan& plan = *static_cast<Plan*>(argument);

  // A handler of ours must not run here, and what we ignore would stay ignored across exec.
  struct {
    void* handler = nullptr;
    unsigned long flags = 0;
    void* restorer = nullptr;
    unsigned long mask = 0;
  } const default_action;
  for (int signal = 1; signal <= 64; ++signal)
    ::syscall(SYS_rt_sigaction, signal, &default_action, nullptr, 8UL);

  if (plan.dies_with_parent) {
    if (::syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) give_up(plan, Step::kParent);
    // The parent may have died before that: its end is then no longer a signal, but a foster parent.
    if (::syscall(SYS_getppid) != plan.parent) ::syscall(SYS_exit_group, 127);
  }
  if (::syscall(SYS_setpgid, 0, 0) != 0) give_up(plan, Step::kGroup);
  if (plan.folder != nullptr && ::syscall(SYS_chdir, plan.folder) != 0) give_up(plan, Step::kFolder);

  // First out of each other's way, then to their places, so that any permutation works.
  const long failure_fd = ::syscall(SYS_fcntl, plan.failure_fd, F_DUPFD_CLOEXEC, plan.lowest_free);
  if (failure_fd < 0) give_up(plan, Step::kDescriptors);
  plan.failure_fd = static_cast<int>(failure_fd);
  for (std::size_t i = 0; i < plan.descriptor_count; ++i) {
    const long fd = ::syscall(SYS_fcntl, plan.descriptors[i].ours, F_DUPFD_CLOEXEC, plan.lowest_free);
    if (fd < 0) give_up(plan, Step::kDescriptors);
    plan.descriptors[i].ours = static_cast<int>(fd);
  }
  if (::syscall(SYS_close_range, 0U, ~0U, CLOSE_RANGE_CLOEXEC) != 0) give_up(plan, Step::kDescriptors);
  for (std::size_t i = 0; i < plan.descriptor_count; ++i) {
    if (::syscall(SYS_dup3, plan.descriptors[i].ours, plan.descriptors[i].childs, 0) < 0) {
      give_up(plan, Step::kDescriptors);
    }
  }

  if (plan.nice != 0) {
    // The system call answers 20 - nice.
    const long priority = ::syscall(SYS_getpriority, PRIO_PROCESS, 0);
    if (::syscall(SYS_setpriority, PRIO_PROCESS, 0, 20 - priority + plan.nice) != 0)
      give_up(plan, Step::kPriority);
  }
  if (plan.oom_score != nullptr) {
    const long fd = ::syscall(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    std::size_t length = 0;
    while (plan.oom_score[length] != '\0') ++length;
    if (fd < 0 || ::syscall(SYS_write, fd, plan.oom_score, length) < 0) give_up(plan, Step::kOomScore);
  }
  for (std::size_t i = 0; i < plan.limit_count; ++i) {
    const rlimit limit{plan.limits[i].value, plan.limits[i].value};
    if (::syscall(SYS_prlimit64, 0, plan.limits[i].resource, &limit, nullptr) != 0)
      give_up(plan, Step::kLimits);
  }

  const unsigned long nothing_blocked = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &nothing_blocked, nullptr, 8UL);
  ::syscall(SYS_execve, plan.program, plan.arguments, plan.environment);
  give_up(plan, Step::kExec);
  return 127;
}

// Shares the parent's memory and stops the parent until exec, as vfork does: the cost does not grow with our
// size.
pid_t start_child(Plan& plan, int& pidfd) {
#ifdef LM_SPAWN_WITH_OWN_MEMORY
  // ThreadSanitizer's own state must not be shared with a child.
  const long pid = ::syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, nullptr, &pidfd, nullptr, nullptr);
  if (pid == 0) child_main(&plan);
  return static_cast<pid_t>(pid);
#else
  // One stack is enough: only the main thread starts children, and it stands still until the child has left
  // this one.
  alignas(64) static std::array<char, 32768> stack;
  return ::clone(child_main, stack.data() + stack.size(), CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD,
                 &plan, &pidfd);
#endif
}

Result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* variable = std::getenv("PATH");
  std::string_view rest = variable != nullptr ? variable : "/usr/local/bin:/usr/bin:/bin";
  while (!name.empty()) {
    const auto colon = rest.find(':');
    const std::string_view folder = rest.substr(0, colon);
    std::string path = fmt::format("{}/{}", folder.empty() ? "." : folder, name);
    std::error_code ignored;
    if (std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0) return path;
    if (colon == std::string_view::npos) break;
    rest.remove_prefix(colon + 1);
  }
  return fail(ErrorCode::kNotFound, fmt::format("there is no program {} in PATH", name), "program_not_found");
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const auto& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

Error explain(const Failure& failure, const SpawnOptions& options, const std::string& program) {
  const auto what = [&]() -> std::string {
    switch (failure.step) {
      case Step::kParent:
        return "asking for the parent-death signal";
      case Step::kGroup:
        return "making a process group";
      case Step::kFolder:
        return fmt::format("changing to the folder {}", options.working_folder.string());
      case Step::kDescriptors:
        return "handing over descriptors";
      case Step::kPriority:
        return fmt::format("changing the priority by {}", options.nice);
      case Step::kOomScore:
        return "setting the out-of-memory score";
      case Step::kLimits:
        return "setting resource limits";
      case Step::kExec:
        break;
    }
    return "running the program";
  }();
  return system_error(failure.error_number, what).with_context(fmt::format("starting {}", program));
}

void block_all_signals(sigset_t& previous) {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &previous);
}

}  // namespace

Result<Spawned> spawn_process(const SpawnOptions& options, int standard_input, int standard_output,
                              int standard_error) {
  LM_ASSERT(::gettid() == ::getpid(), "children are started on the main thread only");
  if (options.arguments.empty()) return fail(ErrorCode::kInvalidArgument, "no program to start");
  LM_TRY(const std::string program, find_program(options.arguments.front()));

  std::vector<InheritedFd> descriptors = {{standard_input, 0}, {standard_output, 1}, {standard_error, 2}};
  int lowest_free = 3;
  for (const auto& fd : options.inherit) {
    LM_ASSERT(fd.ours >= 0 && fd.childs >= 3, "an inherited descriptor is open here and 3 or more there");
    descriptors.push_back(fd);
    lowest_free = std::max(lowest_free, fd.childs + 1);
  }
  const auto arguments = pointers_to(options.arguments);
  const auto environment = pointers_to(options.environment);
  const std::string oom_score =
      options.oom_score_adjustment ? std::to_string(*options.oom_score_adjustment) : "";

  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0) return fail(system_error(errno, "making a pipe"));
  const UniqueFd failure_reader(pipe[0]);
  UniqueFd failure_writer(pipe[1]);

  Plan plan{.program = program.c_str(),
            .arguments = arguments.data(),
            .environment = environment.data(),
            .folder = options.working_folder.empty() ? nullptr : options.working_folder.c_str(),
            .descriptors = descriptors.data(),
            .descriptor_count = descriptors.size(),
            .limits = options.limits.data(),
            .limit_count = options.limits.size(),
            .oom_score = options.oom_score_adjustment ? oom_score.c_str() : nullptr,
            .nice = options.nice,
            .parent = ::getpid(),
            .dies_with_parent = options.dies_with_parent,
            .failure_fd = failure_writer.get(),
            .lowest_free = lowest_free};

  sigset_t previous;
  block_all_signals(previous);
  int pidfd = -1;
  const pid_t pid = start_child(plan, pidfd);
  const int clone_error = errno;
  ::pthread_sigmask(SIG_SETMASK, &previous, nullptr);
  if (pid < 0) return fail(system_error(clone_error, fmt::format("starting {}", program)));
  Spawned spawned{.pid = pid, .pidfd = UniqueFd(pidfd)};

  failure_writer.reset();
  Failure failure{};
  ssize_t n = 0;
  do {
    n = ::read(failure_reader.get(), &failure, sizeof failure);
  } while (n < 0 && errno == EINTR);
  if (n == 0) return spawned;

  siginfo_t info{};
  while (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(spawned.pidfd.get()), &info, WEXITED) !=
             0 &&
         errno == EINTR) {
  }
  return fail(explain(failure, options, program));
}

}  // namespace lm::os
