// A request's target taken apart: path segments and query, percent-decoded. Pure text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "http/message.h"

namespace lm::http {

// "%41b" is "Ab". nullopt where a % is not followed by two hexadecimal digits, or where it makes a NUL.
// `plus_is_space`: as in a query.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);

// Everything but letters, digits and "-._~" as %XX; with `keep_slash` a "/" stays.
std::string percent_encode(std::string_view text, bool keep_slash = false);

// The raw path of a target: "/a%20b" of "/a%20b?x=1", also where the target has the absolute form. Empty
// where the target is none that a server has ("*" is kept).
std::string_view raw_path(std::string_view target);
// "host:port" of a target in absolute form, empty otherwise.
std::string_view authority_of(std::string_view target);

// Fills path and query from target. False where they cannot be decoded.
bool split_target(Request& request);

}  // namespace lm::http
