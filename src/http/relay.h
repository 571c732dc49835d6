// An upstream's answer passed on to our client, byte for byte and as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "http/client.h"
#include "http/exchange.h"

namespace lm::http {

struct RelayReport {
  std::uint64_t bytes = 0;  // of the body
  Duration first_piece{};   // from the call to the first piece of the body; zero where there was none
};

// Sees each piece before it is passed on. It may not keep the view.
using PieceObserver = std::function<void(std::string_view)>;

// The header fields that belong to the message and not to the connection.
Headers end_to_end_headers(const Headers& headers);

// Status, end-to-end header fields and body. An exchange that was begun before (pings while a model loads)
// gets the body only: whoever began it has looked at the status. Ends the exchange only where all went well:
// * the upstream failed: its error, with the field "relayed" (bytes already passed on); the exchange is still
// open, so that its
//   owner can say so (an SSE error event), or return and thereby cut it;
// * our client left or stalled: "client_gone" or "client_stalled"; the upstream's connection is closed.
Task<Result<RelayReport>> relay(ClientResponse response, Exchange& exchange, PieceObserver observe = nullptr);

}  // namespace lm::http
