// Which models the roles mean once upstreams' models are known too.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "config/config.h"
#include "domain/ids.h"
#include "runtime/catalog.h"

namespace lm::runtime {

struct AssignedRoles {
  std::map<std::string, ModelId> models;
  // Of a role that the configuration gives to a model which nobody has: why, for whoever asks for it.
  std::map<std::string, Error> lost;
  // Of those that waiting will not find; not those of an upstream that was never reached.
  std::vector<std::string> warnings;
};

// `local` are those that models of ours have; what else the configuration wishes is looked up in `names`.
// Where upstreams were not listed yet, a name that may be one of theirs is worth no warning.
AssignedRoles assign_roles(std::map<std::string, ModelId> local, const config::Roles& wished,
                           const Catalog& names, bool upstreams_listed);

}  // namespace lm::runtime
