#include "os/sandbox/sandbox.h"

#include <cerrno>
#include <fcntl.h>
#include <initializer_list>
#include <linux/futex.h>
#include <memory>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fmt/format.h>

#include "os/system_error.h"

namespace lm::os {
namespace {

// Work on what is open, memory, time, threads' own affairs, the end. None of them names a path or reaches
// another process.
constexpr std::initializer_list<int> kAllowed = {
    SCMP_SYS(read),
    SCMP_SYS(readv),
    SCMP_SYS(pread64),
    SCMP_SYS(preadv),
    SCMP_SYS(preadv2),
    SCMP_SYS(lseek),
    SCMP_SYS(fstat),
    SCMP_SYS(fadvise64),
    SCMP_SYS(readahead),
    SCMP_SYS(write),
    SCMP_SYS(writev),
    SCMP_SYS(close),
    SCMP_SYS(dup),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(recvfrom),
    SCMP_SYS(shutdown),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(mincore),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(membarrier),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(getcpu),
    SCMP_SYS(gettid),
    SCMP_SYS(getpid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
    SCMP_SYS(getrlimit),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

// Nothing that parses a file asks for these.
constexpr std::initializer_list<int> kAttacks = {
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(bpf),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(keyctl),
    SCMP_SYS(mount),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(pidfd_getfd),
};

constexpr unsigned kWritingFlags = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
constexpr unsigned kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

// Remembers the first refusal, so that the table of rules reads as a table.
class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), &seccomp_release) {
    if (!context_) error_ = ENOMEM;
  }

  template <class... Comparisons>
  void rule(std::uint32_t action, int call, Comparisons... comparisons) {
    if (error_ != 0) return;
    const int rc = seccomp_rule_add(context_.get(), action, call, sizeof...(comparisons), comparisons...);
    // A call that this architecture does not have needs no rule.
    if (rc != 0 && rc != -EDOM) error_ = -rc;
  }

  template <class... Comparisons>
  void allow(int call, Comparisons... comparisons) {
    rule(SCMP_ACT_ALLOW, call, comparisons...);
  }

  void attribute(scmp_filter_attr name, std::uint32_t value) {
    if (error_ != 0) return;
    error_ = -seccomp_attr_set(context_.get(), name, value);
  }

  // 0, or an errno.
  int load() {
    if (error_ == 0) error_ = -seccomp_load(context_.get());
    return error_;
  }

 private:
  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int error_ = 0;
};

scmp_arg_cmp equal(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}
// The bits of `mask` are as in `value`.
scmp_arg_cmp bits(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

void add_rules(Filter& filter, const SandboxLimits& limits) {
  for (const int call : kAllowed) filter.allow(call);
  for (const int call : kAttacks) filter.rule(SCMP_ACT_KILL_PROCESS, call);

  filter.allow(SCMP_SYS(mmap), bits(2, PROT_EXEC, 0));
  filter.allow(SCMP_SYS(mprotect), bits(2, PROT_EXEC, 0));
  // send(): not to an address of its own choice.
  filter.allow(SCMP_SYS(sendto), equal(4, 0));
  for (const int command : {F_GETFL, F_GETFD, F_SETFD}) {
    filter.allow(SCMP_SYS(fcntl), equal(1, static_cast<std::uint64_t>(command)));
  }
  // Reading its own limits, not setting them.
  filter.allow(SCMP_SYS(prlimit64), equal(0, 0), equal(2, 0));
  filter.allow(SCMP_SYS(prctl), equal(0, PR_SET_NAME));
  // abort() sends itself a signal.
  filter.allow(SCMP_SYS(tgkill), equal(0, static_cast<std::uint64_t>(::getpid())));

  if (limits.may_open_for_reading) {
    filter.allow(SCMP_SYS(openat), bits(2, kWritingFlags, O_RDONLY));
    filter.allow(SCMP_SYS(open), bits(1, kWritingFlags, O_RDONLY));
    for (const int call :
         {SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(access),
          SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
          SCMP_SYS(getdents64), SCMP_SYS(getcwd), SCMP_SYS(statfs), SCMP_SYS(fstatfs)}) {
      filter.allow(call);
    }
  } else {
    // glibc's fstat(), which passes an empty path that no filter can read: whether a path exists is not kept
    // secret.
    filter.allow(SCMP_SYS(newfstatat), bits(3, AT_EMPTY_PATH, AT_EMPTY_PATH));
  }

  if (limits.may_start_threads) {
    filter.allow(
        SCMP_SYS(clone),
        bits(0, kThreadFlags | CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET, kThreadFlags));
    filter.allow(SCMP_SYS(sched_setaffinity));
    filter.allow(SCMP_SYS(set_tid_address));
  }
  // Its flags are behind a pointer where no filter sees them; glibc then takes clone().
  filter.rule(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));

  filter.attribute(SCMP_FLTATR_CTL_TSYNC, 1);
  filter.attribute(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  filter.attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2);
}

// `grace` is between the kernel's word and its deed, where it gives one.
Result<void> set_limit(int resource, rlim_t value, const char* name, rlim_t grace = 0) {
  const rlimit limit{value, value + grace};
  if (::setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0) return {};
  return fail(system_error(errno, fmt::format("limiting {}", name)));
}

}  // namespace

Result<void> enter_inspection_sandbox(const SandboxLimits& limits) {
  LM_TRY_VOID(set_limit(RLIMIT_CORE, 0, "core dumps"));
  LM_TRY_VOID(set_limit(RLIMIT_FSIZE, static_cast<rlim_t>(limits.written.count()), "file sizes"));
  LM_TRY_VOID(set_limit(RLIMIT_CPU, static_cast<rlim_t>(limits.cpu.count()), "processor time", 1));
  // It counts all processes of the user, threads included: no use where threads are wanted.
  if (!limits.may_start_threads) LM_TRY_VOID(set_limit(RLIMIT_NPROC, 0, "processes"));

  Filter filter;
  add_rules(filter, limits);
  // After the filter is built, which needs memory.
  LM_TRY_VOID(set_limit(RLIMIT_AS, static_cast<rlim_t>(limits.address_space.count()), "address space"));
  LM_TRY_VOID(set_limit(RLIMIT_NOFILE, static_cast<rlim_t>(limits.open_files), "open files"));
  if (const int error = filter.load(); error != 0) {
    Error refused = system_error(error, "entering the sandbox");
    if (error == EINVAL || error == ENOSYS) refused.code = ErrorCode::kUnimplemented;
    return fail(std::move(refused));
  }
  return {};
}

}  // namespace lm::os
