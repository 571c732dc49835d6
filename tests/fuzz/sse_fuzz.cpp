// A stream of events read at once and byte by byte has the same events.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "http/sse.h"

namespace {

std::vector<std::string> read(std::string_view input, std::size_t piece) {
  std::vector<std::string> events;
  lm::http::SseParser parser(
      [&](const lm::http::SseEvent& event) {
        events.push_back(event.event + "\n" + event.id + "\n" + event.data);
      },
      1024);
  while (!input.empty()) {
    const std::size_t more = std::min(piece, input.size());
    if (!parser.feed(input.substr(0, more))) {
      events.emplace_back("refused");
      return events;
    }
    input.remove_prefix(more);
  }
  if (parser.finish()) events.emplace_back("unfinished");
  return events;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (size > 0) LM_ASSERT(read(input, size) == read(input, 1), "a stream is the same however it comes");
  return 0;
}
