#include "cli/live_screen.h"

#include <chrono>
#include <poll.h>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace lm::cli {
namespace {

constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l";  // the other screen, no cursor
constexpr std::string_view kLeave = "\x1b[?25h\x1b[?1049l";
constexpr std::string_view kHome = "\x1b[H";
constexpr std::string_view kRestOfLine = "\x1b[K";
constexpr std::string_view kRestOfScreen = "\x1b[J";
constexpr int kUsualRows = 24;

}  // namespace

LiveScreen::LiveScreen(const Stream& stream, int input, Interrupts* interrupts)
    : stream_(&stream), input_(input), interrupts_(interrupts), raw_(input) {
  stream_->write(kEnter);
}

LiveScreen::~LiveScreen() {
  stream_->write(kLeave);
}

int LiveScreen::rows() const {
  winsize size{};
  if (input_ < 0 || ::ioctl(input_, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return kUsualRows;
  return size.ws_row;
}

// Each line is written over its forerunner, which flickers less than an empty screen in between.
void LiveScreen::show(const std::string& frame) {
  std::string out(kHome);
  std::string_view left = frame;
  for (int row = 0, last = rows(); row < last && !left.empty(); ++row) {
    const std::size_t end = std::min(left.find('\n'), left.size());
    if (row > 0) out += "\r\n";
    out += left.substr(0, end);
    out += kRestOfLine;
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  out += kRestOfScreen;
  stream_->write(out);
}

bool LiveScreen::rest(int milliseconds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(milliseconds);
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0) return true;
    pollfd wanted[2] = {
        {.fd = input_, .events = POLLIN, .revents = 0},
        {.fd = interrupts_ == nullptr ? -1 : interrupts_->descriptor(), .events = POLLIN, .revents = 0}};
    if (::poll(wanted, 2, static_cast<int>(left)) <= 0) continue;
    if (wanted[1].revents != 0) {
      interrupts_->take();
      return false;
    }
    char keys[64];
    const ssize_t n = ::read(input_, keys, sizeof keys);
    if (n <= 0) return false;
    const std::string_view typed(keys, static_cast<std::size_t>(n));
    // A lone Escape, and none that begins an arrow key.
    if (typed.find_first_of("qQ") != std::string_view::npos || typed == "\x1b") return false;
  }
}

}  // namespace lm::cli
