// The decision log: what was decided, why, and by which numbers. Bounded: the oldest go. A thin view of its
// Database, used on its thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace lm::store {

struct DecisionRecord {
  std::int64_t id = 0;     // given by append; grows
  std::int64_t at_ms = 0;  // Unix time
  std::string kind;        // "evict"
  std::string model;
  std::string why;     // a sentence
  std::string fields;  // its numbers as text; not looked into
  bool operator==(const DecisionRecord&) const = default;
};

struct DecisionQuery {
  std::optional<std::string> model;       // empty: all
  std::optional<std::int64_t> since_ms;   // no older ones
  std::optional<std::int64_t> before_id;  // for the next page: the last id of this one
  int most = 100;
};

class Decisions {
 public:
  // Keeps the last `keep`, and up to `batch` more: so many are taken away at a time.
  explicit Decisions(Database& database, std::int64_t keep = 100'000, std::int64_t batch = 256)
      : database_(database), keep_(keep), batch_(batch) {}

  // The record's id; `record.id` is ignored.
  Result<std::int64_t> append(const DecisionRecord& record);

  // Newest first.
  Result<std::vector<DecisionRecord>> find(const DecisionQuery& query);

 private:
  Database& database_;
  std::int64_t keep_;
  std::int64_t batch_;
};

}  // namespace lm::store
