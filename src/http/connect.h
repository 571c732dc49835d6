// From an endpoint's name to a connected socket. Inside of the room.
#pragma once

#include <memory>

#include "http/client.h"
#include "http/socket.h"

namespace lm::http {

// Tries the endpoint's addresses one after the other. kUnavailable "connect_failed", kDeadlineExceeded,
// kCancelled.
Task<Result<std::shared_ptr<Socket>>> connect(boost::asio::any_io_executor executor, Endpoint endpoint,
                                              Deadline deadline);

}  // namespace lm::http
