#include "http/router.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "http/target.h"

namespace lm::http {
namespace {

// "/a//b" is {"a", "", "b"}, "/" is {""}.
std::vector<std::string_view> split_path(std::string_view path) {
  std::vector<std::string_view> parts;
  if (path.starts_with('/')) path.remove_prefix(1);
  for (;;) {
    const std::size_t slash = path.find('/');
    parts.push_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

}  // namespace

void Router::add(Method method, std::string_view pattern, Route route) {
  LM_ASSERT(pattern.starts_with('/') && route.run != nullptr, "a route has a path and a function");
  Entry entry{.method = method, .segments = {}, .route = std::move(route)};
  for (const std::string_view part : split_path(pattern)) {
    LM_ASSERT(entry.segments.empty() || entry.segments.back().kind != Kind::kRest, "{rest...} comes last");
    if (part.starts_with('{') && part.ends_with("...}")) {
      entry.segments.push_back({Kind::kRest, std::string(part.substr(1, part.size() - 5))});
    } else if (part.starts_with('{') && part.ends_with('}')) {
      entry.segments.push_back({Kind::kOne, std::string(part.substr(1, part.size() - 2))});
    } else {
      entry.segments.push_back({Kind::kLiteral, std::string(part)});
    }
  }
  const auto rank = [](const Segment& a, const Segment& b) {
    return std::pair(a.kind, std::string_view(a.kind == Kind::kLiteral ? a.text : std::string_view())) <
           std::pair(b.kind, std::string_view(b.kind == Kind::kLiteral ? b.text : std::string_view()));
  };
  const auto before = [&](const Entry& a, const Entry& b) {
    return std::lexicographical_compare(a.segments.begin(), a.segments.end(), b.segments.begin(),
                                        b.segments.end(), rank);
  };
  const auto place = std::upper_bound(entries_.begin(), entries_.end(), entry, before);
  for (auto same = place; same != entries_.begin() && !before(*(same - 1), entry); --same) {
    LM_ASSERT((same - 1)->method != method, "one function for each method and pattern");
  }
  entries_.insert(place, std::move(entry));
}

bool Router::matches(const Entry& entry, const std::vector<std::string_view>& path, Parameters& parameters) {
  const auto& segments = entry.segments;
  const bool open = segments.back().kind == Kind::kRest;
  if (open ? path.size() < segments.size() : path.size() != segments.size()) return false;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    const std::string_view part =
        segment.kind == Kind::kRest
            ? std::string_view(path[i].data(), path.back().data() + path.back().size())
            : path[i];
    // The path as a whole has been decoded before, so a part cannot fail; an encoded slash stays inside its
    // part.
    std::string text = percent_decode(part).value_or(std::string(part));
    if (segment.kind == Kind::kLiteral) {
      if (text != segment.text) return false;
      continue;
    }
    if (text.empty()) return false;
    parameters.emplace_back(segment.text, std::move(text));
  }
  return true;
}

std::expected<const Route*, Refusal> Router::find(Request& request) const {
  const auto path = split_path(raw_path(request.target));
  const Entry* for_get = nullptr;
  Parameters for_get_parameters;
  std::string allowed;
  for (const Entry& entry : entries_) {
    Parameters parameters;
    if (!matches(entry, path, parameters)) continue;
    if (entry.method == request.method) {
      request.path_parameters = std::move(parameters);
      return &entry.route;
    }
    if (entry.method == Method::kGet && request.method == Method::kHead && for_get == nullptr) {
      for_get = &entry;
      for_get_parameters = std::move(parameters);
    }
    if (allowed.find(to_string(entry.method)) == std::string::npos) {
      if (!allowed.empty()) allowed += ", ";
      allowed += to_string(entry.method);
      if (entry.method == Method::kGet) allowed += ", HEAD";
    }
  }
  if (for_get != nullptr) {
    request.path_parameters = std::move(for_get_parameters);
    return &for_get->route;
  }
  Refusal refusal{.status = 404, .error = {}, .headers = {}};
  if (allowed.empty()) {
    refusal.error =
        fail(ErrorCode::kNotFound, "there is nothing at " + request.path, "no_such_route").error();
  } else {
    refusal.status = 405;
    refusal.error = fail(ErrorCode::kUnimplemented,
                         request.path + " does not take " + request.method_text + "; it takes " + allowed,
                         "method_not_allowed")
                        .error();
    refusal.headers.add("Allow", allowed);
  }
  return std::unexpected(std::move(refusal));
}

}  // namespace lm::http
