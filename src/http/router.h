// Which function answers which method and path.
#pragma once

#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/task.h"
#include "http/admission.h"
#include "http/message.h"

namespace lm::http {

class Exchange;

// Runs on the daemon's one thread; lives at least as long as its answer. It is cancelled when its client
// leaves: its next co_await returns kCancelled or throws operation_aborted, which the session takes quietly.
using RouteFunction = std::function<Task<void>(Exchange&)>;

struct Route {
  RouteFunction run;
  Principal needs = Principal::kUser;  // kNone is open to everybody who may connect
};

// Filled once before the server starts, then only read. Patterns are paths whose segments may be `{name}`
// (one segment) and, at the end, `{name...}` (all that is left, slashes and all; not empty). Where several
// patterns match, a literal segment beats
// `{name}`, which beats `{name...}`, from left to right. HEAD is answered by GET's route where it has none of
// its own.
class Router {
 public:
  // The same method and pattern twice is a broken invariant.
  void add(Method method, std::string_view pattern, Route route);
  void add(Method method, std::string_view pattern, RouteFunction run) {
    add(method, pattern, Route{std::move(run)});
  }

  // Fills the request's path parameters. 404 "no_such_route", or 405 "method_not_allowed" with Allow.
  std::expected<const Route*, Refusal> find(Request& request) const;

 private:
  enum class Kind : char { kLiteral, kOne, kRest };
  struct Segment {
    Kind kind;
    std::string text;  // the literal, or the parameter's name
  };
  struct Entry {
    Method method;
    std::vector<Segment> segments;
    Route route;
  };

  static bool matches(const Entry& entry, const std::vector<std::string_view>& path, Parameters& parameters);

  std::vector<Entry> entries_;  // most literal first
};

}  // namespace lm::http
