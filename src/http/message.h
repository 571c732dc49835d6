// HTTP messages as plain values: what was asked, what is answered. No sockets, no parsing.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"

namespace lm::http {

enum class Method : std::uint8_t { kGet, kHead, kPost, kPut, kDelete, kPatch, kOptions, kOther };

// "GET"; "?" for kOther.
std::string_view to_string(Method method);
// Case-sensitive, as the standard has it; everything unknown is kOther.
Method method_from_string(std::string_view text);
// May be sent twice without harm: GET, HEAD, PUT, DELETE, OPTIONS.
bool is_idempotent(Method method);

// ASCII only; locale plays no part.
bool equals_ignoring_case(std::string_view a, std::string_view b);

struct Header {
  std::string name;
  std::string value;
  bool operator==(const Header&) const = default;
};

// Header fields in their order; names compare without case. A line break in a name or value is stored as a
// space, so that no value can split a message.
class Headers {
 public:
  Headers() = default;
  Headers(std::initializer_list<Header> fields);

  void add(std::string_view name, std::string_view value);
  // Replaces every field of that name.
  void set(std::string_view name, std::string_view value);
  void erase(std::string_view name);

  // The first field of that name; the view lives as long as the field.
  std::optional<std::string_view> get(std::string_view name) const;
  bool has(std::string_view name) const { return get(name).has_value(); }
  std::size_t count(std::string_view name) const;
  // Whether a comma-separated list in any field of that name holds the token ("Connection: keep-alive,
  // Upgrade").
  bool has_token(std::string_view name, std::string_view token) const;

  bool empty() const { return fields_.empty(); }
  std::size_t size() const { return fields_.size(); }
  auto begin() const { return fields_.begin(); }
  auto end() const { return fields_.end(); }
  bool operator==(const Headers&) const = default;

 private:
  std::vector<Header> fields_;
};

// Without the blanks around it.
inline std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// Calls fn(token) for each non-empty, trimmed part of a comma-separated list.
template <class Fn>
void for_each_token(std::string_view list, Fn fn) {
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view part = trimmed(list.substr(0, comma));
    list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
    if (!part.empty()) fn(part);
  }
}

// Who is at the other end of a connection.
struct Peer {
  enum class Kind : std::uint8_t { kLoopback, kUnix, kRemote };
  Kind kind = Kind::kRemote;
  std::string address;  // "127.0.0.1:50312", "[::1]:50312", "unix"
};

using Parameters = std::vector<std::pair<std::string, std::string>>;

struct Request {
  Method method = Method::kGet;
  std::string method_text;  // as sent, also where method is kOther
  std::string target;       // as sent
  std::string
      path;  // percent-decoded, without the query; for people and for logs: routes match the raw segments
  Parameters query;            // percent-decoded, in their order
  Parameters path_parameters;  // what `{name}` of the route's pattern matched, percent-decoded
  Headers headers;
  std::string body;
  Peer peer;
  int version = 11;  // 10 or 11

  std::optional<std::string_view> query_value(std::string_view name) const;
  // Empty where the pattern has no such name.
  std::string_view path_value(std::string_view name) const;
};

struct Response {
  int status = 200;
  Headers headers;
  std::string body;
};

// What an error looks like to the client; whoever knows the API's shapes makes it.
struct Body {
  std::string content_type;
  std::string text;
};

// A request that is turned away before its handler: a status, the reason, and headers that explain it (Allow,
// ...).
struct Refusal {
  int status = 400;
  Error error;
  Headers headers;
};

// "Not Found"; "Unknown" for a status nobody has named.
std::string_view reason_phrase(int status);

}  // namespace lm::http
