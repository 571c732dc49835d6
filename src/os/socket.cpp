#include "os/socket.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "base/assert.h"
#include "os/system_error.h"

namespace asio = boost::asio;

namespace lm::os {
namespace {

constexpr std::size_t kChunk = 16 * 1024;

Error closed() {
  return Error{.code = ErrorCode::kUnavailable,
               .message = "the other side has closed the link",
               .reason = "closed",
               .fields = {},
               .retry_after = {}};
}

void make_non_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  LM_ASSERT(flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0, "a link is made on an open socket");
}

}  // namespace

Result<SocketPair> make_socket_pair() {
  std::array<int, 2> fds{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return fail(system_error(errno, "making a pair of sockets"));
  }
  SocketPair pair{.ours = UniqueFd(fds[0]), .childs = UniqueFd(fds[1])};
  make_non_blocking(pair.ours.get());
  return pair;
}

struct LineLink::State : std::enable_shared_from_this<State> {
  State(const asio::any_io_executor& executor, UniqueFd fd) : socket(executor, fd.release()) {}

  static Task<Result<std::string>> read_line(std::shared_ptr<State> state, std::size_t longest,
                                             std::optional<Duration> within);
  static Task<Result<void>> flush(std::shared_ptr<State> state, std::optional<Duration> within);

  // A line of at most `longest` bytes that is here already; nullopt: more must be read.
  Result<std::optional<std::string>> take_line(std::size_t longest) {
    const auto newline = received.find('\n', searched);
    const auto length = std::min(newline, received.size()) - begin;
    if (length > longest) {
      return fail(ErrorCode::kResourceExhausted,
                  fmt::format("the other side sent a line of more than {} bytes", longest), "line_too_long");
    }
    if (newline == std::string::npos) {
      searched = received.size();
      return std::nullopt;
    }
    std::string line = received.substr(begin, length);
    begin = searched = newline + 1;
    if (begin == received.size()) drop_received();
    return line;
  }

  void drop_received() {
    received = {};  // an idle link keeps no buffer
    begin = searched = 0;
  }

  // False: nothing there now. Never makes the buffer longer than one line of `longest` bytes and its newline.
  Result<bool> receive(std::size_t longest) {
    received.erase(0, begin);
    searched -= begin;
    begin = 0;
    std::array<char, kChunk> chunk;
    const std::size_t room = std::min(longest + 1 - received.size(), chunk.size());
    while (true) {
      const ssize_t n = ::recv(socket.native_handle(), chunk.data(), room, 0);
      if (n > 0) {
        received.append(chunk.data(), static_cast<std::size_t>(n));
        return true;
      }
      if (n == 0 || errno == ECONNRESET) return fail(closed());
      if (errno == EAGAIN) return false;
      if (errno != EINTR) return fail(system_error(errno, "reading from the link"));
    }
  }

  void send_queued() {
    while (!queued.empty() && !cannot_write) {
      const std::string& first = queued.front();
      const ssize_t n = ::send(socket.native_handle(), first.data() + sent_of_first,
                               first.size() - sent_of_first, MSG_NOSIGNAL);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) return await_room();
      if (n < 0) {
        return end_writing(
            errno == EPIPE || errno == ECONNRESET ? closed() : system_error(errno, "writing to the link"));
      }
      unsent -= static_cast<std::size_t>(n);
      sent_of_first += static_cast<std::size_t>(n);
      if (sent_of_first < first.size()) continue;
      queued.pop_front();
      sent_of_first = 0;
    }
    wake_flushers();
  }

  void await_room() {
    if (std::exchange(awaiting_room, true)) return;
    // A read that reaches its deadline cancels this wait too, so it begins again whatever ended it.
    socket.async_wait(asio::posix::descriptor_base::wait_write,
                      [weak = weak_from_this()](const boost::system::error_code&) {
                        const auto self = weak.lock();
                        if (!self) return;
                        self->awaiting_room = false;
                        if (!self->cannot_write) self->send_queued();
                      });
  }

  // What the other side said before it went can still be read.
  void end_writing(Error error) {
    if (!cannot_write) cannot_write = std::move(error);
    queued.clear();
    unsent = 0;
    sent_of_first = 0;
    wake_flushers();
  }

  void end(const Error& error) {
    if (!cannot_read) cannot_read = error;
    end_writing(error);
    drop_received();
    boost::system::error_code ignored;
    socket.close(ignored);
  }

  void wake_flushers() {
    for (auto* waiter : flushers) waiter->cancel();
  }

  asio::posix::stream_descriptor socket;
  std::optional<Error> cannot_read;
  std::optional<Error> cannot_write;

  std::string received;
  std::size_t begin = 0;     // of the first line in `received`
  std::size_t searched = 0;  // from begin to here there is no newline
  bool reading = false;

  std::deque<std::string> queued;
  std::size_t sent_of_first = 0;
  std::size_t unsent = 0;
  bool awaiting_room = false;
  std::vector<asio::steady_timer*> flushers;
};

