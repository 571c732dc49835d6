// What went wrong: a word for programs, a sentence for people. Nothing here throws.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>
#include <vector>

namespace llm_manager {

// gRPC's words, with gRPC's meaning.
enum class ErrorCode : std::uint8_t {
  kCancelled,           // this program has cancelled the call or closed the client
  kInvalidArgument,     // the call can never work as it stands
  kDeadlineExceeded,    // a wait reached its end
  kNotFound,            // no such model, program or file
  kAlreadyExists,       //
  kPermissionDenied,    // the key allows less
  kUnauthenticated,     // no key, or a wrong one
  kResourceExhausted,   // memory, queue, rate: `reason` says which
  kFailedPrecondition,  // not in this state: the client is closed, the model is held unloaded
  kUnavailable,         // not now: no daemon, a worker that died
  kInternal,            //
  kUnimplemented,       // this daemon or model does not do that
};

// A value. `message` is one sentence that says what to do where something can be done; `reason` is a stable
// word ("insufficient_memory", "model_not_found", "no_daemon"), empty where the code says all; `details` are
// its numbers and names ("device", "needed", "free": bytes).
struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string reason;
  std::vector<std::pair<std::string, std::string>> details;

  // Out of memory on a device, after everything that the daemon may do about it has been tried.
  bool lacks_memory() const { return reason == "insufficient_memory" || reason == "upstream_not_released"; }
  bool operator==(const Error&) const = default;
};

template <class T>
using Result = std::expected<T, Error>;

}  // namespace llm_manager
