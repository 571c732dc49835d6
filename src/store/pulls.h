// What was pulled, what is being pulled, and which files came of it. A thin view of its Database, used on its
// thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "store/database.h"

namespace lm::store {

struct PullRecord {
  std::int64_t id = 0;
  std::string source;
  std::string folder;
  std::string key;
  std::string state;  // "waiting", "running", "paused", "done", "failed", "cancelled"
  std::string who;
  std::int64_t asked_ms = 0;  // Unix time
  std::int64_t done = 0, total = 0;
  std::string error;  // the sentence; empty where it has not failed
  bool operator==(const PullRecord&) const = default;
};

struct PulledFileRecord {
  std::string path;
  std::string source;
  std::string hash;
  std::int64_t size = 0;
  bool operator==(const PulledFileRecord&) const = default;
};

class Pulls {
 public:
  // Of those that have ended so many are kept.
  static constexpr int kKept = 100;

  explicit Pulls(Database& database) : database_(database) {}

  // The id that it got; ids count up and are never used again. Forgets the oldest of those that have ended.
  Result<std::int64_t> add(const PullRecord& record);
  Result<void> update(const PullRecord& record);
  // By id.
  Result<std::vector<PullRecord>> all();

  // The file is a pull's; again: the last one's.
  Result<void> add_file(const PulledFileRecord& file);
  Result<void> forget_file(std::string_view path);
  Result<bool> has_file(std::string_view path);
  // The pulled files of that name, by path.
  Result<std::vector<std::string>> files_named(std::string_view name);

 private:
  Database& database_;
};

}  // namespace lm::store
