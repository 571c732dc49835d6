#include <charconv>

#include <boost/url/parse.hpp>
#include <boost/url/url_view.hpp>

#include "http/client.h"

namespace lm::http {
namespace {

std::unexpected<Error> bad_url(std::string_view url, std::string_view why) {
  return fail(ErrorCode::kInvalidArgument,
              "\"" + std::string(url) + "\" is no address of a server: " + std::string(why), "bad_url");
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view url) {
  if (url.starts_with("unix:")) {
    std::string_view path = url.substr(5);
    if (path.starts_with("//")) path.remove_prefix(2);
    if (!path.starts_with('/')) return bad_url(url, "a socket's path is absolute, as in unix:/run/x.sock");
    return unix_socket(std::string(path));
  }
  const auto parsed = boost::urls::parse_uri({url.data(), url.size()});
  if (!parsed) return bad_url(url, "write it like http://host:port");
  const boost::urls::url_view view = *parsed;
  Endpoint endpoint;
  if (view.scheme_id() == boost::urls::scheme::http) {
    endpoint.kind = Kind::kHttp;
    endpoint.port = 80;
  } else if (view.scheme_id() == boost::urls::scheme::https) {
    endpoint.kind = Kind::kHttps;
    endpoint.port = 443;
  } else {
    return bad_url(url, "it begins with http://, https:// or unix:");
  }
  if (view.has_userinfo()) return bad_url(url, "a name and password do not belong there");
  if (view.has_query() || view.has_fragment()) return bad_url(url, "a query does not belong there");
  const auto host = view.host_address();
  endpoint.host.assign(host.data(), host.size());
  if (endpoint.host.empty()) return bad_url(url, "the host is missing");
  if (view.has_port() && !view.port().empty()) {
    const auto port = view.port();
    const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (ec != std::errc() || end != port.data() + port.size() || endpoint.port == 0) {
      return bad_url(url, "the port is no number between 1 and 65535");
    }
  }
  const auto path = view.encoded_path();
  endpoint.base_path.assign(path.data(), path.size());
  while (endpoint.base_path.ends_with('/')) endpoint.base_path.pop_back();
  return endpoint;
}

Endpoint Endpoint::unix_socket(std::string path) {
  Endpoint endpoint;
  endpoint.kind = Kind::kUnix;
  endpoint.host = std::move(path);
  return endpoint;
}

std::string Endpoint::text() const {
  if (kind == Kind::kUnix) return "unix:" + host;
  const bool is_v6 = host.find(':') != std::string::npos;
  return std::string(kind == Kind::kHttp ? "http://" : "https://") + (is_v6 ? "[" + host + "]" : host) + ":" +
         std::to_string(port) + base_path;
}

}  // namespace lm::http
