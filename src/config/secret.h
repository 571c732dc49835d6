// A key or token: it compares and copies like text, but prints only whether there is one. reveal() is the one
// way to the text.
#pragma once

#include <ostream>
#include <string>
#include <string_view>
#include <utility>

namespace lm::config {

class Secret {
 public:
  Secret() = default;
  explicit Secret(std::string text) : text_(std::move(text)) {}

  bool empty() const { return text_.empty(); }
  const std::string& reveal() const { return text_; }
  bool operator==(const Secret&) const = default;

 private:
  std::string text_;
};

// "(set)" or "(not set)": nothing of the text, not even its length.
inline std::string_view to_string(const Secret& secret) {
  return secret.empty() ? "(not set)" : "(set)";
}
inline std::ostream& operator<<(std::ostream& out, const Secret& secret) {
  return out << to_string(secret);
}
inline std::string_view format_as(const Secret& secret) {
  return to_string(secret);
}

}  // namespace lm::config
