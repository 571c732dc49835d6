// One connected, non-blocking stream socket, TCP or Unix, whose waits have deadlines. Inside of the room.
//
// Waiting is two things at once here: a readiness watch on the descriptor, which stays armed when a wait
// gives up, and a timer that the coroutine sleeps on. So a wait costs no allocation beyond Asio's, a deadline
// costs nothing, and an idle socket can still say that its peer has gone.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "base/result.h"
#include "base/task.h"

namespace lm::http {

using Deadline = std::chrono::steady_clock::time_point;

// Duration::max() is never.
Deadline deadline_in(Duration span);

// Up to four pieces written as one; the bytes belong to the caller until the write returns.
using Pieces = std::array<std::string_view, 4>;

// Errors of reading and writing: kDeadlineExceeded, kCancelled (the coroutine was), kUnavailable
// "connection_lost". One reader and one writer at a time. Shared by its owner and the reactor's callbacks;
// close() ends every wait.
class Socket : public std::enable_shared_from_this<Socket> {
 public:
  // Takes a connected descriptor, makes it non-blocking, and sets TCP_NODELAY where that means something.
  static std::shared_ptr<Socket> adopt(boost::asio::any_io_executor executor, int descriptor);
  // Takes a descriptor whose non-blocking connect is under way or done.
  Socket(boost::asio::any_io_executor executor, int descriptor);
  ~Socket();
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  // Without waiting: the number of bytes (0 is the peer's end), nullopt where it would block.
  Result<std::optional<std::size_t>> try_read(std::span<char> into);
  Result<std::optional<std::size_t>> try_write(const Pieces& pieces);

  // Bytes as soon as there are some; 0 is the peer's end.
  Task<Result<std::size_t>> read(std::span<char> into, Deadline deadline);
  // All bytes. `silence` bounds each stretch without progress.
  Task<Result<void>> write(Pieces pieces, Duration silence);

  Task<Result<void>> readable(Deadline deadline);
  Task<Result<void>> writable(Deadline deadline);

  // Calls back once when there is something to read or the peer has gone. Not while a coroutine reads. An
  // empty function takes it back.
  void watch(std::function<void()> on_readable);
  // Whether the peer has closed its side, even with unread bytes before that.
  bool peer_closed() const;
  // Lets other coroutines run after many operations in a row that did not wait.
  Task<void> be_fair();

  void shutdown_send();
  void close();
  bool closed() const { return !descriptor_.is_open(); }
  int native() { return descriptor_.native_handle(); }
  std::uint64_t bytes_written() const { return written_; }
  const boost::asio::any_io_executor& executor() const { return executor_; }

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;
  struct Side {
    std::optional<boost::asio::steady_timer> timer;
    bool armed = false;    // the reactor will call
    bool ready = false;    // it has called since somebody looked
    bool waiting = false;  // a coroutine sleeps on the timer
  };

  Task<Result<void>> wait(Side& side, Descriptor::wait_type what, Deadline deadline);
  void arm(Side& side, Descriptor::wait_type what);

  boost::asio::any_io_executor executor_;
  Descriptor descriptor_;
  Side reading_;
  Side writing_;
  std::function<void()> watch_;
  std::uint64_t written_ = 0;
  unsigned in_a_row_ = 0;
};

}  // namespace lm::http
