// Which addresses are this machine's own, and which of its ports are free. Asks the kernel for its
// interfaces, no name server; does not block.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace lm::os {

// `host` is a name or an address literal without brackets. True for the names of loopback, this machine's own
// name, the unspecified address (a connection to it stays here), loopback addresses and those of its
// interfaces. A name that only a name server could resolve is somebody else's.
bool is_this_machine(std::string_view host);

// A port of 127.0.0.1 where nobody listens. Whoever wants it has to be quick: it is not reserved.
Result<std::uint16_t> free_loopback_port();

}  // namespace lm::os
