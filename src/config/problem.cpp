#include "config/problem.h"

#include <fmt/format.h>

namespace lm::config {

std::string to_string(const Problem& problem) {
  std::string text = problem.file;
  if (problem.at.line > 0) text += fmt::format(":{}:{}", problem.at.line, problem.at.column);
  if (!text.empty()) text += ": ";
  if (!problem.key.empty()) text += problem.key + ": ";
  return text + problem.message;
}

Error to_error(const std::vector<Problem>& problems) {
  Error error{.code = ErrorCode::kInvalidArgument,
              .message = {},
              .reason = "invalid_config",
              .fields = {},
              .retry_after = {}};
  for (const Problem& problem : problems) {
    if (!error.message.empty()) error.message += '\n';
    error.message += to_string(problem);
    error.fields.emplace_back("problem", to_string(problem));
  }
  return error;
}

}  // namespace lm::config
