// A screen that is drawn again and again in the place of what the terminal showed before, which comes back at
// the end. Plain escape sequences, which every terminal of the last thirty years understands, over ssh too.
#pragma once

#include <string>

#include "cli/console.h"
#include "cli/interrupts.h"
#include "cli/raw_mode.h"

namespace lm::cli {

// Owned by the command that draws, and used on its thread. One at a time.
class LiveScreen {
 public:
  // `input`: the terminal's descriptor, for keys; -1: none. `interrupts` may be null.
  LiveScreen(const Stream& stream, int input, Interrupts* interrupts);
  ~LiveScreen();
  LiveScreen(const LiveScreen&) = delete;
  LiveScreen& operator=(const LiveScreen&) = delete;

  // Lines that fit now.
  int rows() const;
  // Whole lines, no wider than the stream; those beyond the last row are not shown.
  void show(const std::string& frame);
  // Waits so long for the next frame. False where somebody has had enough: q, Escape, Ctrl-C, or the end of
  // the input.
  bool rest(int milliseconds);

 private:
  const Stream* stream_;
  int input_;
  Interrupts* interrupts_;
  RawMode raw_;
};

}  // namespace lm::cli
