// A table for people: columns as wide as their widest cell, the whole as narrow as the terminal. Pure.
#pragma once

#include <string>
#include <vector>

#include "cli/console.h"

namespace lm::cli {

struct Cell {
  std::string text;
  Colour colour = Colour::kPlain;
};

struct Column {
  std::string title;
  bool right = false;    // numbers stand at the right
  bool shrinks = false;  // may be cut with "…" where the terminal is narrow, down to kNarrowest
  int give_up = 0;       // where cutting is not enough, columns above 0 are left out, the highest first
};

inline constexpr int kNarrowest = 8;

class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // As many cells as there are columns.
  void add(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }
  // Lines with their ends; no line is wider than the stream, nor has spaces at its end.
  std::string text(const Stream& stream) const;

 private:
  std::vector<int> widths() const;

  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

}  // namespace lm::cli
