// Incremental parsers of one HTTP/1.x message each, over Beast's. They never wait and never throw; they are
// fed whatever has arrived and say how much of it they took. Inside of the room.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "http/message.h"

namespace lm::http {

// What a message may cost its reader, in bytes. The header's limit also binds a chunk's header and the
// trailer.
struct ParseLimits {
  std::size_t header = 32u << 10;
  std::uint64_t body = 64u << 20;
};

// Owned by the session that reads. feed() is called until done() with all bytes not yet taken, oldest first:
// bytes that it did not take must be offered again, followed by more.
class RequestParser {
 public:
  explicit RequestParser(ParseLimits limits);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  // The number of bytes taken. Stops once behind the header, so that the request can be judged before its
  // body is read. An error is final. Status 400, 413, 417, 431, 501 or 505.
  std::expected<std::size_t, Refusal> feed(std::string_view input);

  bool started() const;  // something of a message has been seen
  bool header_done() const;
  bool done() const;
  bool keep_alive() const;  // legal once header_done()
  Request& request();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Owned by the client's response. Interim (1xx) responses are skipped inside, except 101.
class ResponseParser {
 public:
  // `head_only`: the answer to a HEAD, which has no body whatever its header says.
  ResponseParser(ParseLimits limits, bool head_only);
  ~ResponseParser();
  ResponseParser(const ResponseParser&) = delete;
  ResponseParser& operator=(const ResponseParser&) = delete;

  // The number of bytes taken; decoded body bytes are appended to `body`. An error is final.
  Result<std::size_t> feed(std::string_view input, std::string& body);
  // The peer closed. An error where the message is not complete by that.
  Result<void> feed_end();

  bool started() const;
  bool header_done() const;
  bool done() const;
  bool keep_alive() const;
  int status() const;
  Headers& headers();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::http
