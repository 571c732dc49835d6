// Result<T>: a value or an Error. Exceptions stay inside third-party code.
#pragma once

#include <expected>
#include <string>
#include <utility>

#include "base/error.h"

namespace lm {

template <class T>
using Result = std::expected<T, Error>;

// return fail(ErrorCode::kNotFound, "no model named x");
inline std::unexpected<Error> fail(ErrorCode code, std::string message, std::string reason = {}) {
  return std::unexpected(Error{.code = code, .message = std::move(message), .reason = std::move(reason), .fields = {}, .retry_after = {}});
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

}  // namespace lm

// LM_TRY(auto value, expression): the value of a Result, or returns its error from this function.
// LM_TRY_VOID(expression) for Result<void>. In coroutines LM_CO_TRY and LM_CO_TRY_VOID.
#define LM_CONCAT_(a, b) a##b
#define LM_CONCAT(a, b) LM_CONCAT_(a, b)
#define LM_TRY_IMPL_(return_, temp, declaration, expression)     \
  auto temp = (expression);                                      \
  if (!temp) return_ std::unexpected(std::move(temp).error());   \
  declaration = *std::move(temp)
#define LM_TRY_VOID_IMPL_(return_, temp, expression) \
  do {                                               \
    auto temp = (expression);                        \
    if (!temp) return_ std::unexpected(std::move(temp).error()); \
  } while (false)
#define LM_TRY(declaration, expression) LM_TRY_IMPL_(return, LM_CONCAT(lm_try_, __LINE__), declaration, expression)
#define LM_TRY_VOID(expression) LM_TRY_VOID_IMPL_(return, LM_CONCAT(lm_try_, __LINE__), expression)
#define LM_CO_TRY(declaration, expression) LM_TRY_IMPL_(co_return, LM_CONCAT(lm_try_, __LINE__), declaration, expression)
#define LM_CO_TRY_VOID(expression) LM_TRY_VOID_IMPL_(co_return, LM_CONCAT(lm_try_, __LINE__), expression)
