// What is asked for, against what fits.
#include "core/arbiter.h"
#include "core/thrash_gauge.h"

namespace lm::core {

DemandView Arbiter::demand_view(TimePoint now) const {
  std::vector<Wanted> models;
  for (const auto& [id, entry] : entries_) {
    // What waits for another server's model waits at its seat.
    if (!entry.listed || (entry.model.remote && !entry.is_seat())) continue;
    Wanted wanted{.model = told_as(entry),
                  .rate = demand_.rate(id, now),
                  .answering = demand_.answering(id, now),
                  .need = {},
                  .pinned = entry.is_pinned(),
                  .family = {}};
    if (entry.learned) wanted.need.bytes = entry.learned->bytes;
    if (entry.instance) wanted.need.bytes = DeviceBytes::max(wanted.need.bytes, charge_of(entry).bytes);
    if (entry.model.kind == ModelKind::kGeneration && !entry.is_seat()) wanted.need.places = 1;
    if (contends(entry)) wanted.family = entry.model.family;
    models.push_back(std::move(wanted));
  }
  // T: the shortest residency that pays for its load, and the load.
  return thrash_gauge(std::move(models), Ledger(devices_, strangers(), settings_.residency.max_loaded),
                      core::quantum(settings_.scheduling, change_cost_.value()) + change_cost_.value());
}

}  // namespace lm::core
