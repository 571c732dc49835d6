#include "hub/address.h"

#include <boost/url.hpp>
#include <fmt/format.h>

namespace lm::hub {

Result<Address> Address::parse(std::string_view text) {
  const std::string_view whole = text.substr(0, text.find('#'));
  const std::size_t scheme = whole.find("://");
  const std::size_t slash =
      scheme == std::string_view::npos ? std::string_view::npos : whole.find_first_of("/?", scheme + 3);
  LM_TRY(http::Endpoint endpoint, http::Endpoint::parse(whole.substr(0, slash)));
  if (endpoint.kind == http::Endpoint::Kind::kUnix)
    return fail(ErrorCode::kInvalidArgument, "a model is fetched from http:// or https://", "bad_url");
  std::string target = slash == std::string_view::npos ? "/" : std::string(whole.substr(slash));
  if (target.front() == '?') target.insert(0, 1, '/');
  for (const char c : target) {
    if (c <= ' ' || c == 0x7f)
      return fail(ErrorCode::kInvalidArgument, "an address has no spaces or control characters", "bad_url");
  }
  return Address{.endpoint = std::move(endpoint), .target = std::move(target)};
}

Result<Address> Address::redirected(std::string_view location) const {
  const auto bad = [&](std::string_view why) {
    return fail(ErrorCode::kUnavailable, fmt::format("{}: it redirects {}", text(), why), "bad_upstream");
  };
  std::string absolute(location);
  // Signed addresses are not always as strict as the standard: only relative ones are taken apart.
  if (!location.starts_with("http://") && !location.starts_with("https://")) {
    const auto reference = boost::urls::parse_uri_reference({location.data(), location.size()});
    const std::string here = endpoint.text() + target;
    const auto base = boost::urls::parse_uri({here.data(), here.size()});
    boost::urls::url resolved;
    if (location.empty() || !reference || !base || !boost::urls::resolve(*base, *reference, resolved))
      return bad("to something that is no address");
    absolute.assign(resolved.buffer().data(), resolved.buffer().size());
  }
  const auto next = parse(absolute);
  if (!next) return bad("to something that is no address of http or https");
  if (endpoint.kind == http::Endpoint::Kind::kHttps && next->endpoint.kind != http::Endpoint::Kind::kHttps)
    return bad("from https to http, which is not followed");
  return *next;
}

bool Address::same_origin(const Address& other) const {
  return endpoint.kind == other.endpoint.kind && endpoint.port == other.endpoint.port &&
         http::equals_ignoring_case(endpoint.host, other.endpoint.host);
}

std::string Address::text() const {
  return endpoint.text() + target.substr(0, target.find('?'));
}

}  // namespace lm::hub
