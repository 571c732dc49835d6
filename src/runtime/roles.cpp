#include "runtime/roles.h"

#include <array>
#include <utility>

#include <fmt/format.h>

namespace lm::runtime {

AssignedRoles assign_roles(std::map<std::string, ModelId> local, const config::Roles& wished,
                           const Catalog& names, bool upstreams_listed) {
  AssignedRoles assigned{.models = std::move(local), .lost = {}, .warnings = {}};
  const std::array<std::pair<const char*, const std::string&>, 4> wishes = {
      {{"chat", wished.chat},
       {"knowledge", wished.knowledge},
       {"translation", wished.translation},
       {"embedding", wished.embedding}}};
  for (const auto& [role, name] : wishes) {
    if (name.empty() || assigned.models.contains(role)) continue;
    auto id = names.resolve(name);
    if (id) {
      assigned.models.emplace(role, *std::move(id));
      continue;
    }
    Error error = std::move(id).error();
    error.message = fmt::format("roles.{}: {}", role, error.message);
    const bool maybe_theirs = !upstreams_listed && name.find_first_of("/:_") != std::string::npos;
    if (error.reason != "upstream_unreachable" && !maybe_theirs) assigned.warnings.push_back(error.message);
    assigned.lost.emplace(role, std::move(error));
  }
  return assigned;
}

}  // namespace lm::runtime
