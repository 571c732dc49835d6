// Text for JSON out of bytes that may be anything.
#pragma once

#include <string>
#include <string_view>

namespace lm::wire {

// The text with each byte that is no UTF-8 replaced. Paths are bytes, JSON is UTF-8: such a file is then not
// found. Linux's model folders are UTF-8 everywhere that matters.
std::string utf8(std::string_view text);

}  // namespace lm::wire
