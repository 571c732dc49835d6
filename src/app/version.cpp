#include "app/version.h"

namespace lm::app {

std::string_view version() { return LLM_MANAGER_VERSION; }

}  // namespace lm::app
