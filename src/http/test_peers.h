// The other side, for tests: a server on its own thread, and blocking sockets that know nothing of this room.
#pragma once

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <future>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <gtest/gtest.h>

#include "http/server.h"

namespace lm::http::testing {

inline constexpr std::chrono::seconds kPatience{20};

// An io_context on a thread of its own.
class Loop {
 public:
  Loop() : thread_([this] { context_.run(); }) {}
  ~Loop() {
    guard_.reset();
    context_.stop();
    thread_.join();
  }
  boost::asio::any_io_executor executor() { return context_.get_executor(); }

  // Runs fn on the loop's thread and waits for it.
  template <class Fn>
  auto call(Fn fn) -> decltype(fn()) {
    std::packaged_task<decltype(fn())()> task(std::move(fn));
    auto future = task.get_future();
    boost::asio::post(context_, [&task] { task(); });
    return future.get();
  }
  // Runs a coroutine on the loop's thread; the future is ready when it has ended.
  std::future<void> spawn(std::function<Task<void>()> make) {
    auto done = std::make_shared<std::promise<void>>();
    auto future = done->get_future();
    boost::asio::post(context_, [this, done, make = std::move(make)] {
      boost::asio::co_spawn(context_, make(), [done, make](std::exception_ptr error) {
        if (error)
          done->set_exception(error);
        else
          done->set_value();
      });
    });
    return future;
  }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> guard_{context_.get_executor()};
  std::thread thread_;
};

class TestServer {
 public:
  explicit TestServer(Router router, ServerOptions options = {}) {
    loop.call([&] {
      server = std::make_unique<Server>(loop.executor(), std::move(router), std::move(options));
      auto bound = server->listen_tcp("127.0.0.1", 0);
      if (bound) address = *bound;
    });
    port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  }
  ~TestServer() {
    if (server) stop(Duration::zero());
    loop.call([&] { server.reset(); });
  }
  void stop(Duration drain) {
    auto stopped = stop_async(drain);
    ASSERT_EQ(stopped.wait_for(kPatience), std::future_status::ready) << "stop() does not return";
  }
  std::future<void> stop_async(Duration drain) {
    return loop.spawn([this, drain] { return server->stop(drain); });
  }
  std::size_t sessions() {
    return loop.call([&] { return server->sessions(); });
  }

  Loop loop;
  std::unique_ptr<Server> server;
  std::string address;
  std::uint16_t port = 0;
};

struct RawResponse {
  int status = 0;
  std::string head;  // with its empty line
  std::string body;  // dechunked
  bool has(std::string_view text) const { return head.find(text) != std::string::npos; }
};

// A blocking socket with a time limit on everything.
class RawSocket {
 public:
  RawSocket() = default;
  explicit RawSocket(int descriptor) : descriptor_(descriptor) { limit(); }
  RawSocket(RawSocket&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), input_(std::move(other.input_)) {}
  RawSocket& operator=(RawSocket&& other) noexcept {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
    input_ = std::move(other.input_);
    return *this;
  }
  ~RawSocket() { close(); }

  static RawSocket tcp(std::uint16_t port, int receive_buffer = 0) {
    const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (receive_buffer != 0) {
      ::setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(descriptor, reinterpret_cast<const sockaddr*>(&where), sizeof where), 0)
        << std::strerror(errno);
    return RawSocket(descriptor);
  }
  static RawSocket local(const std::string& path) {
    const int descriptor = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path.c_str(), path.size() + 1);
    EXPECT_EQ(::connect(descriptor, reinterpret_cast<const sockaddr*>(&where), sizeof where), 0)
        << std::strerror(errno);
    return RawSocket(descriptor);
  }

  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  // More bytes into input(); false at the end or after the time limit.
  bool receive() {
    char buffer[16384];
    const ssize_t n = ::recv(descriptor_, buffer, sizeof buffer, 0);
    if (n <= 0) return false;
    input_.append(buffer, static_cast<std::size_t>(n));
    return true;
  }
  std::string read_exactly(std::size_t n) {
    while (input_.size() < n && receive()) {
    }
    std::string out = input_.substr(0, n);
    input_.erase(0, out.size());
    return out;
  }
  // Up to and with `mark`; whatever there is where it does not come.
  std::string read_until(std::string_view mark) {
    std::size_t at;
    while ((at = input_.find(mark)) == std::string::npos) {
      if (!receive()) return std::exchange(input_, {});
    }
    std::string out = input_.substr(0, at + mark.size());
    input_.erase(0, out.size());
    return out;
  }
  std::string read_to_end() {
    while (receive()) {
    }
    return std::exchange(input_, {});
  }
  // True when the other side has closed, with nothing left to read.
  bool at_end() {
    errno = 0;
    return input_.empty() && !receive() && errno != EAGAIN && errno != EWOULDBLOCK;
  }

  RawResponse response(bool to_head = false) {
    RawResponse out;
    out.head = read_until("\r\n\r\n");
    if (out.head.size() > 12) out.status = std::atoi(out.head.c_str() + 9);
    if (to_head || out.status / 100 == 1 || out.status == 204 || out.status == 304) return out;
    if (const std::size_t at = out.head.find("Content-Length: "); at != std::string::npos) {
      out.body = read_exactly(static_cast<std::size_t>(std::atoll(out.head.c_str() + at + 16)));
    } else if (out.has("Transfer-Encoding: chunked")) {
      for (;;) {
        const std::size_t size = std::strtoul(read_until("\r\n").c_str(), nullptr, 16);
        out.body += read_exactly(size);
        read_exactly(2);
        if (size == 0) break;
      }
    } else {
      out.body = read_to_end();
    }
    return out;
  }
  RawResponse ask(std::string_view request) {
    EXPECT_TRUE(send(request));
    return response(request.starts_with("HEAD"));
  }

  void shutdown_send() { ::shutdown(descriptor_, SHUT_WR); }
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  // The next close sends a reset instead of an end.
  void reset() {
    const linger hard{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close();
  }
  int descriptor() const { return descriptor_; }

 private:
  void limit() {
    const int on = 1;
    ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const timeval limit{.tv_sec = kPatience.count(), .tv_usec = 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  int descriptor_ = -1;
  std::string input_;
};

// A listening TCP socket on 127.0.0.1 whose connections a test answers by hand.
class RawListener {
 public:
  RawListener() : descriptor_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    EXPECT_EQ(::bind(descriptor_, reinterpret_cast<const sockaddr*>(&where), size), 0);
    EXPECT_EQ(::listen(descriptor_, 16), 0);
    ::getsockname(descriptor_, reinterpret_cast<sockaddr*>(&where), &size);
    port = ntohs(where.sin_port);
    const timeval limit{.tv_sec = kPatience.count(), .tv_usec = 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~RawListener() { close(); }
  RawSocket accept() { return RawSocket(::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)); }
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  std::uint16_t port = 0;

 private:
  int descriptor_;
};

// Happens once, on any thread; waiting has a limit.
class Event {
 public:
  void set() {
    if (!is_set_.exchange(true)) promise_.set_value();
  }
  bool is_set() const { return is_set_; }
  bool wait() { return future_.wait_for(kPatience) == std::future_status::ready; }

 private:
  std::atomic<bool> is_set_{false};
  std::promise<void> promise_;
  std::future<void> future_ = promise_.get_future();
};

}  // namespace lm::http::testing