Task<Result<std::string>> LineLink::State::read_line(std::shared_ptr<State> state, std::size_t longest,
                                                     std::optional<Duration> within) {
  LM_ASSERT(!state->reading, "a link has one reader at a time");
  state->reading = true;
  struct Reading {
    State& state;
    ~Reading() { state.reading = false; }
  } const reading{*state};

  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  bool armed = false;
  // The deadline ends the wait by cancelling it. Its handler may run after this read has ended: it must not
  // end the next.
  const auto late = std::make_shared<bool>(false);

  while (true) {
    if (state->cannot_read) co_return fail(*state->cannot_read);
    auto line = state->take_line(longest);
    if (!line) {
      state->end(line.error());
      continue;
    }
    if (*line) co_return std::move(**line);

    const auto more = state->receive(longest);
    if (!more) {
      state->end(more.error());
      continue;
    }
    if (*more) continue;

    if (within && !std::exchange(armed, true)) {
      timer.expires_after(*within);
      timer.async_wait([weak_late = std::weak_ptr(late),
                        weak = std::weak_ptr(state)](const boost::system::error_code& error) {
        const auto still_late = weak_late.lock();
        const auto self = weak.lock();
        if (error || !still_late || !self || self->cannot_read) return;
        *still_late = true;
        boost::system::error_code ignored;
        self->socket.cancel(ignored);
      });
    }
    const auto [error] = co_await state->socket.async_wait(asio::posix::descriptor_base::wait_read,
                                                           asio::as_tuple(asio::use_awaitable));
    if (!error || state->cannot_read) continue;
    if (*late)
      co_return fail(ErrorCode::kDeadlineExceeded, fmt::format("no line within {:.3g} s", seconds(*within)));
    co_return fail(ErrorCode::kCancelled, "no longer waiting for a line");
  }
}

Task<Result<void>> LineLink::State::flush(std::shared_ptr<State> state, std::optional<Duration> within) {
  const auto executor = co_await asio::this_coro::executor;
  asio::steady_timer timer(executor);
  if (within) {
    timer.expires_after(*within);
  } else {
    timer.expires_at(asio::steady_timer::time_point::max());
  }
  struct Enrolment {
    std::vector<asio::steady_timer*>& list;
    asio::steady_timer* timer;
    ~Enrolment() { std::erase(list, timer); }
  } const enrolment{state->flushers, &timer};
  state->flushers.push_back(&timer);

  while (!state->cannot_write && !state->queued.empty()) {
    const auto [error] = co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    if (state->cannot_write || state->queued.empty()) break;
    if (!error)
      co_return fail(ErrorCode::kDeadlineExceeded, fmt::format("{} bytes are unsent", state->unsent));
    co_return fail(ErrorCode::kCancelled, "no longer waiting for the link");
  }
  if (state->cannot_write) co_return fail(*state->cannot_write);
  co_return Result<void>{};
}

LineLink::LineLink(asio::any_io_executor executor, UniqueFd socket) {
  make_non_blocking(socket.get());
  state_ = std::make_shared<State>(executor, std::move(socket));
}

LineLink::LineLink(LineLink&&) noexcept = default;

LineLink& LineLink::operator=(LineLink&& other) noexcept {
  if (this != &other) {
    close();
    state_ = std::move(other.state_);
  }
  return *this;
}

LineLink::~LineLink() {
  close();
}

Task<Result<std::string>> LineLink::read_line(std::size_t longest, std::optional<Duration> within) {
  return State::read_line(state_, longest, within);
}

Result<void> LineLink::write_line(std::string_view line) {
  LM_ASSERT(line.find('\n') == std::string_view::npos, "a line has no newline");
  if (state_->cannot_write) return fail(*state_->cannot_write);
  if (state_->unsent + line.size() + 1 > kMostUnsent) {
    return fail(ErrorCode::kResourceExhausted,
                fmt::format("the other side has not read {} bytes", state_->unsent), "link_full");
  }
  std::string& text = state_->queued.emplace_back();
  text.reserve(line.size() + 1);
  text.append(line).push_back('\n');
  state_->unsent += text.size();
  if (!state_->awaiting_room) state_->send_queued();
  if (state_->cannot_write) return fail(*state_->cannot_write);
  return {};
}

Task<Result<void>> LineLink::flush(std::optional<Duration> within) {
  return State::flush(state_, within);
}

std::size_t LineLink::unsent() const {
  return state_->unsent;
}

void LineLink::close() {
  if (!state_ || state_->cannot_read) return;
  state_->end(Error{.code = ErrorCode::kCancelled,
                    .message = "the link is closed",
                    .reason = {},
                    .fields = {},
                    .retry_after = {}});
}

}  // namespace lm::os
