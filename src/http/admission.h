// Who may come in: where a request comes from, in whose name, and from which page. Pure; no sockets.
//
// A peer on this machine needs no key, but every web page that its browser shows can reach 127.0.0.1 too: the
// Host must be one that we have (DNS rebinding) and the Origin one that we let in (foreign pages). A peer
// from elsewhere needs a key.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "http/message.h"

namespace lm::http {

// In rising order of rights.
enum class Principal : std::uint8_t { kNone, kUser, kAdmin };

struct AdmissionOptions {
  std::vector<std::string>
      host_names;  // beside localhost, loopback literals and the bound addresses; without port
  std::vector<std::string>
      origins;  // "https://page.example", beside our own and loopback pages; "*" lets all in
  std::vector<std::string> user_keys;
  struct Client {
    std::string name, key;
  };
  std::vector<Client> clients;  // users with a name
  std::vector<std::string> admin_keys;
};

// What is known about a visitor before his route is.
struct Visitor {
  Principal principal = Principal::kNone;
  bool wrong_key = false;
  std::string client;                 // whose key it is, where it is one with a name
  Headers headers;                    // to be added to whatever is answered (CORS)
  std::optional<Response> preflight;  // the whole answer, where the request was a CORS preflight
};

class Admission {
 public:
  // Keys are kept as digests only.
  explicit Admission(const AdmissionOptions& options);

  // Whether there is any key: without one nothing wider than loopback may be bound.
  bool has_keys() const { return !keys_.empty(); }
  // An address that we listen on is a Host that we answer to.
  void add_bound_address(std::string_view address);

  // Refuses foreign hosts and pages: 403, reason "foreign_host" or "foreign_origin".
  std::expected<Visitor, Refusal> identify(const Request& request) const;
  // Whose key this is, for those that come otherwise than in a request's header; empty where it is nobody's.
  struct Holder {
    Principal principal = Principal::kNone;
    std::string client;
  };
  std::optional<Holder> holder_of(std::string_view key) const;
  // nullopt where the visitor has the rights; else 401 "missing_key" or "wrong_key", or 403 "admin_only".
  static std::optional<Refusal> demand(const Visitor& visitor, Principal needed);

 private:
  using Digest = std::array<unsigned char, 32>;
  struct Key {
    Digest digest;
    Principal principal;
    std::string client;
  };

  // The key of that text; null where none is.
  const Key* find(std::string_view text) const;
  bool is_our_host(std::string_view host) const;
  bool is_let_in(std::string_view origin, std::string_view host) const;

  std::vector<std::string> host_names_;
  std::vector<std::string> origins_;
  std::vector<Key> keys_;
};

}  // namespace lm::http
