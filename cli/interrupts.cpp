#include "cli/interrupts.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"

namespace lm::cli {
namespace {

std::atomic<int> g_event{-1};

void on_interrupt(int) {
  const int saved = errno;
  const std::uint64_t one = 1;
  // A counter that is full is readable already.
  [[maybe_unused]] const ssize_t ignored = ::write(g_event.load(), &one, sizeof one);
  errno = saved;
}

}  // namespace

Interrupts::Interrupts() : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  LM_ASSERT(event_, "an eventfd can be made");
  LM_ASSERT(g_event.load() == -1, "one Interrupts at a time");
  g_event = event_.get();
  struct sigaction action{};
  action.sa_handler = on_interrupt;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
}

Interrupts::~Interrupts() {
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  g_event = -1;
}

bool Interrupts::take() {
  std::uint64_t count = 0;
  return ::read(event_.get(), &count, sizeof count) == sizeof count;
}

bool Interrupts::wait_readable(int other, int milliseconds) const {
  pollfd wanted[2] = {{.fd = event_.get(), .events = POLLIN, .revents = 0},
                      {.fd = other, .events = POLLIN, .revents = 0}};
  for (;;) {
    const int n = ::poll(wanted, 2, milliseconds);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0 || wanted[0].revents != 0) return false;
    return wanted[1].revents != 0;
  }
}

}  // namespace lm::cli
