// An upstream's answer read at once and byte by byte is the same answer, or refused both times.
#include <cstdint>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "http/parser.h"

namespace {

struct Outcome {
  bool refused = false, done = false;
  int status = 0;
  std::string body;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view input, std::size_t piece) {
  lm::http::ResponseParser parser({.header = 1024, .body = 4096}, false);
  Outcome outcome;
  std::string pending;
  while (!parser.done()) {
    const auto taken = parser.feed(pending, outcome.body);
    if (!taken) return {.refused = true, .done = false, .status = 0, .body = {}};
    LM_ASSERT(*taken <= pending.size(), "no more is taken than was given");
    pending.erase(0, *taken);
    if (parser.done()) break;
    if (*taken > 0) continue;
    if (input.empty()) {
      if (!parser.feed_end()) return {.refused = true, .done = false, .status = 0, .body = {}};
      break;
    }
    const std::size_t more = std::min(piece, input.size());
    pending += input.substr(0, more);
    input.remove_prefix(more);
  }
  outcome.done = parser.done();
  if (parser.header_done()) outcome.status = parser.status();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  LM_ASSERT(read(input, size) == read(input, 1), "an answer is the same however it comes");
  return 0;
}
