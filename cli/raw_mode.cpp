#include "cli/raw_mode.h"

#include <unistd.h>

namespace lm::cli {

RawMode::RawMode(int descriptor) : descriptor_(descriptor), active_(::tcgetattr(descriptor, &before_) == 0) {
  if (!active_) return;
  termios raw = before_;
  raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | INLCR | IGNCR | ISTRIP | IXON);
  raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | IEXTEN);
  // A stopped program would leave its keys to the shell in this mode.
  raw.c_cc[VSUSP] = _POSIX_VDISABLE;
  raw.c_cc[VQUIT] = _POSIX_VDISABLE;
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  // DRAIN and not FLUSH: what was typed ahead stays.
  active_ = ::tcsetattr(descriptor, TCSADRAIN, &raw) == 0;
}

RawMode::~RawMode() {
  if (active_) ::tcsetattr(descriptor_, TCSADRAIN, &before_);
}

}  // namespace lm::cli
