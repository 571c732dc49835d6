#include "os/system_error.h"

#include <cerrno>
#include <system_error>

#include <fmt/format.h>

namespace lm::os {
namespace {

ErrorCode code_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
      return ErrorCode::kNotFound;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorCode::kPermissionDenied;
    case EEXIST:
      return ErrorCode::kAlreadyExists;
    case ENOMEM:
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOSPC:
    case EDQUOT:
      return ErrorCode::kResourceExhausted;
    case ENOSYS:
      return ErrorCode::kUnimplemented;
    default:
      return ErrorCode::kInternal;
  }
}

}  // namespace

Error system_error(int error_number, std::string_view what) {
  return Error{.code = code_of(error_number),
               .message = fmt::format("{}: {}", what, std::generic_category().message(error_number)),
               .reason = "io_error",
               .fields = {{"errno", std::int64_t{error_number}}},
               .retry_after = {}};
}

}  // namespace lm::os
