// One request being answered: what was asked, and the only way to answer it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

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

 private:
  friend class Exchange;
  explicit RawStream(Session& session) : session_(&session) {}
  Session* session_;
};

// Owned by its session, lent to the route's function for as long as that runs. An answer is respond(), or
// begin(), write()…, end(); it ends exactly once: a second end is a broken invariant. A function that returns
// without an answer makes a 500; one that returns in the middle of an answer cuts the connection, so that the
// client sees it.
//
// Errors of all that waits: kCancelled "client_gone" when the client has left, kDeadlineExceeded
// "client_stalled" when it has stopped reading for Limits::write_silence. After either nothing more can be
// written.
class Exchange {
 public:
  Exchange(Session& session, Request request);
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  const Request& request() const { return request_; }
  // The body, moved out; request().body is empty afterwards.
  std::string take_body() { return std::move(request_.body); }
  Principal principal() const { return principal_; }
  // Whose key came with it, where that has a name; else empty.
  const std::string& client() const { return client_; }
  boost::asio::any_io_executor executor() const;

  // The whole answer in one write. Content-Length, Date and Connection are ours.
  Task<Result<void>> respond(Response response);
  // The hook's body for this error, with Retry-After where the error has one.
  Task<Result<void>> fail(int status, Error error);

  // A field for whatever is answered. Legal until then.
  void add_header(std::string_view name, std::string_view value);

  // Begins an answer of unknown length (or of the Content-Length in `headers`). Never waits: the header
  // travels with the first piece, or alone where none follows before the thread's next turn.
  Result<void> begin(int status, Headers headers);
  // Bytes belong to the caller until it returns; they have been handed to the kernel then.
  Task<Result<void>> write(std::string_view bytes);
  // With the last bytes, if there are any.
  Task<Result<void>> end(std::string_view last = {});

  bool begun() const { return state_ != State::kOpen; }
  bool ended() const { return state_ == State::kEnded || state_ == State::kUpgraded; }
  bool client_gone() const;

  // The seam for WebSocket: gives up HTTP before an answer was begun. The answer (101) is written by whoever
  // takes over.
  RawStream take_over();

 private:
  friend class Session;
  enum class State : std::uint8_t { kOpen, kBegun, kEnded, kFailed, kUpgraded };
  enum class Framing : std::uint8_t { kNone, kLength, kChunked, kUntilClose };

  std::string make_head(int status, const Headers& headers, std::optional<std::uint64_t> length);
  Task<Result<void>> send(std::string_view bytes, bool last);
  Result<void> check_alive() const;
  void flush_head();

  Session& session_;
  Request request_;
  Principal principal_ = Principal::kNone;
  std::string client_;
  Headers extra_headers_;  // CORS, add_header()
  std::string head_;       // not yet written
  std::uint64_t remaining_ = 0;
  State state_ = State::kOpen;
  Framing framing_ = Framing::kNone;
  bool keep_alive_ = false;
  bool writing_ = false;
};

}  // namespace lm::http
