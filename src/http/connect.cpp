#include "http/connect.h"

#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vector>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace lm::http {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr auto kFullBacklogPause = std::chrono::milliseconds(5);

struct Address {
  sockaddr_storage bytes{};
  socklen_t size = 0;
};

std::unexpected<Error> connect_failed(std::string why) {
  return fail(ErrorCode::kUnavailable, "cannot connect: " + why, "connect_failed");
}
std::unexpected<Error> too_late() {
  return fail(ErrorCode::kDeadlineExceeded, "cannot connect in time");
}
std::unexpected<Error> cancelled() {
  return fail(ErrorCode::kCancelled, "cancelled while connecting");
}

Address address_of(const tcp::endpoint& endpoint) {
  Address address;
  address.size = static_cast<socklen_t>(endpoint.size());
  std::memcpy(&address.bytes, endpoint.data(), endpoint.size());
  return address;
}

// Asks the system's resolver in Asio's thread. That thread cannot be interrupted, so the question outlives a
// wait that gives up.
Task<Result<std::vector<Address>>> resolve(asio::any_io_executor executor, std::string host,
                                           std::uint16_t port, Deadline deadline) {
  struct Question {
    explicit Question(const asio::any_io_executor& e) : resolver(e), answered(e) {}
    tcp::resolver resolver;
    asio::steady_timer answered;
    boost::system::error_code ec;
    std::vector<Address> addresses;
    bool done = false;
  };
  const auto question = std::make_shared<Question>(executor);
  question->answered.expires_at(deadline);
  question->resolver.async_resolve(
      host, std::to_string(port), tcp::resolver::numeric_service,
      [question](const boost::system::error_code& ec, const tcp::resolver::results_type& found) {
        question->ec = ec;
        for (const auto& one : found) question->addresses.push_back(address_of(one.endpoint()));
        question->done = true;
        question->answered.cancel();
      });
  co_await question->answered.async_wait(asio::as_tuple(asio::use_awaitable));
  if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none)
    co_return cancelled();
  if (!question->done) co_return too_late();
  if (question->ec)
    co_return connect_failed("the name " + host + " is not known (" + question->ec.message() + ")");
  co_return std::move(question->addresses);
}

Task<Result<std::vector<Address>>> addresses_of(asio::any_io_executor executor, Endpoint endpoint,
                                                Deadline deadline) {
  if (endpoint.kind == Endpoint::Kind::kUnix) {
    Address address;
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    if (endpoint.host.size() >= sizeof where.sun_path)
      co_return connect_failed("the socket's path is too long");
    std::memcpy(where.sun_path, endpoint.host.c_str(), endpoint.host.size() + 1);
    address.size = sizeof where;
    std::memcpy(&address.bytes, &where, sizeof where);
    co_return std::vector<Address>{address};
  }
  // A literal and localhost need no resolver, which would start a thread.
  boost::system::error_code ec;
  const auto literal = asio::ip::make_address(endpoint.host, ec);
  if (!ec) co_return std::vector<Address>{address_of({literal, endpoint.port})};
  if (equals_ignoring_case(endpoint.host, "localhost")) {
    co_return std::vector<Address>{address_of({asio::ip::address_v4::loopback(), endpoint.port}),
                                   address_of({asio::ip::address_v6::loopback(), endpoint.port})};
  }
  co_return co_await resolve(executor, endpoint.host, endpoint.port, deadline);
}

Task<Result<std::shared_ptr<Socket>>> connect_to(asio::any_io_executor executor, Address address,
                                                 Deadline deadline) {
  for (;;) {
    const int descriptor = ::socket(address.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0) co_return connect_failed(std::strerror(errno));
    if (::connect(descriptor, reinterpret_cast<const sockaddr*>(&address.bytes), address.size) == 0) {
      co_return Socket::adopt(executor, descriptor);
    }
    const int why = errno;
    if (why == EINPROGRESS) {
      auto socket = Socket::adopt(executor, descriptor);
      LM_CO_TRY_VOID(co_await socket->writable(deadline));
      int error = 0;
      socklen_t size = sizeof error;
      ::getsockopt(socket->native(), SOL_SOCKET, SO_ERROR, &error, &size);
      if (error != 0) co_return connect_failed(std::strerror(error));
      co_return socket;
    }
    ::close(descriptor);
    if (why != EAGAIN) co_return connect_failed(std::strerror(why));
    // A Unix socket whose backlog is full: nothing tells when that changes.
    if (std::chrono::steady_clock::now() >= deadline) co_return too_late();
    asio::steady_timer pause(executor, kFullBacklogPause);
    co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
    if ((co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none)
      co_return cancelled();
  }
}

}  // namespace

Task<Result<std::shared_ptr<Socket>>> connect(asio::any_io_executor executor, Endpoint endpoint,
                                              Deadline deadline) {
  LM_CO_TRY(const std::vector<Address> addresses, co_await addresses_of(executor, endpoint, deadline));
  Error last = connect_failed("the name has no address").error();
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    // An address that swallows packets may not use up the time of those after it.
    Deadline mine = deadline;
    const auto now = std::chrono::steady_clock::now();
    if (deadline != Deadline::max() && now < deadline) {
      mine = now + (deadline - now) / static_cast<int>(addresses.size() - i);
    }
    auto socket = co_await connect_to(executor, addresses[i], mine);
    if (socket || socket.error().code == ErrorCode::kCancelled) co_return socket;
    last = std::move(socket).error();
  }
  co_return std::unexpected(std::move(last));
}

}  // namespace lm::http
