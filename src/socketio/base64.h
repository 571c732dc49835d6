// Bytes as base64 text (RFC 4648) and back.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lm::socketio {

std::string base64(std::string_view bytes);
// Strict: padded, nothing but the alphabet, no bits left over. Empty where it is not that.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace lm::socketio
