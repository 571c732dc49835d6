#include "core/eviction.h"

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>

namespace lm::core {
namespace {

constexpr std::size_t kExactUpTo = 16;

std::vector<std::size_t> exact(const Need& shortage, std::span<const Victim> candidates) {
  double best_cost = 0;
  std::uint32_t best = 0;
  for (std::uint32_t set = 1; set < (1U << candidates.size()); ++set) {
    double cost = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (set >> i & 1U) cost += candidates[i].cost;
    }
    if (best != 0 && cost >= best_cost) continue;
    Need freed;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      if (set >> i & 1U) freed += candidates[i].frees;
    }
    if (!freed.covers(shortage)) continue;
    best = set;
    best_cost = cost;
  }
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    if (best >> i & 1U) result.push_back(i);
  }
  return result;
}

std::vector<std::size_t> greedy(const Need& shortage, std::span<const Victim> candidates) {
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(candidates[i].cost, i); });

  std::vector<std::size_t> chosen;
  Need freed;
  for (const std::size_t i : order) {
    if (freed.covers(shortage)) break;
    freed += candidates[i].frees;
    chosen.push_back(i);
  }
  // The dearest first: whoever is not needed stays.
  for (std::size_t k = chosen.size(); k-- > 0;) {
    Need without;
    for (std::size_t j = 0; j < chosen.size(); ++j) {
      if (j != k) without += candidates[chosen[j]].frees;
    }
    if (without.covers(shortage)) chosen.erase(chosen.begin() + static_cast<std::ptrdiff_t>(k));
  }
  std::ranges::sort(chosen);
  return chosen;
}

}  // namespace

double eviction_cost(Duration reload, Duration idle, double rate) {
  const double again = std::max(0.0, rate) + 1.0 / (1.0 + std::max(0.0, seconds(idle)));
  return (0.05 + std::max(0.0, seconds(reload))) * again;
}

std::optional<std::vector<std::size_t>> cheapest_set(const Need& shortage,
                                                     std::span<const Victim> candidates) {
  if (shortage.empty()) return std::vector<std::size_t>();
  Need all;
  for (const Victim& victim : candidates) all += victim.frees;
  if (!all.covers(shortage)) return std::nullopt;
  return candidates.size() <= kExactUpTo ? exact(shortage, candidates) : greedy(shortage, candidates);
}

}  // namespace lm::core
