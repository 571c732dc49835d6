#include "cli/line_editor.h"

#include <algorithm>
#include <cerrno>
#include <poll.h>
#include <unistd.h>

#include "cli/display_width.h"
#include "cli/raw_mode.h"

namespace lm::cli {
namespace {

constexpr std::string_view kPasteBegins = "[200~";
constexpr std::string_view kPasteEnds = "[201~";

std::size_t expected_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  if (byte >= 0xF0 && byte < 0xF5) return 4;
  if (byte >= 0xE0 && byte < 0xF0) return 3;
  if (byte >= 0xC2 && byte < 0xE0) return 2;
  return 1;
}

// Where the character before `at` begins.
std::size_t before(std::string_view text, std::size_t at) {
  while (at > 0) {
    --at;
    if ((static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) continue;
    // A combining mark belongs to what it stands on.
    if (display_width(first_character(text.substr(at)).code) > 0 || text[at] == '\n' || text[at] == '\t')
      break;
  }
  return at;
}

std::size_t after(std::string_view text, std::size_t at) {
  if (at >= text.size()) return text.size();
  at += first_character(text.substr(at)).bytes;
  while (at < text.size() && text[at] != '\n' && text[at] != '\t') {
    const Character next = first_character(text.substr(at));
    if (display_width(next.code) > 0) break;
    at += next.bytes;
  }
  return at;
}

// As it is shown: a line break as one sign.
std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n')
      out += "⏎";
    else if (c == '\t')
      out += ' ';
    else
      out += c;
  }
  return out;
}

}  // namespace

LineEditor::Key LineEditor::feed(std::string_view& bytes) {
  const char c = bytes.front();
  bytes.remove_prefix(1);
  if (!partial_.empty()) {
    partial_ += c;
    if (partial_.front() != '\x1b') {
      if (partial_.size() < expected_bytes(partial_.front())) return Key::kNone;
      insert(std::exchange(partial_, {}));
      return Key::kNone;
    }
    const bool is_function = partial_.size() >= 2 && (partial_[1] == '[' || partial_[1] == 'O');
    if (is_function && (partial_.size() == 2 || !(c >= '@' && c <= '~'))) {
      if (partial_.size() > 32) partial_.clear();
      return Key::kNone;
    }
    return escape(std::string_view(std::exchange(partial_, {})).substr(1));
  }
  if (c == '\x1b' || expected_bytes(c) > 1) {
    partial_ = c;
    return Key::kNone;
  }
  if (pasting_ && (c == '\r' || c == '\n')) {
    insert("\n");
    return Key::kNone;
  }
  if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) return control(c);
  if (static_cast<unsigned char>(c) < 0x80) insert(std::string_view(&c, 1));
  return Key::kNone;
}

LineEditor::Key LineEditor::control(char c) {
  constexpr auto key = [](char letter) { return static_cast<char>(letter - '@'); };
  switch (c) {
    case '\r':
    case '\n':
      return Key::kSubmit;
    case key('C'):
      return Key::kInterrupt;
    case key('D'):
      if (text_.empty()) return Key::kEnd;
      text_.erase(cursor_, after(text_, cursor_) - cursor_);
      break;
    case key('A'):
      cursor_ = 0;
      break;
    case key('E'):
      cursor_ = text_.size();
      break;
    case key('B'):
      move(false);
      break;
    case key('F'):
      move(true);
      break;
    case key('H'):
    case '\x7f':
      erase_before(before(text_, cursor_));
      break;
    case key('K'):
      text_.erase(cursor_);
      break;
    case key('U'):
      erase_before(0);
      break;
    case key('W'): {
      std::size_t from = cursor_;
      while (from > 0 && text_[from - 1] == ' ') --from;
      while (from > 0 && text_[from - 1] != ' ') --from;
      erase_before(from);
      break;
    }
    case key('L'):
      return Key::kRedrawAll;
    case key('P'):
      recall(-1);
      break;
    case key('N'):
      recall(1);
      break;
    case '\t':
      insert(pasting_ ? "\t" : " ");
      break;
    default:
      break;
  }
  return Key::kNone;
}

LineEditor::Key LineEditor::escape(std::string_view sequence) {
  if (sequence == kPasteBegins)
    pasting_ = true;
  else if (sequence == kPasteEnds)
    pasting_ = false;
  else if (sequence == "[D" || sequence == "OD")
    move(false);
  else if (sequence == "[C" || sequence == "OC")
    move(true);
  else if (sequence == "[A" || sequence == "OA")
    recall(-1);
  else if (sequence == "[B" || sequence == "OB")
    recall(1);
  else if (sequence == "[H" || sequence == "OH" || sequence == "[1~" || sequence == "[7~")
    cursor_ = 0;
  else if (sequence == "[F" || sequence == "OF" || sequence == "[4~" || sequence == "[8~")
    cursor_ = text_.size();
  else if (sequence == "[3~")
    text_.erase(cursor_, after(text_, cursor_) - cursor_);
  return Key::kNone;
}

