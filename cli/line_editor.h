// One line typed by a person, with the keys people expect: arrows, history, Ctrl-A E K U W L, pasted text
// with its lines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "cli/console.h"
#include "cli/interrupts.h"

namespace lm::cli {

// What is typed, as bytes become keys. Pure. The text is UTF-8; line breaks in it come from pasting.
class LineEditor {
 public:
  enum class Key { kNone, kSubmit, kEnd, kInterrupt, kRedrawAll };

  // Takes as many bytes of the front as make one key or a part of one, and says what that key asks for. Never
  // with empty bytes.
  Key feed(std::string_view& bytes);

  const std::string& text() const { return text_; }
  std::size_t cursor() const { return cursor_; }  // in bytes
  // The prompt and the part of the text around the cursor, on one line of `columns`; the cursor is put where
  // it belongs.
  std::string render(std::string_view prompt, int columns) const;

  // Begins a new line. An entry that is not empty and not the last one again joins the history.
  void remember(std::string entry);
  void clear();

 private:
  Key control(char c);
  Key escape(std::string_view sequence);
  void insert(std::string_view text);
  void move(bool forward);
  void erase_before(std::size_t from);
  void recall(int step);

  std::string text_;
  std::size_t cursor_ = 0;
  std::string partial_;  // of an escape sequence or a character
  bool pasting_ = false;
  std::vector<std::string> history_;
  std::size_t at_history_ = 0;  // history_.size(): the line being typed
  std::string typed_;           // that line, while an older one is shown
};

// Standard input as lines. Owned by the conversation; puts the terminal back as it was whenever it does not
// read.
class LineInput {
 public:
  enum class Result { kLine, kEnd, kInterrupted };

  // `descriptor` is a terminal or not; `screen` shows the prompt. `interrupts` may be null.
  LineInput(int descriptor, const Stream& screen, Interrupts* interrupts)
      : descriptor_(descriptor), screen_(&screen), interrupts_(interrupts) {}

  // Blocks until there is a whole line. kInterrupted: Ctrl-C; what was typed is gone.
  Result read(std::string_view prompt, std::string& line);

 private:
  Result read_edited(std::string_view prompt, std::string& line);
  Result read_plain(std::string_view prompt, std::string& line);

  int descriptor_;
  const Stream* screen_;
  Interrupts* interrupts_;
  LineEditor editor_;
  std::string unread_;  // typed ahead
};

}  // namespace lm::cli
