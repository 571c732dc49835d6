// Server-sent events: writing them and reading them. Pure text.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::http {

struct SseEvent {
  std::string event;  // empty is "message"
  std::string data;   // lines joined by \n
  std::string id;
  bool operator==(const SseEvent&) const = default;
};

// "event: x\nid: 7\ndata: …\n\n"; each line of `data` gets its own data line.
std::string sse_event(std::string_view data, std::string_view event = {}, std::string_view id = {});
// ": text\n\n": keeps proxies and clients awake, seen by nobody.
std::string sse_comment(std::string_view text);

// Reads a stream of events fed in pieces of any size; lines end in \n, \r\n or \r, as the standard says.
// Owned by the reader.
class SseParser {
 public:
  // `limit`: the most bytes that one event may have; more is the error kUnavailable "bad_upstream".
  explicit SseParser(std::function<void(SseEvent)> on_event, std::size_t limit = 8u << 20);

  Result<void> feed(std::string_view bytes);
  // Forgets an event that was begun and not finished, as the standard says of a stream's end. True if there
  // was one.
  bool finish();

 private:
  void take_line(std::string_view line);

  std::function<void(SseEvent)> on_event_;
  std::size_t limit_;
  std::string line_;
  SseEvent event_;
  bool has_data_ = false;
  bool after_return_ = false;  // a \n that comes now belongs to the \r before it
  bool at_start_ = true;       // a byte order mark is skipped here
};

}  // namespace lm::http
