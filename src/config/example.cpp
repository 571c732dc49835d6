#include "config/example.h"

#include <fmt/format.h>

#include "config/schema.h"

namespace lm::config {
namespace {

constexpr std::size_t kWidth = 100;

void write_comment(std::string& out, std::string_view indent, std::string_view text) {
  std::string line(indent);
  line += '#';
  bool empty = true;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (!empty && line.size() + 1 + word.size() > kWidth) {
      out += line + '\n';
      line = std::string(indent) + '#';
    }
    line += ' ';
    line += word;
    empty = false;
    text = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
  }
  if (!empty) out += line + '\n';
}

class ExampleWriter {
 public:
  std::string write() {
    out_ =
        "# LLM Manager's configuration with every key there is. As it stands it says the defaults.\n"
        "# A line whose # has no space after it is a setting that is off, with an example value: take the\n"
        "# # away to use it. Times: 30s, 10min, 1h; amounts of memory: 512MB, 2GB.\n";
    for (const Key& key : schema()) write_key(key);
    return std::move(out_);
  }

 private:
  void write_key(const Key& key) {
    open_sections(key.path);
    const std::string indent(depth_of(key.path) * 2, ' ');
    const std::string name(last_word(key.path));
    if (parent(key.path).empty()) out_ += '\n';
    write_comment(out_, indent, key.help);
    const bool below_name = key.path.find('*') != std::string::npos;
    const std::string value = default_of(key);
    if (value.empty() || below_name) {
      // Where the owner names the entry there is none by default, so its defaults are examples as well.
      out_ += fmt::format("{}#{}: {}\n", indent, name, value.empty() ? key.example : value);
    } else {
      out_ += fmt::format("{}{}: {}\n", indent, name, value);
    }
  }

  static std::string default_of(const Key& key) {
    Config defaults;
    std::string name;
    if (const std::size_t star = key.path.find('*'); star != std::string::npos) {
      const Section* section = find_section(std::string_view(key.path).substr(0, star + 1));
      name = section->example_name;
      section->create(defaults, name);
    }
    return key.print(defaults, name);
  }

  static std::size_t depth_of(std::string_view path) {
    std::size_t dots = 0;
    for (const char c : path) dots += c == '.' ? 1 : 0;
    return dots;
  }

  // Heads of the sections on the way to `path` that are not open yet.
  void open_sections(std::string_view path) {
    const std::string section(parent(path));
    if (section == open_ || section.empty()) {
      open_ = section;
      return;
    }
    std::size_t end = 0;
    while (end != std::string::npos) {
      end = section.find('.', end == 0 ? 0 : end + 1);
      const std::string head = section.substr(0, end);
      if (open_ == head || open_.starts_with(head + '.')) continue;
      const Section* known = find_section(head);
      const std::string indent(depth_of(head) * 2, ' ');
      if (indent.empty()) out_ += '\n';
      if (known != nullptr) write_comment(out_, indent, known->help);
      const bool named = last_word(head) == "*";
      out_ += fmt::format("{}{}{}:\n", indent, named ? "#" : "",
                          named && known != nullptr ? known->example_name : last_word(head));
    }
    open_ = section;
  }

  std::string out_;
  std::string open_;
};

}  // namespace

std::string config_example() {
  return ExampleWriter().write();
}

}  // namespace lm::config
