// A request read at once and byte by byte is the same request, or the same refusal.
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "base/assert.h"
#include "http/parser.h"

namespace {

struct Outcome {
  int refused = 0;
  bool done = false;
  std::string target, body;
  bool operator==(const Outcome&) const = default;
};

Outcome read(std::string_view input, std::size_t piece) {
  lm::http::RequestParser parser({.header = 1024, .body = 1024});
  std::string pending;
  while (!parser.done()) {
    const auto taken = parser.feed(pending);
    if (!taken) return {.refused = taken.error().status, .done = false, .target = {}, .body = {}};
    LM_ASSERT(*taken <= pending.size(), "no more is taken than was given");
    pending.erase(0, *taken);
    if (parser.done() || (*taken == 0 && input.empty())) break;
    if (*taken > 0) continue;
    const std::size_t more = std::min(piece, input.size());
    pending += input.substr(0, more);
    input.remove_prefix(more);
  }
  Outcome outcome{.refused = 0, .done = parser.done(), .target = {}, .body = {}};
  if (parser.header_done()) outcome.target = parser.request().target;
  if (parser.done()) outcome.body = parser.request().body;
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const Outcome whole = read(input, size);
  const Outcome pieces = read(input, 1);
  LM_ASSERT(whole.done == pieces.done, "a request that is whole is whole however it comes");
  LM_ASSERT(!whole.done || whole == pieces, "and is the same request");
  LM_ASSERT((whole.refused == 0) == (pieces.refused == 0), "what is refused is refused however it comes");
  return 0;
}
