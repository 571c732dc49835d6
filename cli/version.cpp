#include "cli/version.h"

namespace lm::cli {

std::string_view version() {
  return LLM_MANAGER_VERSION;
}

}  // namespace lm::cli
