#include "core/backlog.h"

#include <algorithm>
#include <tuple>

namespace lm::core {

void Backlog::add(Waiter waiter) {
  auto& queue = by_model_[waiter.model];
  // One that was preempted comes back to where it was.
  const auto place = [](const Waiter& w) { return std::tuple(w.priority, w.arrived, w.request); };
  const auto after = std::ranges::upper_bound(queue, place(waiter), {}, place);
  if (waiter.kind == Waiter::Kind::kRequest) ++requests_;
  queue.insert(after, std::move(waiter));
}

template <class Wanted>
std::vector<Waiter> Backlog::take_if(std::map<ModelId, std::vector<Waiter>>::iterator queue, Wanted wanted) {
  std::vector<Waiter> taken;
  std::vector<Waiter> left;
  for (Waiter& waiter : queue->second) {
    if (wanted(waiter)) {
      if (waiter.kind == Waiter::Kind::kRequest) --requests_;
      taken.push_back(std::move(waiter));
    } else {
      left.push_back(std::move(waiter));
    }
  }
  queue->second = std::move(left);
  if (queue->second.empty()) by_model_.erase(queue);
  return taken;
}

const Waiter* Backlog::find(RequestId request) const {
  for (const auto& [model, queue] : by_model_) {
    for (const Waiter& waiter : queue) {
      if (waiter.kind == Waiter::Kind::kRequest && waiter.request == request) return &waiter;
    }
  }
  return nullptr;
}

std::optional<Waiter> Backlog::take(RequestId request) {
  const auto is_it = [request](const Waiter& w) {
    return w.kind == Waiter::Kind::kRequest && w.request == request;
  };
  for (auto it = by_model_.begin(); it != by_model_.end(); ++it) {
    if (std::ranges::any_of(it->second, is_it)) return std::move(take_if(it, is_it).front());
  }
  return std::nullopt;
}

std::optional<Waiter> Backlog::take(JobId job) {
  const auto is_it = [job](const Waiter& w) { return w.kind == Waiter::Kind::kJob && w.job == job; };
  for (auto it = by_model_.begin(); it != by_model_.end(); ++it) {
    if (std::ranges::any_of(it->second, is_it)) return std::move(take_if(it, is_it).front());
  }
  return std::nullopt;
}

std::vector<Waiter> Backlog::take_all(const ModelId& model) {
  const auto it = by_model_.find(model);
  return it == by_model_.end() ? std::vector<Waiter>() : take_if(it, [](const Waiter&) { return true; });
}

std::vector<Waiter> Backlog::take_jobs_and_pins(const ModelId& model) {
  const auto it = by_model_.find(model);
  if (it == by_model_.end()) return {};
  return take_if(it, [](const Waiter& w) { return w.kind != Waiter::Kind::kRequest; });
}

std::vector<Waiter> Backlog::take_requests(const ModelId& model) {
  const auto it = by_model_.find(model);
  if (it == by_model_.end()) return {};
  return take_if(it, [](const Waiter& w) { return w.kind == Waiter::Kind::kRequest; });
}

std::vector<Waiter> Backlog::take_requests_and_jobs(const ModelId& model) {
  const auto it = by_model_.find(model);
  if (it == by_model_.end()) return {};
  return take_if(it, [](const Waiter& w) { return w.kind != Waiter::Kind::kPin; });
}

std::vector<Waiter> Backlog::take_named(const ModelId& queue, const ModelId& named) {
  const auto it = by_model_.find(queue);
  if (it == by_model_.end()) return {};
  return take_if(it, [&](const Waiter& w) { return w.named == named; });
}

void Backlog::take_pin(const ModelId& model) {
  const auto it = by_model_.find(model);
  if (it != by_model_.end()) take_if(it, [](const Waiter& w) { return w.kind == Waiter::Kind::kPin; });
}

std::vector<Waiter> Backlog::take_jobs_named(const ModelId& queue, const ModelId& named) {
  const auto it = by_model_.find(queue);
  if (it == by_model_.end()) return {};
  return take_if(it, [&](const Waiter& w) { return w.kind == Waiter::Kind::kJob && w.named == named; });
}

const std::vector<Waiter>& Backlog::of(const ModelId& model) const {
  static const std::vector<Waiter> kNobody;
  const auto it = by_model_.find(model);
  return it == by_model_.end() ? kNobody : it->second;
}

bool Backlog::has_pin(const ModelId& model) const {
  return std::ranges::any_of(of(model), [](const Waiter& w) { return w.kind == Waiter::Kind::kPin; });
}

bool Backlog::has_job(const ModelId& model) const {
  return std::ranges::any_of(of(model), [](const Waiter& w) { return w.kind == Waiter::Kind::kJob; });
}

const Waiter* Backlog::head(const ModelId& model, PriorityClass priority) const {
  const auto& queue = of(model);
  const auto it = std::ranges::find_if(queue, [priority](const Waiter& w) {
    return w.kind == Waiter::Kind::kRequest && w.priority == priority;
  });
  return it == queue.end() ? nullptr : &*it;
}

int Backlog::requests(const ModelId& model) const {
  return static_cast<int>(std::ranges::count(of(model), Waiter::Kind::kRequest, &Waiter::kind));
}

std::optional<TimePoint> Backlog::oldest(const ModelId& model) const {
  const auto& queue = of(model);
  if (queue.empty()) return std::nullopt;
  return std::ranges::min_element(queue, {}, &Waiter::waiting_since)->waiting_since;
}

std::optional<TimePoint> Backlog::oldest_request() const {
  std::optional<TimePoint> oldest;
  for (const auto& [model, queue] : by_model_) {
    for (const Waiter& w : queue) {
      if (w.kind == Waiter::Kind::kRequest && (!oldest || w.waiting_since < *oldest))
        oldest = w.waiting_since;
    }
  }
  return oldest;
}

std::optional<TimePoint> Backlog::next_deadline() const {
  std::optional<TimePoint> next;
  for (const auto& [model, queue] : by_model_) {
    for (const Waiter& w : queue) {
      if (!next || w.deadline < *next) next = w.deadline;
    }
  }
  return next;
}

std::vector<Waiter> Backlog::take_expired(TimePoint now) {
  std::vector<Waiter> expired;
  for (auto it = by_model_.begin(); it != by_model_.end();) {
    const auto queue = it++;
    const auto is_expired = [now](const Waiter& waiter) { return waiter.deadline <= now; };
    // Nearly always nobody is, and this is asked at every step.
    if (std::ranges::none_of(queue->second, is_expired)) continue;
    for (Waiter& w : take_if(queue, is_expired)) expired.push_back(std::move(w));
  }
  return expired;
}

}  // namespace lm::core
