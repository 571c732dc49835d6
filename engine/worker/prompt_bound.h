// Which requests cannot fit a context whatever they say: told from their bytes, before anything of them is
// parsed or turned into tokens. A body of 8 MB for a context of 2,048 tokens would otherwise be rendered and
// tokenised, for seconds and in hundreds of MB, to be refused at the end.
#pragma once

#include <cstddef>
#include <string_view>

namespace lm::worker {

// The text in a JSON document: bytes of its strings at least, where each escape stands for one. Not
// validated: the engine's own parser does that with what is let through.
struct TextSize {
  std::size_t longest = 0;  // the longest string
  std::size_t all = 0;      // all strings together, names of members included
};
TextSize text_size(std::string_view json);

struct PromptBound {
  std::size_t slot_context = 0;   // tokens of one conversation
  std::size_t longest_token = 0;  // bytes of the vocabulary's longest piece

  // True where even the longest tokens would not bring this many bytes into the context. Without a vocabulary
  // nothing is too long.
  bool is_exceeded_by(std::size_t bytes) const {
    return longest_token != 0 && bytes / longest_token > slot_context;
  }
};

}  // namespace lm::worker