void LineEditor::insert(std::string_view text) {
  text_.insert(cursor_, text);
  cursor_ += text.size();
}

void LineEditor::move(bool forward) {
  cursor_ = forward ? after(text_, cursor_) : before(text_, cursor_);
}

void LineEditor::erase_before(std::size_t from) {
  text_.erase(from, cursor_ - from);
  cursor_ = from;
}

void LineEditor::recall(int step) {
  const std::size_t last = history_.size();
  if ((step < 0 && at_history_ == 0) || (step > 0 && at_history_ == last)) return;
  if (at_history_ == last) typed_ = text_;
  at_history_ = step < 0 ? at_history_ - 1 : at_history_ + 1;
  text_ = at_history_ == last ? typed_ : history_[at_history_];
  cursor_ = text_.size();
}

void LineEditor::remember(std::string entry) {
  if (!entry.empty() && (history_.empty() || history_.back() != entry)) history_.push_back(std::move(entry));
  clear();
}

void LineEditor::clear() {
  text_.clear();
  partial_.clear();
  typed_.clear();
  cursor_ = 0;
  pasting_ = false;
  at_history_ = history_.size();
}

std::string LineEditor::render(std::string_view prompt, int columns) const {
  const int room = std::max(columns - display_width(prompt) - 1, 4);
  // The window begins as far left as it can with the cursor still inside.
  std::size_t begin = 0;
  while (begin < cursor_ &&
         display_width(shown(std::string_view(text_).substr(begin, cursor_ - begin))) > room) {
    begin = after(text_, begin);
  }
  std::size_t end = begin;
  int used = 0;
  while (end < text_.size()) {
    const std::size_t next = after(text_, end);
    const int width = display_width(shown(std::string_view(text_).substr(end, next - end)));
    if (used + width > room) break;
    used += width;
    end = next;
  }
  const int before_cursor =
      display_width(prompt) + display_width(shown(std::string_view(text_).substr(begin, cursor_ - begin)));
  std::string out =
      "\r" + std::string(prompt) + shown(std::string_view(text_).substr(begin, end - begin)) + "\x1b[K\r";
  if (before_cursor > 0) out += "\x1b[" + std::to_string(before_cursor) + "C";
  return out;
}

LineInput::Result LineInput::read(std::string_view prompt, std::string& line) {
  if (screen_->can_redraw && ::isatty(descriptor_) == 1) return read_edited(prompt, line);
  return read_plain(prompt, line);
}

LineInput::Result LineInput::read_edited(std::string_view prompt, std::string& line) {
  const RawMode raw(descriptor_);
  if (!raw.active()) return read_plain(prompt, line);
  editor_.clear();
  screen_->write("\x1b[?2004h" + editor_.render(prompt, screen_->columns()));
  const auto leave = [&](std::string_view last) { screen_->write(std::string(last) + "\x1b[?2004l\r\n"); };
  for (;;) {
    std::string_view bytes = unread_;
    bool changed = false;
    while (!bytes.empty()) {
      changed = true;
      const LineEditor::Key key = editor_.feed(bytes);
      if (key == LineEditor::Key::kNone) continue;
      if (key == LineEditor::Key::kRedrawAll) {
        screen_->write("\x1b[H\x1b[2J");
        continue;
      }
      const std::string rest(bytes);
      line = editor_.text();
      screen_->write(editor_.render(prompt, screen_->columns()));
      unread_ = rest;
      leave("");
      if (key == LineEditor::Key::kSubmit) {
        editor_.remember(line);
        return Result::kLine;
      }
      return key == LineEditor::Key::kEnd ? Result::kEnd : Result::kInterrupted;
    }
    unread_.clear();
    if (changed) screen_->write(editor_.render(prompt, screen_->columns()));
    if (interrupts_ != nullptr && !interrupts_->wait_readable(descriptor_)) {
      if (!interrupts_->take()) continue;
      leave("^C");
      return Result::kInterrupted;
    }
    char buffer[4096];
    const ssize_t n = ::read(descriptor_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      leave("");
      return Result::kEnd;
    }
    unread_.assign(buffer, static_cast<std::size_t>(n));
  }
}

LineInput::Result LineInput::read_plain(std::string_view prompt, std::string& line) {
  screen_->write(prompt);
  for (;;) {
    if (const std::size_t end = unread_.find('\n'); end != std::string::npos) {
      line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return Result::kLine;
    }
    if (interrupts_ != nullptr && !interrupts_->wait_readable(descriptor_)) {
      if (!interrupts_->take()) continue;
      unread_.clear();
      screen_->write("\n");
      return Result::kInterrupted;
    }
    char buffer[4096];
    const ssize_t n = ::read(descriptor_, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      if (unread_.empty()) return Result::kEnd;
      line = std::exchange(unread_, {});
      return Result::kLine;
    }
    unread_.append(buffer, static_cast<std::size_t>(n));
  }
}

}  // namespace lm::cli
