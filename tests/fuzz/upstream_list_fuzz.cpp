// Lists of models, as servers that are not ours answer: whatever comes, names stay names and numbers stay
// amounts.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "wire/ollama.h"
#include "wire/openai.h"

namespace {

template <class List>
void check(const List& list) {
  if (!list) return;
  LM_ASSERT(list->size() <= 10'000, "no list is longer");
  for (const auto& model : *list) {
    LM_ASSERT(!model.name.empty() && model.name.size() <= 512, "a name is short, and is one");
    LM_ASSERT(std::ranges::none_of(model.name, [](unsigned char c) { return c < 0x20; }),
              "and steers no terminal");
    LM_ASSERT(model.size >= lm::Bytes(), "nothing is smaller than nothing");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  check(lm::wire::decode_ollama_tags(input));
  check(lm::wire::decode_ollama_ps(input));
  check(lm::wire::decode_models(input));
  check(lm::wire::decode_lm_studio_models(input));
  LM_ASSERT(lm::wire::decode_complaint(input).size() <= 300, "a complaint is one short line");
  lm::wire::decode_text(input, "role");
  lm::wire::decode_flag(input, "is_sleeping");
  lm::wire::has_states(input);
  return 0;
}
