#include "core/thrash_gauge.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace lm::core {
namespace {

// Below this nobody would notice: once in days.
constexpr double kLeastRate = 1e-6;

// What keeps one model from fitting beside the others.
struct Obstacle {
  const Wanted* model = nullptr;
  bool other_family = false;
  Need shortage;
};

bool is_smaller(const Obstacle& a, const Obstacle& b) {
  if (a.other_family != b.other_family) return b.other_family;
  const Bytes bytes_a = a.shortage.bytes.total();
  const Bytes bytes_b = b.shortage.bytes.total();
  if (bytes_a != bytes_b) return bytes_a < bytes_b;
  return a.shortage.places < b.shortage.places;
}

std::string change_for(const Obstacle& obstacle, int fit) {
  const std::string& name = obstacle.model->model.str();
  if (obstacle.other_family)
    return fmt::format("residency.mode: fit would let {} stay beside the others", name);
  const std::string place = obstacle.shortage.places > 0
                                ? fmt::format("residency.max_loaded: {}", fit + obstacle.shortage.places)
                                : "";
  if (obstacle.shortage.bytes.empty()) return fmt::format("{} would let {} stay too", place, name);
  std::string more, less;
  bool can_shrink = true;
  for (const auto& [device, bytes] : obstacle.shortage.bytes) {
    more += fmt::format("{}{} more on {}", more.empty() ? "" : " and ", to_string(bytes), device.str());
    less += fmt::format("{}{}", less.empty() ? "" : " and ", to_string(bytes));
    // Weights are most of a model: of more than half of it no smaller context makes it.
    can_shrink = can_shrink && bytes.count() * 2 <= obstacle.model->need.bytes.on(device).count();
  }
  std::string text = fmt::format("{} would let {} stay too", more, name);
  if (can_shrink) {
    text = fmt::format("{}, or {} less of {} (a smaller context, fewer bits), would let it stay too", more,
                       less, name);
  }
  return place.empty() ? text : fmt::format("{}, with {}", text, place);
}

}  // namespace

double wanted_probability(double rate, double answering, Duration worth_keeping) {
  return -std::expm1(-(answering + rate * seconds(worth_keeping)));
}

DemandView thrash_gauge(std::vector<Wanted> models, Ledger empty, Duration worth_keeping) {
  DemandView view;
  std::erase_if(models, [](const Wanted& m) { return m.rate < kLeastRate && !m.pinned; });
  const auto probability = [&](const Wanted& m) {
    return m.pinned ? 1.0 : wanted_probability(m.rate, m.answering, worth_keeping);
  };
  std::ranges::sort(models, [&](const Wanted& a, const Wanted& b) {
    if (a.pinned != b.pinned) return a.pinned;
    const double pa = probability(a);
    const double pb = probability(b);
    return pa != pb ? pa > pb : a.model < b.model;
  });

  Ledger books = std::move(empty);
  std::optional<Family> holder;  // of the devices
  std::vector<const Wanted*> left_out;
  for (const Wanted& m : models) {
    const bool other_family = m.family && holder && *holder != *m.family;
    const bool fits = !other_family && books.shortage(m.need).empty();
    view.rows.push_back({.model = m.model, .rate = m.rate, .wanted = probability(m), .fits = fits});
    view.wanted += view.rows.back().wanted;
    if (!fits) {
      left_out.push_back(&m);
      continue;
    }
    ++view.fit;
    if (m.family) holder = m.family;
    books.charge({.reserved = m.need.bytes, .held = {}, .places = m.need.places});
  }
  if (left_out.empty() || view.wanted <= view.fit) return view;

  Obstacle smallest;
  for (const Wanted* m : left_out) {
    const Obstacle obstacle{.model = m,
                            .other_family = m->family && holder && *holder != *m->family,
                            .shortage = books.shortage(m->need)};
    if (smallest.model == nullptr || is_smaller(obstacle, smallest)) smallest = obstacle;
  }
  view.advice = fmt::format("{:.1f} models are wanted, {} {}: {}", view.wanted, view.fit,
                            view.fit == 1 ? "fits" : "fit", change_for(smallest, view.fit));
  return view;
}

}  // namespace lm::core
