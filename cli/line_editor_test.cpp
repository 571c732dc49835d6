// The line editor by its keys.
#include "cli/line_editor.h"

#include <gtest/gtest.h>

#include "cli/chat_stream.h"
#include "cli/display_width.h"

namespace lm::cli {
namespace {

using Key = LineEditor::Key;

// Feeds everything; the last key that asks for something.
Key type(LineEditor& editor, std::string_view bytes) {
  Key last = Key::kNone;
  while (!bytes.empty()) {
    const Key key = editor.feed(bytes);
    if (key != Key::kNone) last = key;
  }
  return last;
}

TEST(LineEditor, TypesAndSubmits) {
  LineEditor editor;
  EXPECT_EQ(type(editor, "hello"), Key::kNone);
  EXPECT_EQ(type(editor, "\r"), Key::kSubmit);
  EXPECT_EQ(editor.text(), "hello");
}

TEST(LineEditor, ABytePerReadIsEnough) {
  LineEditor editor;
  for (const char c : std::string("模\x1b[D型")) type(editor, std::string_view(&c, 1));
  EXPECT_EQ(editor.text(), "型模");
}

TEST(LineEditor, DeletesWholeCharacters) {
  LineEditor editor;
  type(editor, "a模e\xCC\x81");
  type(editor, "\x7f");
  EXPECT_EQ(editor.text(), "a模");
  type(editor, "\x7f");
  EXPECT_EQ(editor.text(), "a");
  type(editor, "\x7f\x7f");
  EXPECT_EQ(editor.text(), "");
}

TEST(LineEditor, MovesAndEdits) {
  LineEditor editor;
  type(editor, "world\x01hello \x05!");
  EXPECT_EQ(editor.text(), "hello world!");
  type(editor, "\x1b[D\x1b[D\x0b");
  EXPECT_EQ(editor.text(), "hello worl");
  type(editor, "\x17");
  EXPECT_EQ(editor.text(), "hello ");
  type(editor, "\x1b[H\x1b[3~");
  EXPECT_EQ(editor.text(), "ello ");
  type(editor, "\x1b[F\x15");
  EXPECT_EQ(editor.text(), "");
}

TEST(LineEditor, EndOnlyOnAnEmptyLine) {
  LineEditor editor;
  type(editor, "ab\x01");
  EXPECT_EQ(type(editor, "\x04"), Key::kNone);
  EXPECT_EQ(editor.text(), "b");
  type(editor, "\x04");
  EXPECT_EQ(type(editor, "\x04"), Key::kEnd);
  EXPECT_EQ(type(editor, "\x03"), Key::kInterrupt);
}

TEST(LineEditor, HistoryComesBackAndTheTypedLineIsKept) {
  LineEditor editor;
  editor.remember("one");
  editor.remember("two");
  editor.remember("two");
  type(editor, "draft\x1b[A");
  EXPECT_EQ(editor.text(), "two");
  type(editor, "\x1b[A");
  EXPECT_EQ(editor.text(), "one");
  type(editor, "\x1b[A");
  EXPECT_EQ(editor.text(), "one");
  type(editor, "\x1b[B\x1b[B");
  EXPECT_EQ(editor.text(), "draft");
}

TEST(LineEditor, PastedLinesDoNotSubmit) {
  LineEditor editor;
  EXPECT_EQ(type(editor, "\x1b[200~one\r\ttwo\x1b[201~"), Key::kNone);
  EXPECT_EQ(editor.text(), "one\n\ttwo");
  EXPECT_EQ(type(editor, "\r"), Key::kSubmit);
  EXPECT_EQ(editor.render("> ", 40), "\r> one⏎ two\x1b[K\r\x1b[10C");
}

TEST(LineEditor, UnknownSequencesAndBrokenBytesDoNothing) {
  LineEditor editor;
  type(editor, "a\x1b[15~\x1bOP\x1b[1;5D\x80\xFF\x1bxz");
  EXPECT_EQ(editor.text(), "az");
  LineEditor longer;
  type(longer, "\x1b[" + std::string(100, '1') + "~x");
  EXPECT_FALSE(longer.text().empty());
}

TEST(LineEditor, TheWindowFollowsTheCursorAndNeverWraps) {
  for (const std::string& text : {std::string("the quick brown fox jumps over the lazy dog"),
                                  std::string("敏捷的棕色狐狸跳过了懒狗敏捷的棕色狐狸")}) {
    LineEditor editor;
    type(editor, text);
    for (int step = 0; step < 50; ++step) {
      const std::string shown = editor.render(">>> ", 20);
      const std::string line = shown.substr(1, shown.find("\x1b[K") - 1);
      EXPECT_LE(display_width(line), 20) << line;
      const std::size_t last = shown.rfind("\x1b[");
      EXPECT_LT(std::stoi(shown.substr(last + 2)), 20) << shown;
      type(editor, "\x1b[D");
    }
    EXPECT_EQ(editor.cursor(), 0u);
  }
}

TEST(ChatStream, PiecesOfEveryShape) {
  EXPECT_EQ(parse_chat_piece(R"({"choices":[{"delta":{"content":"a"}}]})").text, "a");
  EXPECT_EQ(parse_chat_piece(R"({"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]})").text,
            "whole");
  EXPECT_EQ(parse_chat_piece(R"({"choices":[{"delta":{"reasoning_content":"hm"}}]})").reasoning, "hm");
  EXPECT_EQ(parse_chat_piece(R"({"choices":[{"delta":{},"finish_reason":"length"}]})").finish, "length");
  EXPECT_TRUE(parse_chat_piece("[DONE]").is_end);
  EXPECT_TRUE(parse_chat_piece(R"({"error":{"message":"x"}})").is_error);
  for (const char* text :
       {"", "null", "[]", "3", "{", R"({"choices":[]})", R"({"choices":[null]})",
        R"({"choices":[{"delta":null}]})", R"({"choices":[{"delta":{"content":null}}],"usage":{}})"}) {
    const ChatPiece piece = parse_chat_piece(text);
    EXPECT_TRUE(piece.text.empty() && !piece.is_end && !piece.is_error) << text;
  }
}

}  // namespace
}  // namespace lm::cli
