// A stream of server-sent events passed on in whole events, so that whatever ends it can still be said as an
// event of its own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "http/client.h"
#include "http/exchange.h"
#include "http/relay.h"

namespace lm::api {

// Passes on the upstream's events until its end; begins the exchange if nobody has, and does not end it.
// Gives what came together with the end, or was not followed by an empty line: exchange.end() takes it, so
// that the last bytes and the end travel as one. Bytes behind the last whole event wait for the rest; what is
// left of an event that was cut is dropped. Errors: the upstream's, or "client_gone", "client_stalled".
// `observe` sees each piece as it came.
Task<Result<std::string>> relay_events(http::ClientResponse response, http::Exchange& exchange,
                                       http::PieceObserver observe = nullptr);

// Looks for the event that ends an answer, in the words of OpenAI's or Anthropic's API: a stream that ends
// without one was cut.
class LastEvent {
 public:
  // The pieces of the stream in their order, cut anywhere. Read as text: a model that writes such words in an
  // answer writes their quotes and line ends escaped.
  void look(std::string_view piece);
  bool seen() const { return seen_; }

 private:
  std::string late_ = "\n";  // the end of what came: a word may begin in it
  bool seen_ = false;
};

// The header fields of every event stream of ours.
http::Headers event_stream_headers();

}  // namespace lm::api
