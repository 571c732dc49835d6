// Bytes as they come from the link, cut into lines.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace lm::wire {

// Owned by whoever reads the link; one thread. Holds at most `longest` bytes of an unfinished line.
class LineBuffer {
 public:
  static constexpr std::size_t kLongest = std::size_t{4}
                                          << 20;  // a chat template and its escapes fit many times
  explicit LineBuffer(std::size_t longest = kLongest) : longest_(longest) {}

  void append(std::string_view bytes);
  // The next whole line without its end, in order.
  std::optional<std::string> next();
  // The line under way is longer than is legal: the other side is broken, nothing more will come out.
  bool overflowed() const { return overflowed_; }

 private:
  std::size_t longest_;
  std::string bytes_;
  std::size_t begin_ = 0;    // of the next line
  std::size_t scanned_ = 0;  // no line end before here
  bool overflowed_ = false;
};

}  // namespace lm::wire
