// Everybody who waits for a model to be ready: requests, jobs and pins, first come first served within model
// and class.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "domain/event.h"

namespace lm::core {

struct Waiter {
  enum class Kind : std::uint8_t { kRequest, kJob, kPin } kind = Kind::kRequest;
  RequestId request;  // of kRequest
  JobId job;          // of kJob
  ModelId model;      // whose queue: the model, or the seat of its upstream
  ModelId named;      // the model that was asked for
  PriorityClass priority = PriorityClass::kInteractive;
  TimePoint arrived;        // its place in the queue
  TimePoint waiting_since;  // it arrived, or was preempted: its age
  TimePoint deadline;
  bool preemptible = false;
  double weight = 1;  // of its age, beside its model's
  bool was_set_aside = false;
  Duration answered{};  // until then
  bool force = false;
  std::string who;  // of kJob
};

// Owned by the arbiter. Numbers are small (bounded by admission), so everything is a plain scan or a map.
class Backlog {
 public:
  void add(Waiter waiter);

  // Null where it does not wait.
  const Waiter* find(RequestId request) const;
  // Takes a waiter out; empty where it does not wait.
  std::optional<Waiter> take(RequestId request);
  std::optional<Waiter> take(JobId job);
  // Takes all of a model out, in order.
  std::vector<Waiter> take_all(const ModelId& model);
  // Takes its requests out, in order.
  std::vector<Waiter> take_requests(const ModelId& model);
  // Takes its requests and jobs out, in order: a pin goes on waiting.
  std::vector<Waiter> take_requests_and_jobs(const ModelId& model);
  // Takes those out that wait at a seat for this one of its upstream's models, in order.
  std::vector<Waiter> take_named(const ModelId& queue, const ModelId& named);
  std::vector<Waiter> take_jobs_named(const ModelId& queue, const ModelId& named);
  void take_pin(const ModelId& model);
  // Takes those out that are no requests: once the model is ready they have what they wanted.
  std::vector<Waiter> take_jobs_and_pins(const ModelId& model);

  // Those of a model, interactive before batch, in the order in which they arrived.
  const std::vector<Waiter>& of(const ModelId& model) const;
  bool any(const ModelId& model) const { return !of(model).empty(); }
  bool has_pin(const ModelId& model) const;
  bool has_job(const ModelId& model) const;
  // The first request of a class; null where none waits.
  const Waiter* head(const ModelId& model, PriorityClass priority) const;
  int requests(const ModelId& model) const;
  int requests() const { return requests_; }
  // Since when somebody waits without being served.
  std::optional<TimePoint> oldest(const ModelId& model) const;
  std::optional<TimePoint> oldest_request() const;
  std::optional<TimePoint> next_deadline() const;
  // Those whose deadline is not after `now`, taken out.
  std::vector<Waiter> take_expired(TimePoint now);
  const std::map<ModelId, std::vector<Waiter>>& by_model() const { return by_model_; }

 private:
  template <class Wanted>
  std::vector<Waiter> take_if(std::map<ModelId, std::vector<Waiter>>::iterator queue, Wanted wanted);

  std::map<ModelId, std::vector<Waiter>> by_model_;  // without empty queues
  int requests_ = 0;
};

}  // namespace lm::core
