#include "config/nearest.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lm::config {
namespace {

constexpr std::size_t kLongestWord = 64;  // the table is quadratic; nobody's key is longer
constexpr std::size_t kFewCandidates = 12;

char folded(char c) {
  return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// Edits from all of `a` to the first j letters of `b`, for each j.
std::vector<int> edits_to_beginnings(std::string_view a, std::string_view b) {
  a = a.substr(0, kLongestWord);
  b = b.substr(0, kLongestWord);
  const std::size_t width = b.size() + 1;
  std::vector<int> cost((a.size() + 1) * width);
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      int& here = cost[i * width + j];
      if (i == 0 || j == 0) {
        here = static_cast<int>(i + j);
        continue;
      }
      const int change = folded(a[i - 1]) == folded(b[j - 1]) ? 0 : 1;
      here = std::min({cost[(i - 1) * width + j] + 1, cost[i * width + j - 1] + 1,
                       cost[(i - 1) * width + j - 1] + change});
      if (i > 1 && j > 1 && folded(a[i - 1]) == folded(b[j - 2]) && folded(a[i - 2]) == folded(b[j - 1])) {
        here = std::min(here, cost[(i - 2) * width + j - 2] + 1);
      }
    }
  }
  cost.erase(cost.begin(), cost.end() - static_cast<std::ptrdiff_t>(width));
  return cost;
}

}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  return edits_to_beginnings(a, b).back();
}

int edit_distance_to_beginning(std::string_view word, std::string_view name) {
  return std::ranges::min(edits_to_beginnings(word, name));
}

std::optional<std::string> nearest(std::string_view word, std::span<const std::string> candidates) {
  std::optional<std::string> best;
  int best_distance = std::max(1, static_cast<int>(word.size()) / 3) + 1;
  for (const std::string& candidate : candidates) {
    const int distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string suggestion(std::string_view word, std::span<const std::string> candidates) {
  if (const auto meant = nearest(word, candidates)) return fmt::format(", did you mean {}?", *meant);
  if (candidates.empty() || candidates.size() > kFewCandidates) return {};
  return fmt::format(", it may be one of {}", fmt::join(candidates, ", "));
}

}  // namespace lm::config
