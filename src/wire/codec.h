// Messages as lines of JSON, one a line. Decoding trusts nothing: the other side may be a process that a
// hostile model file has taken over.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "wire/messages.h"

namespace lm::wire {

// The line with its end. Never contains another line's end.
std::string encode(const ToWorker& message);
std::string encode(const FromWorker& message);

// A line without its end. kInvalidArgument: not JSON, nested deeper than 16, a field missing, of a wrong type
// or out of its range. Empty optional: well-formed, of a kind that this version does not know (a later one's;
// to be noted and dropped). Unknown fields are dropped. Does not block, bounded by the line's length.
Result<std::optional<ToWorker>> decode_to_worker(std::string_view line);
Result<std::optional<FromWorker>> decode_from_worker(std::string_view line);

// kFailedPrecondition when the worker speaks another protocol: a sentence that names both.
Result<void> check_protocol(const Hello& hello);

}  // namespace lm::wire
