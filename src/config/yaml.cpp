#include "config/yaml.h"

#include <algorithm>
#include <exception>
#include <optional>
#include <set>
#include <sstream>
#include <unordered_map>

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include "config/utf8.h"

namespace lm::config {
namespace {

// yaml-cpp counts columns in bytes; people count letters.
class Locator {
 public:
  explicit Locator(std::string_view text) : text_(text) {}

  Position operator()(const YAML::Mark& mark) {
    if (mark.is_null() || mark.pos < 0 || mark.line < 0 || mark.column < 0) return {.line = 1, .column = 1};
    const auto pos = std::min(static_cast<std::size_t>(mark.pos), text_.size());
    // Values come in the order of the text, so that a long line is counted through once.
    if (mark.line != line_ || pos < pos_) {
      line_ = mark.line;
      pos_ = pos - std::min(pos, static_cast<std::size_t>(mark.column));
      column_ = 1;
    }
    for (; pos_ < pos; ++pos_) {
      if ((static_cast<unsigned char>(text_[pos_]) & 0xC0U) != 0x80U) ++column_;
    }
    return {.line = mark.line + 1, .column = column_};
  }

 private:
  std::string_view text_;
  int line_ = -1;
  std::size_t pos_ = 0;
  int column_ = 1;
};

// Leaves yaml-cpp's parser from within a callback; caught in parse_yaml, never seen outside.
struct Refused : std::exception {
  Refused(Position position, std::string text) : at(position), message(std::move(text)) {}
  Position at;
  std::string message;
};

// What yaml-cpp would misread: it takes the character 0x04 for the end of the file, guesses encodings, and
// lets tabs indent.
std::optional<Refused> check_characters(std::string_view text) {
  Position at{.line = 1, .column = 1};
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\t' && at.column == 1) {
      return Refused(at, "a tab indents this line; write spaces instead");
    }
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      return Refused(at, fmt::format("control character 0x{:02X}; remove it", c));
    }
    const std::size_t length = utf8_length(text, i);
    if (length == 0) return Refused(at, "not UTF-8; save the file as UTF-8");
    if (c == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
    i += length;
  }
  return std::nullopt;
}

class TreeBuilder final : public YAML::EventHandler {
 public:
  TreeBuilder(std::string_view text, const YamlLimits& limits) : text_(text), limits_(limits), at_(text) {}

  Node take() { return std::move(root_); }
  // Where the document begins: at its "---", where it has one.
  Position begin() const { return begin_; }

