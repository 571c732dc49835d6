// What a worker's line is decoded to survives being written and read again. The other side may be a process
// that a hostile model file has taken over.
#include <cstdint>
#include <string_view>

#include "base/assert.h"
#include "wire/codec.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto message = lm::wire::decode_from_worker(input);
  if (!message || !*message) return 0;
  std::string line = lm::wire::encode(**message);
  LM_ASSERT(line.ends_with('\n') && line.find('\n') == line.size() - 1, "a message is one line");
  line.pop_back();
  const auto again = lm::wire::decode_from_worker(line);
  LM_ASSERT(again && *again, "what was written can be read");
  LM_ASSERT(lm::wire::encode(**again) == line + "\n", "and says the same");
  return 0;
}
