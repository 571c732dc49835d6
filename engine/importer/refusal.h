// Why a checkpoint is not imported: the checkpoint is broken, or nobody has built what it needs.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::importer {

// kInvalidArgument, reason invalid_checkpoint: what is in the folder contradicts itself or its format.
inline std::unexpected<Error> refuse(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message), "invalid_checkpoint");
}

// kUnimplemented, reason unsupported_model: well-formed, but of a kind that is not imported.
inline std::unexpected<Error> unsupported(std::string message) {
  return fail(ErrorCode::kUnimplemented, std::move(message), "unsupported_model");
}

// Text from a checkpoint for a message: printable, short, in quotes.
inline std::string in_quotes(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 80)) out += c >= 0x20 && c < 0x7f ? c : '?';
  if (text.size() > 80) out += "...";
  return out + "'";
}

}  // namespace lm::importer
