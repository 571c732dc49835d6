#include "cli/display_width.h"

#include <algorithm>
#include <array>
#include <utility>

namespace lm::cli {
namespace {

using Range = std::pair<char32_t, char32_t>;

// Unicode's EastAsianWidth W and F, and what terminals show as emoji, in whole blocks.
constexpr std::array<Range, 30> kWide = {{
    {0x1100, 0x115F}, {0x231A, 0x231B}, {0x2329, 0x232A}, {0x23E9, 0x23EC},   {0x23F0, 0x23F0},
    {0x23F3, 0x23F3}, {0x25FD, 0x25FE}, {0x2614, 0x2615}, {0x2648, 0x2653},   {0x26A1, 0x26A1},
    {0x26CE, 0x26CE}, {0x2705, 0x2705}, {0x270A, 0x270B}, {0x2728, 0x2728},   {0x274C, 0x274C},
    {0x2753, 0x2755}, {0x2795, 0x2797}, {0x2E80, 0x303E}, {0x3041, 0x33FF},   {0x3400, 0x4DBF},
    {0x4E00, 0x9FFF}, {0xA000, 0xA4CF}, {0xA960, 0xA97F}, {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
    {0xFE30, 0xFE6F}, {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD},
}};

// Combining marks, joiners, variation selectors.
constexpr std::array<Range, 14> kZero = {{
    {0x0300, 0x036F},
    {0x0483, 0x0489},
    {0x0591, 0x05BD},
    {0x0610, 0x061A},
    {0x064B, 0x065F},
    {0x0E31, 0x0E31},
    {0x0E34, 0x0E3A},
    {0x1AB0, 0x1AFF},
    {0x1DC0, 0x1DFF},
    {0x200B, 0x200F},
    {0x20D0, 0x20F0},
    {0xFE00, 0xFE0F},
    {0xFE20, 0xFE2F},
    {0xE0100, 0xE01EF},
}};

template <std::size_t N>
bool is_in(const std::array<Range, N>& ranges, char32_t code) {
  const auto it = std::ranges::lower_bound(ranges, code, {}, &Range::second);
  return it != ranges.end() && it->first <= code;
}

// Bytes of the colour sequence that the text begins with, 0 for none.
std::size_t colour_sequence(std::string_view text) {
  if (!text.starts_with("\x1b[")) return 0;
  std::size_t at = 2;
  while (at < text.size() && ((text[at] >= '0' && text[at] <= '9') || text[at] == ';')) ++at;
  return at < text.size() && text[at] == 'm' ? at + 1 : 0;
}

}  // namespace

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {.code = lead, .bytes = 1};
  const std::size_t length = lead >= 0xF0 && lead < 0xF5 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC2 ? 2 : 1;
  constexpr char32_t kReplacement = 0xFFFD;
  if (length == 1 || lead >= 0xF5 || text.size() < length) return {.code = kReplacement, .bytes = 1};
  char32_t code = lead & (0x7Fu >> length);
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0u) != 0x80u) return {.code = kReplacement, .bytes = 1};
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  return {.code = code, .bytes = length};
}

int display_width(char32_t code) {
  if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return 0;
  if (code < 0x300) return 1;
  if (is_in(kZero, code)) return 0;
  return is_in(kWide, code) ? 2 : 1;
}

int display_width(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    if (const std::size_t colour = colour_sequence(text); colour > 0) {
      text.remove_prefix(colour);
      continue;
    }
    const Character c = first_character(text);
    columns += display_width(c.code);
    text.remove_prefix(c.bytes);
  }
  return columns;
}

std::string fit(std::string_view text, int columns) {
  if (columns <= 0) return {};
  if (display_width(text) <= columns) return std::string(text);
  std::string out;
  int used = 0;
  bool is_coloured = false;
  while (!text.empty()) {
    if (const std::size_t colour = colour_sequence(text); colour > 0) {
      is_coloured = true;
      out += text.substr(0, colour);
      text.remove_prefix(colour);
      continue;
    }
    const Character c = first_character(text);
    const int width = display_width(c.code);
    if (used + width > columns - 1) break;
    used += width;
    out += text.substr(0, c.bytes);
    text.remove_prefix(c.bytes);
  }
  return out + (is_coloured ? "…\x1b[0m" : "…");
}

std::string pad_right(std::string_view text, int columns) {
  const int missing = columns - display_width(text);
  return std::string(text) + std::string(static_cast<std::size_t>(std::max(missing, 0)), ' ');
}

std::string pad_left(std::string_view text, int columns) {
  const int missing = columns - display_width(text);
  return std::string(static_cast<std::size_t>(std::max(missing, 0)), ' ') + std::string(text);
}

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    const bool steers = (c.code < 0x20 && c.code != '\n' && c.code != '\t') ||
                        (c.code >= 0x7F && c.code < 0xA0) || c.code == 0xFFFD;
    if (steers) {
      out += "\xEF\xBF\xBD";
    } else {
      out += text.substr(0, c.bytes);
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

}  // namespace lm::cli
