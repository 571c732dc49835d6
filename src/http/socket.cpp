#include "http/socket.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <tuple>
#include <utility>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/assert.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;

constexpr unsigned kOperationsInARow = 64;

std::unexpected<Error> lost(int error) {
  return fail(ErrorCode::kUnavailable, std::string("the connection was lost (") + std::strerror(error) + ")",
              "connection_lost");
}

std::size_t fill(const Pieces& pieces, std::array<iovec, 4>& parts) {
  std::size_t count = 0;
  for (const std::string_view piece : pieces) {
    if (piece.empty()) continue;
    parts[count].iov_base = const_cast<char*>(piece.data());
    parts[count].iov_len = piece.size();
    ++count;
  }
  return count;
}

}  // namespace

Deadline deadline_in(Duration span) {
  const auto now = std::chrono::steady_clock::now();
  return span >= Deadline::max() - now ? Deadline::max() : now + span;
}

std::shared_ptr<Socket> Socket::adopt(asio::any_io_executor executor, int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL, 0);
  ::fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);  // a Unix socket says no, rightly
  return std::make_shared<Socket>(std::move(executor), descriptor);
}

Socket::Socket(asio::any_io_executor executor, int descriptor)
    : executor_(std::move(executor)), descriptor_(executor_, descriptor) {}

Socket::~Socket() {
  close();
}

Result<std::optional<std::size_t>> Socket::try_read(std::span<char> into) {
  if (closed()) return lost(EBADF);
  for (;;) {
    const ssize_t n = ::recv(native(), into.data(), into.size(), 0);
    if (n >= 0) return static_cast<std::size_t>(n);
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return lost(errno);
  }
}

Result<std::optional<std::size_t>> Socket::try_write(const Pieces& pieces) {
  if (closed()) return lost(EBADF);
  std::array<iovec, 4> parts;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = fill(pieces, parts);
  if (message.msg_iovlen == 0) return std::size_t{0};
  for (;;) {
    const ssize_t n = ::sendmsg(native(), &message, MSG_NOSIGNAL);
    if (n >= 0) {
      written_ += static_cast<std::uint64_t>(n);
      return static_cast<std::size_t>(n);
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::nullopt;
    if (errno != EINTR) return lost(errno);
  }
}

Task<Result<std::size_t>> Socket::read(std::span<char> into, Deadline deadline) {
  const auto self = shared_from_this();
  co_await be_fair();
  for (;;) {
    // Where the reactor watches and has not called there is nothing to read yet.
    if (!reading_.armed || reading_.ready) {
      LM_CO_TRY(const auto got, try_read(into));
      if (got) co_return *got;
    }
    LM_CO_TRY_VOID(co_await wait(reading_, Descriptor::wait_read, deadline));
  }
}

Task<Result<void>> Socket::write(Pieces pieces, Duration silence) {
  const auto self = shared_from_this();
  co_await be_fair();
  for (;;) {
    LM_CO_TRY(const auto sent, try_write(pieces));
    std::size_t rest = sent.value_or(0);
    bool all = true;
    for (std::string_view& piece : pieces) {
      const std::size_t n = std::min(rest, piece.size());
      piece.remove_prefix(n);
      rest -= n;
      all = all && piece.empty();
    }
    if (all) co_return Result<void>{};
    if (!sent) LM_CO_TRY_VOID(co_await wait(writing_, Descriptor::wait_write, deadline_in(silence)));
  }
}

Task<Result<void>> Socket::readable(Deadline deadline) {
  return wait(reading_, Descriptor::wait_read, deadline);
}

Task<Result<void>> Socket::writable(Deadline deadline) {
  return wait(writing_, Descriptor::wait_write, deadline);
}

Task<Result<void>> Socket::wait(Side& side, Descriptor::wait_type what, Deadline deadline) {
  const auto self = shared_from_this();
  LM_ASSERT(!side.waiting, "one reader and one writer at a time");
  if (closed()) co_return lost(EBADF);
  in_a_row_ = 0;
  if (!std::exchange(side.ready, false)) {
    arm(side, what);
    if (!side.timer) side.timer.emplace(executor_);
    side.timer->expires_at(deadline);
    // Also where the frame is destroyed without being resumed: nobody waits any more then.
    struct Waiting {
      explicit Waiting(bool& f) : flag(f) { flag = true; }
      ~Waiting() { flag = false; }
      bool& flag;
    };
    boost::system::error_code ec;
    {
      const Waiting waiting(side.waiting);
      std::tie(ec) = co_await side.timer->async_wait(asio::as_tuple(asio::use_awaitable));
    }
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none) {
      co_return fail(ErrorCode::kCancelled, "cancelled while waiting for the network");
    }
    if (closed()) co_return lost(EBADF);
    if (!std::exchange(side.ready, false) && !ec) {
      co_return fail(ErrorCode::kDeadlineExceeded, "the other side was silent for too long");
    }
  }
  co_return Result<void>{};
}

void Socket::arm(Side& side, Descriptor::wait_type what) {
  if (side.armed) return;
  side.armed = true;
  descriptor_.async_wait(what, [self = shared_from_this(), &side](const boost::system::error_code& ec) {
    side.armed = false;
    if (ec) return;  // closed: close() has woken everybody
    side.ready = true;
    if (side.waiting) side.timer->cancel();
    if (&side == &self->reading_ && self->watch_) std::exchange(self->watch_, nullptr)();
  });
}

void Socket::watch(std::function<void()> on_readable) {
  watch_ = std::move(on_readable);
  if (watch_ && !closed()) {
    reading_.ready = false;
    arm(reading_, Descriptor::wait_read);
  }
}

bool Socket::peer_closed() const {
  if (closed()) return true;
  pollfd look{};
  look.fd = const_cast<Descriptor&>(descriptor_).native_handle();
  look.events = POLLRDHUP;
  return ::poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Task<void> Socket::be_fair() {
  if (++in_a_row_ >= kOperationsInARow) {
    in_a_row_ = 0;
    co_await asio::post(executor_, asio::as_tuple(asio::use_awaitable));
  }
}

void Socket::shutdown_send() {
  if (!closed()) ::shutdown(native(), SHUT_WR);
}

void Socket::close() {
  watch_ = nullptr;
  if (closed()) return;
  boost::system::error_code ignored;
  descriptor_.close(ignored);
  if (reading_.timer) reading_.timer->cancel();
  if (writing_.timer) writing_.timer->cancel();
}

}  // namespace lm::http
