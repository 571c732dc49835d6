// Learned footprints: what a load of this key was measured to take, so that the next one needs no measuring
// pass. Keys come from domain/footprint.h. A thin view of its Database, used on its thread; every call is one
// small transaction.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "domain/device.h"
#include "store/database.h"

namespace lm::store {

struct LearnedFootprint {
  DeviceBytes bytes;                  // held
  Bytes reclaimable;                  // mapped pages of its files, beside it
  std::optional<Duration> load_took;  // moving average over the loads
  std::int64_t loads = 0;             // how often it was measured
  std::int64_t updated_ms = 0;        // Unix time
};

class Footprints {
 public:
  explicit Footprints(Database& database) : database_(database) {}

  // nullopt: never measured.
  Result<std::optional<LearnedFootprint>> get(std::string_view key);

  // Those whose keys begin so, with what comes after that.
  Result<std::vector<std::pair<std::string, LearnedFootprint>>> find(std::string_view prefix);

  // The newest measurement of memory counts; the time enters the average, where there is one.
  Result<void> put(std::string_view key, const DeviceBytes& bytes, Bytes reclaimable,
                   std::optional<Duration> load_took, std::int64_t now_ms);

  // False: it was not there.
  Result<bool> forget(std::string_view key);

 private:
  Database& database_;
};

}  // namespace lm::store
