// The HTTP/1.1 server: listeners, sessions, their limits, and how they stop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/any_io_executor.hpp>

#include "base/bytes.h"
#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "http/admission.h"
#include "http/exchange.h"
#include "http/router.h"

namespace lm::http {

struct Limits {
  Bytes header = kib(32);
  Bytes body = mib(64);
  Duration header_time = std::chrono::seconds(10);  // from a request's first byte to its header's end: 408
  Duration idle = std::chrono::seconds(75);  // between requests, and before the first: closed without a word
  Duration body_silence = std::chrono::seconds(30);   // between two pieces of a body: 408
  Duration write_silence = std::chrono::seconds(30);  // a client that stops reading is cut off
  std::size_t connections = 4096;                     // above it: 503, "too_many_connections"
};

// What an error looks like; called for everything that the server itself refuses and for Exchange::fail.
using ErrorBody = std::function<Body(const Error&, const Request&)>;

struct ServerOptions {
  Limits limits;
  AdmissionOptions admission;
  ErrorBody error_body;  // none: plain text
};

// Whether listen_tcp would take that host: kInvalidArgument "bad_address", kFailedPrecondition "keys_needed".
Result<void> check_listen(const std::string& host, bool has_keys);

// One thread: everything runs on the executor's. Destroying it cuts all connections; stop() is the polite
// way.
class Server {
 public:
  Server(boost::asio::any_io_executor executor, Router router, ServerOptions options);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // An address literal, "localhost" or "*"; port 0 picks one. The answer says which: "127.0.0.1:11435",
  // "[::1]:11435". kFailedPrecondition "keys_needed" where the address is wider than loopback and there are
  // no keys; kAlreadyExists "address_in_use".
  Result<std::string> listen_tcp(const std::string& host, std::uint16_t port);
  // For this user only (mode 0600); everybody who may connect is an admin. A dead server's file is replaced,
  // a living one's is kAlreadyExists. The file is removed at the end.
  Result<void> listen_unix(const std::filesystem::path& path);

  // Connections that are open now.
  std::size_t sessions() const;

  // Closes the listeners and idle connections, lets running exchanges end until `drain` has passed, then
  // cancels them; returns when the last session has gone.
  Task<void> stop(Duration drain);

 private:
  std::shared_ptr<class ServerCore> core_;
};

}  // namespace lm::http
