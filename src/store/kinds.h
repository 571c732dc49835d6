// What model files were found to be when somebody looked into them, by their fingerprints. A thin view of its
// Database, used on its thread.
#pragma once

#include <optional>
#include <string_view>

#include "base/result.h"
#include "domain/model.h"
#include "store/database.h"

namespace lm::store {

class Kinds {
 public:
  explicit Kinds(Database& database) : database_(database) {}

  // nullopt: nobody has looked.
  Result<std::optional<ModelKind>> get(std::string_view fingerprint);
  // In the place of what was found before.
  Result<void> put(std::string_view fingerprint, ModelKind kind);

 private:
  Database& database_;
};

}  // namespace lm::store
