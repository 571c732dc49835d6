#include "base/error.h"

#include <array>

namespace lm {
namespace {

constexpr std::array<std::string_view, kErrorCodeCount> kNames = {
    "cancelled",          "invalid_argument",    "deadline_exceeded", "not_found", "already_exists", "permission_denied",
    "unauthenticated",    "resource_exhausted",  "failed_precondition", "unavailable", "internal",   "unimplemented",
};

}  // namespace

std::string_view to_string(ErrorCode code) { return kNames[static_cast<std::size_t>(code)]; }

std::optional<ErrorCode> error_code_from_string(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    if (kNames[i] == text) return static_cast<ErrorCode>(i);
  }
  return std::nullopt;
}

std::optional<std::int64_t> Error::number(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key != name) continue;
    if (const auto* n = std::get_if<std::int64_t>(&value)) return *n;
  }
  return std::nullopt;
}

Error& Error::with_context(std::string_view context) & {
  message.insert(0, ": ").insert(0, context);
  return *this;
}

Error&& Error::with_context(std::string_view context) && { return std::move(with_context(context)); }

}  // namespace lm
