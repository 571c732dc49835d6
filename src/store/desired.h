// What people have asked for and what a restart must not forget: models held unloaded, models pinned. A thin
// view of its Database, used on its thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "domain/ids.h"
#include "store/database.h"

namespace lm::store {

struct Wish {
  ModelId model;
  std::string who;            // "command line", "discord:1234"
  std::int64_t since_ms = 0;  // Unix time
  bool operator==(const Wish&) const = default;
};

class Desired {
 public:
  explicit Desired(Database& database) : database_(database) {}

  // Held already: the first who asked stays named. True: it is new.
  Result<bool> hold(const Wish& wish);
  // True: there was one.
  Result<bool> end_hold(const ModelId& model);
  // By model.
  Result<std::vector<Wish>> holds();

  Result<bool> pin(const Wish& wish);
  Result<bool> unpin(const ModelId& model);
  Result<std::vector<Wish>> pins();

 private:
  Result<bool> add(std::string_view sql, const Wish& wish);
  Result<bool> remove(std::string_view sql, const ModelId& model);
  Result<std::vector<Wish>> list(std::string_view sql);

  Database& database_;
};

}  // namespace lm::store
