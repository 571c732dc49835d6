// A program for sandbox_test: enters the sandbox, does what its first argument says, and tells what came of
// it. "done", or the name of the error; "bad_alloc" where memory was refused.
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <spawn.h>
#include <string>
#include <string_view>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "os/sandbox/sandbox.h"

namespace {

int tell(std::string_view text) {
  const std::string line = std::string(text) + "\n";
  return ::write(STDOUT_FILENO, line.data(), line.size()) > 0 ? 0 : 2;
}

int tell_errno() {
  return tell(::strerrorname_np(errno));
}
int tell_result(long result) {
  return result < 0 ? tell_errno() : tell("done");
}

int read_open_file(int fd) {
  std::array<char, 64> text{};
  struct stat status{};
  if (::fstat(fd, &status) != 0) return tell_errno();
  if (::pread(fd, text.data(), text.size(), 0) <= 0) return tell_errno();
  void* mapped = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
  if (mapped == MAP_FAILED) return tell_errno();
  return tell(static_cast<const char*>(mapped)[0] == text[0] ? "done" : "differs");
}

int allocate_without_end() {
  try {
    std::vector<std::unique_ptr<char[]>> blocks;
    while (true) {
      blocks.push_back(std::make_unique<char[]>(std::size_t{8} << 20));
      if (blocks.size() > 1000) return tell("unlimited");
    }
  } catch (const std::bad_alloc&) {
    return tell("bad_alloc");
  }
}

int open_many() {
  for (int i = 0; i < 1000; ++i) {
    if (::dup(0) < 0) return tell_errno();
  }
  return tell("unlimited");
}

int start_thread() {
  try {
    int answer = 0;
    std::thread([&] { answer = 42; }).join();
    return tell(answer == 42 ? "done" : "lost");
  } catch (const std::system_error& error) {
    errno = error.code().value();
    return tell_errno();
  }
}

int start_process() {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  return tell_result(child);
}

int make_executable_memory(bool later) {
  void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE | (later ? 0 : PROT_EXEC),
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return tell_errno();
  return later ? tell_result(::mprotect(memory, 4096, PROT_READ | PROT_EXEC)) : tell("done");
}

int throw_and_catch() {
  try {
    throw std::string("thrown");
  } catch (const std::string& text) {
    return tell(text);
  }
}

int run_shell() {
  std::array<char*, 2> arguments = {const_cast<char*>("sh"), nullptr};
  ::execve("/bin/sh", arguments.data(), nullptr);
  return tell_errno();
}

}  // namespace

// sandbox_prisoner ACTION [threads] [open] [write] -- the file to read is descriptor 3, the file to write
// descriptor 4.
int main(int count, char** arguments) {
  lm::os::SandboxLimits limits{
      .address_space = lm::mib(256), .cpu = std::chrono::seconds(1), .open_files = 32};
  std::string action = count > 1 ? arguments[1] : "";
  for (int i = 2; i < count; ++i) {
    if (std::string_view(arguments[i]) == "threads") limits.may_start_threads = true;
    if (std::string_view(arguments[i]) == "open") limits.may_open_for_reading = true;
    if (std::string_view(arguments[i]) == "write") limits.written = lm::Bytes(1);
  }
  const std::map<std::string, std::function<int()>> actions = {
      {"read", [] { return read_open_file(3); }},
      {"open", [] { return tell_result(::open("/proc/sys/kernel/ostype", O_RDONLY | O_CLOEXEC)); }},
      {"open_for_writing", [] { return tell_result(::open("/dev/null", O_WRONLY)); }},
      {"open_for_both", [] { return tell_result(::open("/dev/null", O_RDWR)); }},
      {"create", [] { return tell_result(::open("lm-sandbox-created", O_RDONLY | O_CREAT, 0600)); }},
      {"temporary", [] { return tell_result(::open(".", O_TMPFILE | O_RDWR, 0600)); }},
      {"creat", [] { return tell_result(::creat("lm-sandbox-created", 0600)); }},
      {"openat2", [] { return tell_result(::syscall(SYS_openat2, AT_FDCWD, "/dev/null", nullptr, 0)); }},
      {"unlink", [] { return tell_result(::unlink("/nonexistent/lm-sandbox")); }},
      {"grow_file", [] { return tell_result(::write(4, "x", 1)); }},
      {"grow_twice",
       [] { return ::write(4, "x", 1) == 1 ? tell_result(::write(4, "x", 1)) : tell("not once"); }},
      {"socket", [] { return tell_result(::socket(AF_INET, SOCK_STREAM, 0)); }},
      {"unix_socket", [] { return tell_result(::socket(AF_UNIX, SOCK_STREAM, 0)); }},
      {"kill_parent", [] { return tell_result(::kill(::getppid(), 0)); }},
      {"exec", run_shell},
      {"ptrace", [] { return tell_result(::syscall(SYS_ptrace, 0, 0, 0, 0)); }},
      {"fork", start_process},
      {"thread", start_thread},
      {"allocate", allocate_without_end},
      {"open_many", open_many},
      {"executable_memory", [] { return make_executable_memory(false); }},
      {"executable_later", [] { return make_executable_memory(true); }},
      {"raise_limit",
       [] {
         const rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
         return tell_result(::setrlimit(RLIMIT_CPU, &limit));
       }},
      {"throw", throw_and_catch},
      {"abort",
       [] {
         std::abort();
         return 0;
       }},
      {"spin",
       [] {
         for (volatile unsigned long i = 0;; i = i + 1) {
         }
         return 0;
       }},
  };
  const auto found = actions.find(action);
  if (found == actions.end()) return 64;
  if (const auto entered = lm::os::enter_inspection_sandbox(limits); !entered)
    return tell(entered.error().message);
  return found->second();
}
