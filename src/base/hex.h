// Lower-case hexadecimal digits, as checksums and commits are written.
#pragma once

#include <cstddef>
#include <string_view>

namespace lm {

// Whether the text is so many of them and nothing else.
constexpr bool is_hex(std::string_view text, std::size_t digits) {
  return text.size() == digits && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace lm
