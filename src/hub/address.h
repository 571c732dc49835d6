// An address on the web, taken apart for the client; and what a redirection makes of it. Plain values.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "http/client.h"

namespace lm::hub {

struct Address {
  http::Endpoint endpoint;  // without a base path
  std::string target;       // "/path?query"

  // Of http:// and https://, without user and password; a fragment is dropped. kInvalidArgument "bad_url".
  static Result<Address> parse(std::string_view text);
  // Where that answer's Location leads, absolute or relative to this one. kUnavailable "bad_upstream" where
  // it is none, or leads from https to http.
  Result<Address> redirected(std::string_view location) const;
  // Scheme, host and port are the same: a key for one is a key for the other.
  bool same_origin(const Address& other) const;
  // Without the query, which may hold a signature.
  std::string text() const;
};

}  // namespace lm::hub
