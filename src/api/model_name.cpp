#include "api/model_name.h"

#include <algorithm>
#include <optional>
#include <vector>

#include <fmt/format.h>

namespace lm::api {
namespace {

// Boost's parser tells values, not where they stand, so this finds its way by itself. It may: whoever got
// here has been parsed before, and only brackets, quotes and commas matter. What it cannot follow it refuses.
class Walk {
 public:
  explicit Walk(std::string_view text) : text_(text) {}

  struct Span {
    std::size_t begin = 0, end = 0;
  };
  struct Found {
    std::size_t after_brace = 0;
    bool empty = true;
    std::vector<Span> models;
  };

  std::optional<Found> object() {
    Found found;
    skip_space();
    if (!take('{')) return std::nullopt;
    found.after_brace = at_;
    skip_space();
    if (take('}')) return found;
    found.empty = false;
    for (;;) {
      skip_space();
      const auto key = string();
      if (!key) return std::nullopt;
      skip_space();
      if (!take(':')) return std::nullopt;
      skip_space();
      const std::size_t begin = at_;
      if (!value()) return std::nullopt;
      if (is_model(text_.substr(key->begin + 1, key->end - key->begin - 2)))
        found.models.push_back({begin, at_});
      skip_space();
      if (take(',')) continue;
      if (!take('}')) return std::nullopt;
      return found;
    }
  }

 private:
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void skip_space() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }

  // With its quotes.
  std::optional<Span> string() {
    const std::size_t begin = at_;
    if (!take('"')) return std::nullopt;
    for (;;) {
      // A picture in base64 has megabytes without an escape: from quote to quote is the fast way.
      at_ = text_.find('"', at_);
      if (at_ == std::string_view::npos) return std::nullopt;
      std::size_t escapes = 0;
      while (text_[at_ - 1 - escapes] == '\\') ++escapes;
      ++at_;
      if (escapes % 2 == 0) return Span{begin, at_};
    }
  }

  bool value() {
    std::size_t depth = 0;
    do {
      if (at_ >= text_.size()) return false;
      const char c = text_[at_];
      if (c == '"') {
        if (!string()) return false;
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at_;
      } else if (c == '}' || c == ']') {
        if (depth == 0) return false;
        --depth;
        ++at_;
      } else if (depth == 0) {
        // A number, true, false or null.
        const std::size_t end = std::min(text_.find_first_of(",}] \t\r\n", at_), text_.size());
        const bool some = end > at_;
        at_ = end;
        return some;
      } else {
        at_ = std::min(text_.find_first_of("\"{}[]", at_), text_.size());
      }
    } while (depth > 0);
    return true;
  }

  // "m\u006fdel" is the same key.
  static bool is_model(std::string_view key) {
    constexpr std::string_view kModel = "model";
    std::size_t known = 0;
    while (!key.empty()) {
      char c = key.front();
      std::size_t length = 1;
      if (c == '\\') {
        // Of the escapes only \u stands for a letter.
        if (key.size() < 6 || key[1] != 'u' || key.substr(2, 2) != "00") return false;
        const auto digit = [](char d) {
          if (d >= '0' && d <= '9') return d - '0';
          if (d >= 'a' && d <= 'f') return d - 'a' + 10;
          return d >= 'A' && d <= 'F' ? d - 'A' + 10 : 0;
        };
        c = static_cast<char>(digit(key[4]) * 16 + digit(key[5]));
        length = 6;
      }
      if (known == kModel.size() || c != kModel[known]) return false;
      ++known;
      key.remove_prefix(length);
    }
    return known == kModel.size();
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<int>(c));
    } else {
      out += c;
    }
  }
  return out += '"';
}

}  // namespace

Result<std::string> with_model(std::string_view body, std::string_view name) {
  const auto found = Walk(body).object();
  if (!found) return fail(ErrorCode::kInvalidArgument, "the body is not a JSON object", "invalid_json");
  const std::string value = quoted(name);
  std::string out;
  out.reserve(body.size() + (found->models.size() + 1) * (value.size() + 10));
  if (found->models.empty()) {
    out.append(body.substr(0, found->after_brace)).append("\"model\":").append(value);
    if (!found->empty) out += ',';
    return out.append(body.substr(found->after_brace));
  }
  std::size_t copied = 0;
  for (const auto& [begin, end] : found->models) {
    out.append(body.substr(copied, begin - copied)).append(value);
    copied = end;
  }
  return out.append(body.substr(copied));
}

}  // namespace lm::api
