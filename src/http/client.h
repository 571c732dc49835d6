// The HTTP/1.1 client: one per upstream, with a pool of kept connections.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "http/message.h"

namespace lm::http {

// Where an upstream is.
struct Endpoint {
  enum class Kind : std::uint8_t { kUnix, kHttp, kHttps };
  Kind kind = Kind::kHttp;
  std::string host;  // a name or an address literal without brackets; a path where kind is kUnix
  std::uint16_t port = 0;
  std::string base_path;  // "" or "/v1": goes before every target; never ends in a slash

  // "http://host[:port][/base]", "https://…", "unix:/path". kInvalidArgument "bad_url" says what is wrong.
  static Result<Endpoint> parse(std::string_view url);
  static Endpoint unix_socket(std::string path);
  // For people: "http://127.0.0.1:11434/v1".
  std::string text() const;
};

// Duration::max() waits without end; name it only where somebody else ends the wait.
struct Timeouts {
  Duration connect = std::chrono::seconds(5);      // name, connection and TLS together
  Duration first_byte = std::chrono::seconds(60);  // from the request's end to the answer's header
  Duration silence = std::chrono::seconds(60);     // each stretch without a byte, sending or receiving
};

// Ends a request from outside, once: whoever waits for its answer gets kUnavailable "connection_lost" or
// "bad_upstream". Shared between the one who sends and the one who may end it; one thread.
class Interruption {
 public:
  void interrupt();

 private:
  friend class Client;
  std::weak_ptr<class Socket> socket_;
  bool interrupted_ = false;
};

struct ClientRequest {
  Method method = Method::kGet;
  std::string target = "/";
  Headers headers;  // Host and Content-Length are ours
  std::string body;
  std::shared_ptr<Interruption> interruption;  // may be null
  // Asking twice does no more than asking once, whatever the method says: a model's answer.
  bool repeatable = false;
};

// A proxy on the way to an endpoint: asked to open a tunnel (CONNECT) for https, and to pass on for http.
struct Proxy {
  Endpoint endpoint;          // of kind kHttp
  std::string authorization;  // the value of Proxy-Authorization; empty for none
};

struct ClientOptions {
  std::size_t kept_connections = 8;
  Duration kept_for = std::chrono::seconds(30);
  std::size_t header_limit = 64u << 10;  // bytes of an answer's header, and of one chunk's header
  std::string ca_file;                   // PEM roots beside the system's
  std::optional<Proxy> proxy{};
};

// An answer whose header has come and whose body comes as it is read. Move-only; dropping it before its end
// closes the connection, which is how an upstream is told to stop. At its end the connection goes back to the
// pool.
class ClientResponse {
 public:
  ClientResponse(ClientResponse&&) noexcept;
  ClientResponse& operator=(ClientResponse&&) noexcept;
  ~ClientResponse();

  int status() const;
  const Headers& headers() const;
  // Whether all of it has come: what read() gave last was the last.
  bool complete() const;
  // From the last byte of the request to the first byte of the answer.
  Duration first_byte_after() const;

  // The next bytes of the body, as they come; nullopt at its end. The view is good until the next read() or
  // the end of this object, which must stay where it is until read() returns. A connection cut before the end
  // is kUnavailable "bad_upstream".
  Task<Result<std::optional<std::string_view>>> read();
  // Everything that is left; more than `limit` bytes is kResourceExhausted "answer_too_large".
  Task<Result<std::string>> read_all(std::size_t limit);

 private:
  friend class Client;
  struct Impl;
  explicit ClientResponse(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// One thread. Requests that are under way keep what they need alive; destroying the client closes its kept
// connections.
//
// Errors: kUnavailable with reason "connect_failed" (nobody listens, no such name), "proxy_refused",
// "tls_failed", "connection_lost" or "bad_upstream" (what came is not HTTP, or too large, or was cut);
// kDeadlineExceeded with reason "connect_timeout", "first_byte_timeout" or "silence_timeout"; kCancelled.
// Messages name the endpoint.
class Client {
 public:
  Client(boost::asio::any_io_executor executor, Endpoint endpoint, ClientOptions options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  const Endpoint& endpoint() const;
  // Returns when the answer's header has come. A kept connection that turns out dead before any byte of an
  // answer is replaced once, where nothing was sent on it or the request may be repeated. Cancelling the
  // coroutine closes the connection.
  Task<Result<ClientResponse>> send(ClientRequest request, Timeouts timeouts = {});

  std::size_t kept_connections() const;

 private:
  std::shared_ptr<struct ClientPool> pool_;
};

}  // namespace lm::http
