// errno as an Error: the reason is "io_error" unless the code says more.
#pragma once

#include <string_view>

#include "base/error.h"

namespace lm::os {

// "WHAT: No such file or directory". ENOENT becomes not_found, EACCES and EPERM permission_denied, EEXIST
// already_exists, ENOMEM, EAGAIN, EMFILE, ENFILE, ENOSPC and EDQUOT resource_exhausted, everything else
// internal.
Error system_error(int error_number, std::string_view what);

}  // namespace lm::os
