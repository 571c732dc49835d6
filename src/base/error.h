// What went wrong, in twelve of gRPC's words, with a reason that programs can match and a sentence that people can act on.
// Source of the words and their meaning: google.golang.org/grpc/codes, "Canonical error codes".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/time.h"

namespace lm {

enum class ErrorCode : std::uint8_t {
  kCancelled,           // whoever asked has left or asked to stop
  kInvalidArgument,     // the request can never work as it stands
  kDeadlineExceeded,    // a wait reached its deadline
  kNotFound,            // no such model, device, route
  kAlreadyExists,       // it is there already and must not be
  kPermissionDenied,    // known who asks, not allowed
  kUnauthenticated,     // not known who asks
  kResourceExhausted,   // memory, queue, rate
  kFailedPrecondition,  // not in this state: the caller must change something first
  kUnavailable,         // not now: trying again may work
  kInternal,            // our fault
  kUnimplemented,       // nobody has built it
};
inline constexpr int kErrorCodeCount = 12;

// "resource_exhausted" and so on; the form used in JSON and logs.
std::string_view to_string(ErrorCode code);
std::optional<ErrorCode> error_code_from_string(std::string_view text);

// A value, copied freely. `message` is one sentence without a final full stop that says what to do where something can be
// done; `reason` is a stable word for programs ("insufficient_memory", "model_held", "invalid_artifact", "io_error"), empty
// where the code says all; `fields` carry its numbers and names ("device", "needed", "free": bytes).
struct Error {
  using Field = std::pair<std::string, std::variant<std::int64_t, std::string>>;

  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string reason;
  std::vector<Field> fields;
  std::optional<Duration> retry_after;

  // The field's number, if there is one of that name and it is a number.
  std::optional<std::int64_t> number(std::string_view name) const;

  // Puts `context` before the message ("loading tiny: ..."). Context is added once, by whoever knows it.
  Error& with_context(std::string_view context) &;
  Error&& with_context(std::string_view context) &&;

  bool operator==(const Error&) const = default;
};

}  // namespace lm
