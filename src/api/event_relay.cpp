#include "api/event_relay.h"

#include <algorithm>

namespace lm::api {
namespace {

// The length of the longest part that ends with a whole event; both line ends are legal.
std::size_t whole_events(std::string_view bytes) {
  const std::size_t lf = bytes.rfind("\n\n");
  const std::size_t crlf = bytes.rfind("\r\n\r\n");
  const std::size_t a = lf == std::string_view::npos ? 0 : lf + 2;
  const std::size_t b = crlf == std::string_view::npos ? 0 : crlf + 4;
  return std::max(a, b);
}

constexpr std::string_view kEnds[] = {"\ndata: [DONE]",
                                      "\ndata:[DONE]",
                                      "\"finish_reason\":\"",
                                      "\"finish_reason\": \"",
                                      "\"message_stop\"",
                                      "\"response.completed\"",
                                      "\"response.incomplete\"",
                                      "\"response.failed\"",
                                      "\"error\":{",
                                      "\"error\": {"};
constexpr std::size_t kLongestEnd = 24;

}  // namespace

void LastEvent::look(std::string_view piece) {
  if (seen_) return;
  late_ += piece;
  seen_ =
      std::ranges::any_of(kEnds, [&](std::string_view end) { return late_.find(end) != std::string::npos; });
  if (late_.size() > kLongestEnd) late_.erase(0, late_.size() - kLongestEnd);
}

http::Headers event_stream_headers() {
  return {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
}

Task<Result<std::string>> relay_events(http::ClientResponse response, http::Exchange& exchange,
                                       http::PieceObserver observe) {
  if (!exchange.begun()) {
    http::Headers headers = http::end_to_end_headers(response.headers());
    for (const http::Header& ours : event_stream_headers()) {
      if (ours.name != "Content-Type") headers.set(ours.name, ours.value);
    }
    headers.erase("Content-Length");
    LM_CO_TRY_VOID(exchange.begin(response.status(), std::move(headers)));
  }
  std::string partial;
  for (;;) {
    LM_CO_TRY(const auto piece, co_await response.read());
    if (!piece) co_return partial;
    if (observe) observe(*piece);
    if (response.complete()) {
      partial.append(*piece);
      continue;
    }
    if (partial.empty()) {
      const std::size_t whole = whole_events(*piece);
      partial.assign(piece->substr(whole));
      if (whole > 0) LM_CO_TRY_VOID(co_await exchange.write(piece->substr(0, whole)));
      continue;
    }
    partial.append(*piece);
    const std::size_t whole = whole_events(partial);
    if (whole == 0) continue;
    LM_CO_TRY_VOID(co_await exchange.write(std::string_view(partial).substr(0, whole)));
    partial.erase(0, whole);
  }
}

}  // namespace lm::api
