// What is wrong with this installation and what to do about it, as far as the daemon can see.
#pragma once

#include <string>
#include <vector>

#include "runtime/runtime.h"

namespace lm::api {

struct Check {
  std::string name;
  std::string status;  // "ok", "warning", "problem"
  std::string message;
  std::string fix;  // empty where there is nothing to do
};

std::vector<Check> diagnose_daemon(const runtime::Runtime& runtime);

}  // namespace lm::api
