#include "cli/table.h"

#include <algorithm>
#include <numeric>

#include "base/assert.h"
#include "cli/display_width.h"

namespace lm::cli {
namespace {

constexpr int kGap = 2;
constexpr int kHidden = -1;

int total(const std::vector<int>& widths) {
  int sum = 0;
  for (const int width : widths) {
    if (width != kHidden) sum += width + kGap;
  }
  return std::max(sum - kGap, 0);
}

}  // namespace

void Table::add(std::vector<Cell> row) {
  LM_ASSERT(row.size() == columns_.size(), "a row has a cell for each column");
  for (Cell& cell : row) cell.text = printable(cell.text);
  rows_.push_back(std::move(row));
}

std::vector<int> Table::widths() const {
  std::vector<int> out;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    int width = display_width(columns_[c].title);
    for (const auto& row : rows_) width = std::max(width, display_width(row[c].text));
    out.push_back(width);
  }
  return out;
}

std::string Table::text(const Stream& stream) const {
  std::vector<int> width = widths();
  const int room = stream.columns();
  const auto widest_shrinking = [&] {
    int found = -1;
    for (int c = 0; c < static_cast<int>(columns_.size()); ++c) {
      if (!columns_[c].shrinks || width[c] <= kNarrowest) continue;
      if (found < 0 || width[c] > width[found]) found = c;
    }
    return found;
  };
  for (int c = widest_shrinking(); total(width) > room && c >= 0; c = widest_shrinking()) --width[c];
  while (total(width) > room) {
    int least = -1;
    for (int c = 0; c < static_cast<int>(columns_.size()); ++c) {
      if (width[c] == kHidden || columns_[c].give_up == 0) continue;
      if (least < 0 || columns_[c].give_up > columns_[least].give_up) least = c;
    }
    if (least < 0) break;
    width[least] = kHidden;
  }

  std::string out;
  const auto put = [&](const std::vector<Cell>& row) {
    std::string line;
    bool first = true;
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (width[c] == kHidden) continue;
      const std::string cell = fit(row[c].text, width[c]);
      const std::string spaces(static_cast<std::size_t>(width[c] - display_width(cell)), ' ');
      const std::string shown = coloured(stream, row[c].colour, cell);
      if (!first) line.append(kGap, ' ');
      first = false;
      line += columns_[c].right ? spaces + shown : shown + spaces;
    }
    while (line.ends_with(' ')) line.pop_back();
    if (display_width(line) > room) line = fit(line, room);
    out += line + "\n";
  };
  std::vector<Cell> head;
  for (const Column& column : columns_) head.push_back({.text = column.title, .colour = Colour::kBold});
  put(head);
  for (const auto& row : rows_) put(row);
  return out;
}

}  // namespace lm::cli
