#include "crash.h"

#include <array>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <signal.h>
#include <unistd.h>

namespace lm::worker {
namespace {

// Read by signal handlers: a pointer that changes at once, to text that is never freed.
std::atomic<const std::string*> answer{nullptr};
std::atomic<int> answer_fd{-1};
std::string socket_to_remove;

void on_crash(int signal) {
  if (const auto* line = answer.exchange(nullptr); line != nullptr && !line->empty()) {
    [[maybe_unused]] const auto sent = ::write(answer_fd, line->data(), line->size());
  }
  // The handler was set with SA_RESETHAND, so this time it kills.
  ::raise(signal);
}

void on_end(int) {
  if (!socket_to_remove.empty()) ::unlink(socket_to_remove.c_str());
  ::_exit(0);
}

}  // namespace

void answer_crashes(int fd, std::string line) {
  static const bool installed = [] {
    static std::array<char, 65'536> stack;
    stack_t alternative{};
    alternative.ss_sp = stack.data();
    alternative.ss_size = stack.size();
    ::sigaltstack(&alternative, nullptr);
    struct sigaction action{};
    action.sa_handler = on_crash;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_ONSTACK | SA_NODEFER);
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS})
      ::sigaction(signal, &action, nullptr);
    return true;
  }();
  static_cast<void>(installed);
  answer_fd = fd;
  // Left behind on purpose: a handler may be reading the old one.
  answer = std::make_unique<const std::string>(std::move(line)).release();
}

void silence_crashes() {
  answer = nullptr;
}

void end_on_signals(std::string socket_path) {
  socket_to_remove = std::move(socket_path);
  struct sigaction action{};
  action.sa_handler = on_end;
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaction(signal, &action, nullptr);
}

}  // namespace lm::worker
