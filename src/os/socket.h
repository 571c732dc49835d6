// The link between the daemon and one child: whole lines of opaque text, both ways, on a stream socket.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>

#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "os/file.h"

namespace lm::os {

struct SocketPair {
  UniqueFd ours;    // non-blocking
  UniqueFd childs;  // blocking, as a child expects of a descriptor
};

// Two connected Unix stream sockets, both close-on-exec.
Result<SocketPair> make_socket_pair();

// Move-only, owned by whoever talks to the child, used on the io_context's thread. The other side is not
// trusted: what it sends without a newline and what it does not read are both bounded. Once an error has been
// returned other than a deadline or a cancelled read, the link is broken and stays so.
class LineLink {
 public:
  static constexpr std::size_t kLongestLine = std::size_t{64} * 1024;
  static constexpr std::size_t kMostUnsent = std::size_t{1} << 20;

  // `socket` is a stream socket; it is made non-blocking.
  LineLink(boost::asio::any_io_executor executor, UniqueFd socket);
  LineLink(LineLink&&) noexcept;
  LineLink& operator=(LineLink&&) noexcept;
  ~LineLink();  // as close(); what is unsent is lost

  // The next line without its newline; one reader at a time. The line of a read that hit its deadline or was
  // cancelled is not lost. Errors: kUnavailable with reason "closed" at the end (an unfinished last line is
  // dropped); kResourceExhausted, "line_too_long"; kDeadlineExceeded; kCancelled; the socket's own.
  Task<Result<std::string>> read_line(std::size_t longest = kLongestLine,
                                      std::optional<Duration> within = {});

  // Queues `line`, sent in order as the other side reads; never blocks. It must have no newline. Errors:
  // kUnavailable where the link is broken; kResourceExhausted, "link_full", where kMostUnsent bytes wait
  // already.
  Result<void> write_line(std::string_view line);

  // Returns when everything queued so far has been handed to the kernel.
  Task<Result<void>> flush(std::optional<Duration> within = {});

  std::size_t unsent() const;
  // Ends a pending read with kCancelled.
  void close();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace lm::os
