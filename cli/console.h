// Where a command writes: the answer to `out`, everything else to `err`. What each can show is found once, at
// the start.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace lm::cli {

// Reads one environment variable; nullopt where it is not set.
using Lookup = std::function<std::optional<std::string>(std::string_view name)>;

struct Stream {
  std::function<void(std::string_view)> write;  // all bytes, at once; blocks as long as the other end does
  std::function<int()> columns;                 // of the terminal now; a large number where there is none
  std::shared_ptr<const int> lost;  // errno of the first write that failed, 0: none; null: none can fail
  bool is_terminal = false;
  bool has_colours = false;
  bool can_redraw = false;  // a line may be overwritten: a terminal that is not dumb

  void line(std::string_view text) const { write(std::string(text) + "\n"); }
};

enum class Colour { kPlain, kBold, kDim, kRed, kGreen, kYellow, kBlue };

// The text in that colour where the stream has colours, else as it is.
std::string coloured(const Stream& stream, Colour colour, std::string_view text);

struct Console {
  Stream out;
  Stream err;
};

// Of this process: NO_COLOR (set and not empty) and TERM=dumb are obeyed.
Console process_console(const Lookup& environment);

// A stream that is no terminal and adds what is written to `text`, which must outlive it.
Stream text_stream(std::string& text);

}  // namespace lm::cli
