#include "core/demand.h"

#include <algorithm>
#include <cmath>

namespace lm::core {

namespace {

constexpr double kLeastShare = 0.03;

}  // namespace

double Demand::faded(const Tally& tally, TimePoint now) {
  return std::exp(-seconds(std::max(Duration(), now - tally.at)) / seconds(kMemory));
}

Demand::Tally& Demand::at(const ModelId& model, TimePoint now) {
  Tally& tally = tallies_[model];
  const double factor = faded(tally, now);
  tally.arrivals *= factor;
  tally.busy_seconds *= factor;
  tally.at = now;
  return tally;
}

void Demand::arrived(const ModelId& model, TimePoint now) {
  at(model, now).arrivals += 1;
}

void Demand::granted(RequestId request, const ModelId& model, TimePoint now, Duration before) {
  leases_.insert_or_assign(request, Lease{model, now, before});
}

Duration Demand::set_aside(RequestId request, TimePoint now) {
  const auto lease = leases_.find(request);
  if (lease == leases_.end()) return {};
  const Duration answered = lease->second.before + (now - lease->second.granted);
  leases_.erase(lease);
  return answered;
}

void Demand::released(RequestId request, TimePoint now) {
  const auto lease = leases_.find(request);
  if (lease == leases_.end()) return;
  // A model that was forgotten meanwhile stays so.
  if (tallies_.contains(lease->second.model)) {
    Tally& tally = at(lease->second.model, now);
    const double took = seconds(lease->second.before + (now - lease->second.granted));
    tally.busy_seconds += took;
    // A mean of the first ones, that then follows the last.
    const double share = std::max(1.0 / static_cast<double>(++tally.ended), kLeastShare);
    tally.answer_seconds += share * (took - tally.answer_seconds);
  }
  leases_.erase(lease);
}

double Demand::rate(const ModelId& model, TimePoint now) const {
  const auto tally = tallies_.find(model);
  if (tally == tallies_.end()) return 0;
  return tally->second.arrivals * faded(tally->second, now) / seconds(kMemory);
}

double Demand::answering(const ModelId& model, TimePoint now) const {
  const auto tally = tallies_.find(model);
  if (tally == tallies_.end()) return 0;
  return tally->second.busy_seconds * faded(tally->second, now) / seconds(kMemory);
}

std::optional<Duration> Demand::answer_takes(const ModelId& model) const {
  const auto tally = tallies_.find(model);
  if (tally == tallies_.end() || tally->second.ended == 0) return std::nullopt;
  return from_seconds(tally->second.answer_seconds);
}

}  // namespace lm::core
