#include "config/dotenv.h"

#include <cctype>

#include <fmt/format.h>

namespace lm::config {
namespace {

bool is_name_letter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-';
}

bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

// Walks the text once; every error skips to the end of its line.
class DotenvReader {
 public:
  DotenvReader(std::string_view text, const std::string& file, std::vector<Warning>& warnings)
      : text_(text), file_(file), warnings_(warnings) {}

  std::vector<DotenvLine> read() {
    std::vector<DotenvLine> lines;
    while (at_ < text_.size()) {
      if (auto line = read_line()) lines.push_back(*std::move(line));
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
      if (at_ < text_.size()) next();
    }
    return lines;
  }

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : '\n'; }
  void next() {
    if (text_[at_] == '\n') ++line_;
    ++at_;
  }
  void skip_blanks() {
    while (is_blank(peek())) ++at_;
  }
  std::string word() {
    const std::size_t begin = at_;
    while (at_ < text_.size() && is_name_letter(text_[at_])) ++at_;
    return std::string(text_.substr(begin, at_ - begin));
  }
  void warn(std::string message) {
    warnings_.push_back(
        {.file = file_, .at = {.line = line_, .column = 1}, .key = {}, .message = std::move(message)});
  }

  std::optional<DotenvLine> read_line() {
    skip_blanks();
    if (peek() == '\n' || peek() == '\r' || peek() == '#') return std::nullopt;
    DotenvLine line{.name = word(), .value = {}, .line = line_};
    if (line.name == "export" && is_blank(peek())) {
      skip_blanks();
      line.name = word();
    }
    skip_blanks();
    if (line.name.empty() || peek() != '=') {
      warn("not a line of the form NAME=VALUE; skipped");
      return std::nullopt;
    }
    ++at_;
    skip_blanks();
    const char quote = peek();
    if (quote == '\'' || quote == '"') {
      if (!read_quoted(quote, line.value)) {
        line_ = line.line;
        warn(fmt::format("the quote of {} never ends; skipped", line.name));
        return std::nullopt;
      }
      return line;
    }
    const std::size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != '\n' &&
           !(text_[at_] == '#' && at_ > begin && is_blank(text_[at_ - 1])))
      ++at_;
    std::string_view value = text_.substr(begin, at_ - begin);
    if (value.starts_with('#')) value = {};  // NAME= # comment
    while (!value.empty() && (is_blank(value.back()) || value.back() == '\r')) value.remove_suffix(1);
    line.value = std::string(value);
    return line;
  }

  bool read_quoted(char quote, std::string& value) {
    const std::size_t begin = at_;
    ++at_;
    while (at_ < text_.size() && text_[at_] != quote) {
      if (quote == '"' && text_[at_] == '\\' && at_ + 1 < text_.size()) {
        next();
        switch (text_[at_]) {
          case 'n':
            value += '\n';
            break;
          case 't':
            value += '\t';
            break;
          case 'r':
            value += '\r';
            break;
          case '"':
          case '\\':
          case '$':
            value += text_[at_];
            break;
          default:
            value += '\\';
            value += text_[at_];
        }
      } else {
        value += text_[at_];
      }
      next();
    }
    if (at_ >= text_.size()) {
      // Only this line is lost, not the rest of the file.
      at_ = begin;
      return false;
    }
    ++at_;
    return true;
  }

  std::string_view text_;
  const std::string& file_;
  std::vector<Warning>& warnings_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

std::vector<DotenvLine> parse_dotenv(std::string_view text, const std::string& file,
                                     std::vector<Warning>& warnings) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  return DotenvReader(text, file, warnings).read();
}

void Environment::add(std::string name, Variable variable) {
  variables_.try_emplace(std::move(name), std::move(variable));
}

std::optional<Environment::Variable> Environment::find(std::string_view name) const {
  const auto it = variables_.find(name);
  if (it == variables_.end() || it->second.value.empty()) return std::nullopt;
  return it->second;
}

}  // namespace lm::config
