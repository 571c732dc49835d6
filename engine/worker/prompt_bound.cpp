#include "prompt_bound.h"

#include <algorithm>

namespace lm::worker {

TextSize text_size(std::string_view json) {
  TextSize size;
  std::size_t at = 0;
  while ((at = json.find('"', at)) != std::string_view::npos) {
    std::size_t length = 0;
    for (++at; at < json.size() && json[at] != '"'; ++length) {
      if (json[at] != '\\') {
        ++at;
      } else {
        at += at + 1 < json.size() && json[at + 1] == 'u' ? 6 : 2;
      }
    }
    ++at;  // the closing quote
    size.longest = std::max(size.longest, length);
    size.all += length;
    if (at >= json.size()) break;
  }
  return size;
}

}  // namespace lm::worker
