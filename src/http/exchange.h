// One request being answered: what was asked, and the only way to answer it.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "http/admission.h"
#include "http/message.h"

namespace lm::http {

class Session;

// The bytes of a connection that has left HTTP behind (an upgrade). Valid while the route's function runs;
// closed after it.
class RawStream {
 public:
  // First what the client sent behind its request, then what comes. 0 is the client's end. kDeadlineExceeded
  // after `silence`.
  Task<Result<std::size_t>> read(std::span<char> into, Duration silence);
  Task<Result<void>> write(std::string_view bytes);
  // Cuts the connection: whoever waits for it is told that it was lost.
  void close();

 private:
  friend class SessionExchange;
  explicit RawStream(Session& session) : session_(&session) {}
  Session* session_;
};

// Lent to the route's function for as long as that runs. An answer is respond(), or begin(), write()…, end();
// it ends exactly once: a second end is a broken invariant. A function that returns without an answer makes a
// 500; one that returns in the middle of an answer cuts the connection, so that the client sees it. What a
// route is lent is a connection's own (SessionExchange); a route may put another one in front of it, which
// tells the client the same in other words.
//
// Errors of all that waits: kCancelled "client_gone" when the client has left, kDeadlineExceeded
// "client_stalled" when it has stopped reading for Limits::write_silence. After either nothing more can be
// written.
class Exchange {
 public:
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;
  virtual ~Exchange() = default;

  const Request& request() const { return request_; }
  // The body, moved out; request().body is empty afterwards.
  std::string take_body() { return std::move(request_.body); }
  Principal principal() const { return principal_; }
  // Whose key came with it, where that has a name; else empty.
  const std::string& client() const { return client_; }
  virtual boost::asio::any_io_executor executor() const = 0;

  // The whole answer in one write. Content-Length, Date and Connection are ours.
  virtual Task<Result<void>> respond(Response response) = 0;
  // The hook's body for this error, with Retry-After where the error has one.
  virtual Task<Result<void>> fail(int status, Error error) = 0;

  // A field for whatever is answered. Legal until then.
  virtual void add_header(std::string_view name, std::string_view value) = 0;

  // Begins an answer of unknown length (or of the Content-Length in `headers`). Never waits: the header
  // travels with the first piece, or alone where none follows before the thread's next turn.
  virtual Result<void> begin(int status, Headers headers) = 0;
  // Bytes belong to the caller until it returns; they have been handed to the kernel then.
  virtual Task<Result<void>> write(std::string_view bytes) = 0;
  // With the last bytes, if there are any.
  virtual Task<Result<void>> end(std::string_view last = {}) = 0;

  virtual bool begun() const = 0;
  virtual bool ended() const = 0;
  virtual bool client_gone() const = 0;

  // The seam for WebSocket: gives up HTTP before an answer was begun. The answer (101) is written by whoever
  // takes over.
  virtual RawStream take_over() = 0;

 protected:
  explicit Exchange(Request request) : request_(std::move(request)) {}

  Request request_;
  Principal principal_ = Principal::kNone;
  std::string client_;
};

}  // namespace lm::http
