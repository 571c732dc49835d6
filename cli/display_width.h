// How many columns a text takes on a terminal: Chinese, Japanese, Korean characters and emoji take two,
// combining marks none. Pure; UTF-8; bytes that are none count as one column.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lm::cli {

struct Character {
  char32_t code = 0;
  std::size_t bytes = 1;  // that it takes of the text; at least 1
};

// The first character of a text that is not empty.
Character first_character(std::string_view text);
int display_width(char32_t code);
// Escape sequences of colours (ESC [ … m) count as nothing.
int display_width(std::string_view text);

// At most `columns` wide: what does not fit is cut and ends in "…".
std::string fit(std::string_view text, int columns);
// Spaces behind or before until it is `columns` wide.
std::string pad_right(std::string_view text, int columns);
std::string pad_left(std::string_view text, int columns);

// What comes from a model, a file or an upstream must not steer the terminal: control characters but \n and
// \t become "�".
std::string printable(std::string_view text);

}  // namespace lm::cli
