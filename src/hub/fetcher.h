// GET over the web as hubs need it: redirections, proxies, keys that stay with their host, and patience with
// servers that are busy or go away.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "hub/address.h"
#include "hub/surroundings.h"

namespace lm::hub {

struct Fetched {
  http::ClientResponse response;  // status 200 or 206; its body is still to come
  Address from;                   // where the redirections ended
};

// One thread. Must outlive its tasks.
//
// Errors: the client's; kNotFound "not_found" (404, 410), kPermissionDenied "unauthorized" (401) and
// "forbidden" (403), kResourceExhausted "rate_limited" (429), kUnavailable "server_error" (5xx),
// kUnavailable "bad_upstream" (everything else), with retry_after where the server named it.
class Fetcher {
 public:
  Fetcher(boost::asio::any_io_executor executor, const Surroundings& surroundings);
  ~Fetcher();
  Fetcher(const Fetcher&) = delete;
  Fetcher& operator=(const Fetcher&) = delete;

  // One try. Follows at most ten redirections; the hub's key goes to the hub's own origin and nowhere else.
  Task<Result<Fetched>> get(Address address, http::Headers headers);
  // A small body, whole; tried again where that may help, as often as the tuning says.
  Task<Result<std::string>> read(Address address, http::Headers headers, std::size_t limit);

  // Whether another try may end better.
  static bool may_pass(const Error& error);
  // Waits before the try after `failures` ones in a row: twice as long each time, or what the server asked
  // for.
  Task<> back_off(int failures, std::optional<Duration> retry_after);

 private:
  Result<std::shared_ptr<http::Client>> client_for(const http::Endpoint& endpoint);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::hub
