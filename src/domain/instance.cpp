#include "domain/instance.h"

#include <algorithm>

namespace lm {

ReleaseReport merge(const ReleaseReport& a, const ReleaseReport& b) {
  ReleaseReport sum = a;
  for (const auto& row : b.devices) {
    const auto it = std::ranges::find(sum.devices, row.device, &ReleaseReport::Row::device);
    if (it == sum.devices.end()) {
      sum.devices.push_back(row);
      continue;
    }
    it->before += row.before;
    it->after += row.after;
    it->freed += row.freed;
    it->expected += row.expected;
    it->residual += row.residual;
    // The devices' own numbers span both releases.
    it->device_free_before = std::min(it->device_free_before, row.device_free_before);
    it->device_free_after = std::max(it->device_free_after, row.device_free_after);
  }
  sum.before += b.before;
  sum.after += b.after;
  sum.freed += b.freed;
  sum.expected += b.expected;
  sum.residual += b.residual;
  sum.reclaimable += b.reclaimable;
  sum.holders.insert(sum.holders.end(), b.holders.begin(), b.holders.end());
  sum.outcome = std::max(a.outcome, b.outcome);
  if (a.method != b.method) sum.method = "mixed";
  sum.took = std::max(a.took, b.took);
  return sum;
}

}  // namespace lm
