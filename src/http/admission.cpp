#include "http/admission.h"

#include <algorithm>

#include <boost/asio/ip/address.hpp>
#include <openssl/crypto.h>
#include <openssl/sha.h>

namespace lm::http {
namespace {

struct HostPort {
  std::string_view host;  // an IPv6 literal without its brackets
  std::string_view port;  // empty where there is none
};

HostPort split_host(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t end = text.find(']');
    if (end == std::string_view::npos) return {text, {}};
    const std::string_view rest = text.substr(end + 1);
    return {text.substr(1, end - 1), rest.starts_with(':') ? rest.substr(1) : std::string_view{}};
  }
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

bool is_loopback_host(std::string_view host) {
  if (host.ends_with('.')) host.remove_suffix(1);
  if (equals_ignoring_case(host, "localhost")) return true;
  boost::system::error_code ec;
  const auto address = boost::asio::ip::make_address(std::string(host), ec);
  return !ec && address.is_loopback();
}

std::string_view default_port(std::string_view scheme) {
  if (equals_ignoring_case(scheme, "https")) return "443";
  return "80";
}

std::string_view presented_key(const Request& request) {
  if (const auto authorization = request.headers.get("Authorization")) {
    constexpr std::string_view kScheme = "Bearer ";
    if (authorization->size() > kScheme.size() &&
        equals_ignoring_case(authorization->substr(0, kScheme.size()), kScheme)) {
      return authorization->substr(kScheme.size());
    }
  }
  return request.headers.get("x-api-key").value_or(std::string_view{});
}

Refusal refusal(int status, ErrorCode code, std::string message, std::string reason) {
  return {
      .status = status, .error = fail(code, std::move(message), std::move(reason)).error(), .headers = {}};
}

std::array<unsigned char, 32> digest_of(std::string_view text) {
  std::array<unsigned char, 32> digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

}  // namespace

Admission::Admission(const AdmissionOptions& options)
    : host_names_(options.host_names), origins_(options.origins) {
  const auto add = [this](const std::vector<std::string>& texts, Principal principal) {
    for (const std::string& text : texts) {
      if (text.empty()) continue;
      keys_.push_back({.digest = digest_of(text), .principal = principal, .client = {}});
    }
  };
  for (const AdmissionOptions::Client& client : options.clients) {
    if (!client.key.empty())
      keys_.push_back(
          {.digest = digest_of(client.key), .principal = Principal::kUser, .client = client.name});
  }
  add(options.user_keys, Principal::kUser);
  add(options.admin_keys, Principal::kAdmin);
}

void Admission::add_bound_address(std::string_view address) {
  host_names_.emplace_back(address);
}

// Digests have one length and every one is compared to its end, so the time tells nothing about a key.
const Admission::Key* Admission::find(std::string_view text) const {
  const Digest digest = digest_of(text);
  const Key* best = nullptr;
  for (const Key& key : keys_) {
    const bool same = CRYPTO_memcmp(key.digest.data(), digest.data(), digest.size()) == 0;
    if (same && (best == nullptr || key.principal > best->principal)) best = &key;
  }
  return best;
}

std::optional<Admission::Holder> Admission::holder_of(std::string_view text) const {
  const Key* key = text.empty() ? nullptr : find(text);
  if (key == nullptr) return std::nullopt;
  return Holder{.principal = key->principal, .client = key->client};
}

bool Admission::is_our_host(std::string_view host_and_port) const {
  const std::string_view host = split_host(host_and_port).host;
  return is_loopback_host(host) ||
         std::any_of(host_names_.begin(), host_names_.end(),
                     [&](const std::string& name) { return equals_ignoring_case(name, host); });
}

bool Admission::is_let_in(std::string_view origin, std::string_view host_and_port) const {
  for (const std::string& one : origins_) {
    if (one == "*" || equals_ignoring_case(one, origin)) return true;
  }
  const std::size_t scheme_end = origin.find("://");
  if (scheme_end == std::string_view::npos) return false;  // "null": a sandboxed page or a file
  const std::string_view scheme = origin.substr(0, scheme_end);
  const HostPort page = split_host(origin.substr(scheme_end + 3));
  if (is_loopback_host(page.host)) return true;
  const HostPort ours = split_host(host_and_port);
  const std::string_view page_port = page.port.empty() ? default_port(scheme) : page.port;
  const std::string_view our_port = ours.port.empty() ? default_port(scheme) : ours.port;
  return equals_ignoring_case(page.host, ours.host) && page_port == our_port;
}

std::expected<Visitor, Refusal> Admission::identify(const Request& request) const {
  Visitor visitor;
  if (request.peer.kind == Peer::Kind::kUnix) {
    // The socket's file permissions have let him in.
    visitor.principal = Principal::kAdmin;
    return visitor;
  }

  const std::string_view host = request.headers.get("Host").value_or(std::string_view{});
  // A request that a proxy on this machine passes on comes from wherever the proxy's client is.
  const bool forwarded = request.headers.has("Forwarded") || request.headers.has("X-Forwarded-For");
  const bool is_local = request.peer.kind == Peer::Kind::kLoopback && !forwarded;
  if (is_local && !is_our_host(host)) {
    return std::unexpected(
        refusal(403, ErrorCode::kPermissionDenied,
                "the host \"" + std::string(host.substr(0, 100)) +
                    "\" is not one of ours; use localhost, or add the name to server.allowed_hosts",
                "foreign_host"));
  }

  if (const auto origin = request.headers.get("Origin")) {
    if (!is_let_in(*origin, host)) {
      return std::unexpected(
          refusal(403, ErrorCode::kPermissionDenied,
                  "pages of \"" + std::string(origin->substr(0, 100)) +
                      "\" may not use this server; add it to server.allowed_origins to allow it",
                  "foreign_origin"));
    }
    visitor.headers.add("Access-Control-Allow-Origin", *origin);
    visitor.headers.add("Access-Control-Expose-Headers", "*");  // what its program may read of an answer
    visitor.headers.add("Vary", "Origin");
    if (request.method == Method::kOptions && request.headers.has("Access-Control-Request-Method")) {
      Response answer{.status = 204, .headers = {}, .body = {}};
      answer.headers.add("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
      answer.headers.add("Access-Control-Allow-Headers",
                         request.headers.get("Access-Control-Request-Headers")
                             .value_or("Authorization, Content-Type, x-api-key"));
      answer.headers.add("Access-Control-Max-Age", "600");
      visitor.preflight = std::move(answer);
      return visitor;
    }
  } else if (is_local && request.headers.get("Sec-Fetch-Site") == "cross-site" &&
             request.headers.get("Sec-Fetch-Mode") != "navigate") {
    // A foreign page's <img> or <script>: browsers send no Origin with those.
    return std::unexpected(refusal(403, ErrorCode::kPermissionDenied,
                                   "a page of another site may not use this server", "foreign_origin"));
  }

  if (const std::string_view text = presented_key(request); !text.empty()) {
    const Key* key = find(text);
    visitor.wrong_key = key == nullptr && !is_local;  // programs on this machine send anything
    if (key != nullptr) {
      visitor.principal = key->principal;
      visitor.client = key->client;
    }
  }
  if (is_local) visitor.principal = Principal::kAdmin;
  return visitor;
}

std::optional<Refusal> Admission::demand(const Visitor& visitor, Principal needed) {
  if (visitor.principal >= needed) return std::nullopt;
  if (visitor.principal != Principal::kNone) {
    return refusal(403, ErrorCode::kPermissionDenied, "this needs an admin key", "admin_only");
  }
  Refusal unknown =
      visitor.wrong_key
          ? refusal(401, ErrorCode::kUnauthenticated, "the key is not one of this server's", "wrong_key")
          : refusal(401, ErrorCode::kUnauthenticated,
                    "a key is needed: send Authorization: Bearer KEY or x-api-key: KEY", "missing_key");
  unknown.headers.add("WWW-Authenticate", "Bearer");
  return unknown;
}

}  // namespace lm::http
