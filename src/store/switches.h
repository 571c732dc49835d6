// Reports of releases and switches, the last thousand. What is in a report is its writer's business. A thin
// view of its Database, used on its thread.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace lm::store {

struct SwitchRecord {
  std::int64_t id = 0;     // given by append; grows
  std::int64_t at_ms = 0;  // Unix time
  std::string kind;        // "release", "switch"
  std::string report;      // JSON; not looked into
  bool operator==(const SwitchRecord&) const = default;
};

class Switches {
 public:
  explicit Switches(Database& database, std::int64_t keep = 1000) : database_(database), keep_(keep) {}

  // In the place of what is recorded under its id, if anything is.
  Result<void> put(const SwitchRecord& record);

  // Newest first.
  Result<std::vector<SwitchRecord>> newest(int most = 50);

 private:
  Database& database_;
  std::int64_t keep_;
};

}  // namespace lm::store
