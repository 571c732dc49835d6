// What a load would take, where, and of whom: told before anything is loaded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "domain/footprint.h"
#include "domain/ids.h"
#include "domain/model.h"

namespace lm {

// What a file was found to need with some options.
struct Forecast {
  std::vector<DeviceMemory> parts;  // where it is not cut
  std::optional<Extent> extent;
  std::vector<Experience> known{};  // measured before, also in earlier lives of the daemon
};

enum class PlanVerdict : std::uint8_t {
  kFits,             // at once
  kFitsAfterOthers,  // once those in `evicts` are gone
  kDoesNotFit,       // whoever goes
};
std::string_view to_string(PlanVerdict verdict);

struct LoadPlan {
  struct Row {
    DeviceMemory parts;  // by arithmetic; where it was measured before, `needed` counts
    Bytes needed;
    Bytes free;    // for it, now
    Bytes credit;  // what can be made free beside that, in the end
  };
  std::vector<LayerShare> shares;  // empty: on the host
  std::vector<Row> rows;           // the host first
  FootprintSource source = FootprintSource::kPredicted;
  PlanVerdict verdict = PlanVerdict::kDoesNotFit;
  std::vector<ModelId> evicts;  // the cheapest that make room, should they be allowed to go
  // The limit that is met first, for people: "rpc0: 1.2 GB of 4.0 GB would be left".
  std::string limit;
  std::optional<DeviceId> device;  // where that is
};

}  // namespace lm
