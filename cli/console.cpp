#include "cli/console.h"

#include <cerrno>
#include <memory>
#include <sys/ioctl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace lm::cli {
namespace {

constexpr int kNoTerminal = 1 << 20;

// Returns 0, or the errno of what stopped it.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(descriptor, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0 ? errno : EIO;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return 0;
}

Stream process_stream(int descriptor, const Lookup& environment) {
  Stream stream;
  const auto lost = std::make_shared<int>(0);
  stream.write = [descriptor, lost](std::string_view text) {
    if (const int error = write_all(descriptor, text); *lost == 0) *lost = error;
  };
  stream.lost = lost;
  stream.is_terminal = ::isatty(descriptor) == 1;
  stream.can_redraw = stream.is_terminal && environment("TERM").value_or("dumb") != "dumb";
  stream.has_colours = stream.can_redraw && environment("NO_COLOR").value_or("").empty();
  const bool is_terminal = stream.is_terminal;
  stream.columns = [descriptor, is_terminal] {
    winsize size{};
    if (!is_terminal) return kNoTerminal;
    if (::ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
    return static_cast<int>(size.ws_col);
  };
  return stream;
}

}  // namespace

std::string coloured(const Stream& stream, Colour colour, std::string_view text) {
  if (!stream.has_colours || colour == Colour::kPlain || text.empty()) return std::string(text);
  const std::string_view code = [&]() -> std::string_view {
    switch (colour) {
      case Colour::kBold:
        return "1";
      case Colour::kDim:
        return "2";
      case Colour::kRed:
        return "31";
      case Colour::kGreen:
        return "32";
      case Colour::kYellow:
        return "33";
      case Colour::kBlue:
        return "34";
      case Colour::kPlain:
        break;
    }
    return "0";
  }();
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

Console process_console(const Lookup& environment) {
  return {.out = process_stream(STDOUT_FILENO, environment),
          .err = process_stream(STDERR_FILENO, environment)};
}

Stream text_stream(std::string& text) {
  Stream stream;
  stream.write = [&text](std::string_view more) { text += more; };
  stream.columns = [] { return kNoTerminal; };
  return stream;
}

}  // namespace lm::cli
