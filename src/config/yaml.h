// A YAML text as a tree that remembers where everything stood. Stricter than YAML: one document, no duplicate
// keys, UTF-8 without control characters, and limits, so that a hostile or broken file ends in a sentence and
// not in a hang.
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/problem.h"

namespace lm::config {

struct Node {
  enum class Kind { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  Position at;
  std::string text;            // of a scalar
  bool plain = true;           // a scalar without quotes: may be a number or a boolean
  std::vector<Node> children;  // of a list; of a map: key, value, key, value, …

  // A map's value of that key; nullptr where there is none.
  const Node* find(std::string_view key) const;
};

// "a list", "a map", …, for error messages.
std::string_view describe(Node::Kind kind);

struct YamlLimits {
  std::size_t bytes = std::size_t{1} << 20;
  int depth = 32;
  int nodes = 50'000;  // aliases count with all that they stand for
};

// Pure. Aliases and merge keys (<<) are resolved. The first thing that is wrong ends it: its file is `file`.
std::expected<Node, Problem> parse_yaml(std::string_view text, const std::string& file,
                                        const YamlLimits& limits = {});

}  // namespace lm::config
