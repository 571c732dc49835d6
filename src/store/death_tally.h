// When and how workers of an artifact died or failed to load: the last few of each, for doctor and explain. A
// thin view of its Database, used on its thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace lm::store {

struct Death {
  std::string artifact;
  std::int64_t at_ms = 0;  // Unix time
  std::string cause;       // "crashed", "load_failed"
  std::string how;         // "signal 9", "exit 3", "insufficient_memory: …"
  bool operator==(const Death&) const = default;
};

class DeathTally {
 public:
  // Keeps the last `keep` of each artifact.
  explicit DeathTally(Database& database, int keep = 20) : database_(database), keep_(keep) {}

  Result<void> record(const Death& death);

  // Newest first.
  Result<std::vector<Death>> of(std::string_view artifact);
  // Of all artifacts since then, newest first.
  Result<std::vector<Death>> since(std::int64_t at_ms, int most = 100);

  // After a change that gives it a fresh start. How many there were.
  Result<std::int64_t> forget(std::string_view artifact);

 private:
  Database& database_;
  int keep_;
};

}  // namespace lm::store