  void OnDocumentStart(const YAML::Mark& mark) override { begin_ = at_(mark); }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    add({.kind = Node::Kind::kNull, .at = at_(mark)}, anchor, 1);
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto it = anchored_.find(anchor);
    if (it == anchored_.end()) throw Refused(at_(mark), "an alias within what it stands for");
    // Charged before it is copied: this is where a "billion laughs" would explode.
    Node copy;
    charge(it->second.nodes, at_(mark));
    if (static_cast<int>(open_.size()) + it->second.depth > limits_.depth) throw too_deep(at_(mark));
    copy = it->second.node;
    place(std::move(copy), it->second.nodes, it->second.depth);
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    const bool plain = tag == "?";
    if (!plain) check_quote(mark);
    const bool null =
        plain && (value.empty() || value == "~" || value == "null" || value == "Null" || value == "NULL");
    add({.kind = null ? Node::Kind::kNull : Node::Kind::kScalar,
         .at = at_(mark),
         .text = null ? "" : value,
         .plain = plain},
        anchor, 1);
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(Node::Kind::kList, mark, anchor);
  }
  void OnSequenceEnd() override { close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(Node::Kind::kMap, mark, anchor);
  }
  void OnMapEnd() override {
    check_keys(open_.back().node);
    merge(open_.back().node);
    close();
  }

 private:
  struct Open {
    Node node;
    YAML::anchor_t anchor = 0;
    int nodes = 1;  // itself and all below
    int depth = 1;
  };
  struct Anchored {
    Node node;
    int nodes = 1;
    int depth = 1;
  };

  // yaml-cpp takes a quote that is never closed as closed by the end of a file that ends in a line break:
  // everything below it would silently be part of one text.
  void check_quote(const YAML::Mark& mark) {
    std::string_view rest =
        text_.substr(std::min(static_cast<std::size_t>(std::max(mark.pos, 0)), text_.size()));
    while (rest.starts_with('&') || rest.starts_with('!')) {
      rest.remove_prefix(std::min(rest.find_first_of(" \t\r\n"), rest.size()));
      rest.remove_prefix(std::min(rest.find_first_not_of(" \t\r\n"), rest.size()));
    }
    if (rest.empty() || (rest.front() != '"' && rest.front() != '\'')) return;
    const char quote = rest.front();
    for (std::size_t i = 1; i < rest.size(); ++i) {
      const bool escapes = quote == '"' && rest[i] == '\\';
      const bool doubles = quote == '\'' && rest.substr(i).starts_with("''");  // 'it''s'
      if (escapes || doubles)
        ++i;
      else if (rest[i] == quote)
        return;
    }
    throw Refused(at_(mark), "this quote is never closed");
  }

  Refused too_deep(Position at) const {
    return {at, fmt::format("nested deeper than {} levels", limits_.depth)};
  }

  void charge(int nodes, Position at) {
    if (nodes > limits_.nodes - charged_)
      throw Refused(at, fmt::format("more than {} values", limits_.nodes));
    charged_ += nodes;
  }

  void open(Node::Kind kind, const YAML::Mark& mark, YAML::anchor_t anchor) {
    charge(1, at_(mark));
    if (static_cast<int>(open_.size()) >= limits_.depth) throw too_deep(at_(mark));
    open_.push_back({.node = {.kind = kind, .at = at_(mark)}, .anchor = anchor});
  }

  void close() {
    Open done = std::move(open_.back());
    open_.pop_back();
    remember(done.anchor, done.node, done.nodes, done.depth);
    place(std::move(done.node), done.nodes, done.depth);
  }

  void add(Node node, YAML::anchor_t anchor, int nodes) {
    charge(nodes, node.at);
    remember(anchor, node, nodes, 0);
    place(std::move(node), nodes, 0);
  }

  void remember(YAML::anchor_t anchor, const Node& node, int nodes, int depth) {
    if (anchor == 0) return;
    charge(nodes, node.at);  // the copy kept here takes memory too
    anchored_[anchor] = {.node = node, .nodes = nodes, .depth = depth};
  }

  void place(Node node, int nodes, int depth) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    parent.nodes += nodes;
    parent.depth = std::max(parent.depth, depth + 1);
    parent.node.children.push_back(std::move(node));
  }

  static void check_keys(const Node& map) {
    std::set<std::string_view> seen;
    for (std::size_t i = 0; i + 1 < map.children.size(); i += 2) {
      const Node& key = map.children[i];
      if (key.kind != Node::Kind::kScalar) {
        throw Refused(key.at, fmt::format("{} cannot be a key", describe(key.kind)));
      }
      if (!seen.insert(key.text).second) {
        throw Refused(key.at, fmt::format("the key {} stands here twice; keep one", key.text));
      }
    }
  }

  // "<<: *defaults" adds the keys that the map does not have itself.
  void merge(Node& map) {
    std::vector<Node> sources;
    for (std::size_t i = 0; i + 1 < map.children.size(); i += 2) {
      if (map.children[i].text != "<<" || !map.children[i].plain) continue;
      Node value = std::move(map.children[i + 1]);
      map.children.erase(map.children.begin() + static_cast<std::ptrdiff_t>(i),
                         map.children.begin() + static_cast<std::ptrdiff_t>(i) + 2);
      if (value.kind == Node::Kind::kList) {
        sources = std::move(value.children);
      } else {
        sources.push_back(std::move(value));
      }
      break;
    }
    for (Node& source : sources) {
      if (source.kind != Node::Kind::kMap) {
        throw Refused(source.at, fmt::format("<< wants a map, this is {}", describe(source.kind)));
      }
      for (std::size_t i = 0; i + 1 < source.children.size(); i += 2) {
        if (map.find(source.children[i].text) != nullptr) continue;
        map.children.push_back(std::move(source.children[i]));
        map.children.push_back(std::move(source.children[i + 1]));
      }
    }
  }

  std::string_view text_;
  YamlLimits limits_;
  Locator at_;
  int charged_ = 0;
  std::vector<Open> open_;
  std::unordered_map<YAML::anchor_t, Anchored> anchored_;
  Node root_;
  Position begin_;
};

}  // namespace

const Node* Node::find(std::string_view key) const {
  if (kind != Kind::kMap) return nullptr;
  for (std::size_t i = 0; i + 1 < children.size(); i += 2) {
    if (children[i].text == key) return &children[i + 1];
  }
  return nullptr;
}

std::string_view describe(Node::Kind kind) {
  switch (kind) {
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kScalar:
      return "a single value";
    case Node::Kind::kList:
      return "a list";
    case Node::Kind::kMap:
      break;
  }
  return "a map";
}

std::expected<Node, Problem> parse_yaml(std::string_view text, const std::string& file,
                                        const YamlLimits& limits) {
  const auto refuse = [&file](Position at, std::string message) {
    return std::unexpected(Problem{.file = file, .at = at, .key = {}, .message = std::move(message)});
  };
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  if (text.size() > limits.bytes) {
    return refuse({.line = 1, .column = 1},
                  fmt::format("{} bytes; a configuration has at most {}", text.size(), limits.bytes));
  }
  if (const auto bad = check_characters(text)) return refuse(bad->at, bad->message);

  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    TreeBuilder builder(text, limits);
    if (!parser.HandleNextDocument(builder)) return Node{};
    Node root = builder.take();
    TreeBuilder second(text, limits);
    if (parser.HandleNextDocument(second)) {
      return refuse(second.begin(), "a second document begins here (---); keep one");
    }
    return root;
  } catch (const Refused& refused) {
    return refuse(refused.at, refused.message);
  } catch (const YAML::Exception& error) {
    const Position at = Locator(text)(error.mark);
    return refuse(at, "not valid YAML: " + error.msg);
  } catch (const std::exception& error) {
    return refuse({.line = 1, .column = 1}, std::string("not valid YAML: ") + error.what());
  }
}

}  // namespace lm::config
