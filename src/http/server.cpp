#include "http/server.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/log.h"
#include "http/session.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;

constexpr int kBacklog = 1024;
constexpr int kAcceptAtOnce = 64;
constexpr Duration kNoDescriptors = std::chrono::milliseconds(100);
constexpr Duration kStopPatience = std::chrono::seconds(2);

asio::ip::address address_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &from, sizeof v4);
    return asio::ip::address_v4(ntohl(v4.sin_addr.s_addr));
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, &from, sizeof v6);
  asio::ip::address_v6::bytes_type bytes;
  std::memcpy(bytes.data(), &v6.sin6_addr, bytes.size());
  const asio::ip::address_v6 address(bytes);
  if (address.is_v4_mapped()) return asio::ip::make_address_v4(asio::ip::v4_mapped, address);
  return address;
}

std::uint16_t port_of(const sockaddr_storage& from) {
  // sin_port and sin6_port lie at the same place.
  sockaddr_in v4{};
  std::memcpy(&v4, &from, sizeof v4);
  return ntohs(v4.sin_port);
}

std::string endpoint_text(const asio::ip::address& address, std::uint16_t port) {
  return address.is_v6() ? fmt::format("[{}]:{}", address.to_string(), port)
                         : fmt::format("{}:{}", address.to_string(), port);
}

Peer peer_of(const sockaddr_storage& from) {
  if (from.ss_family == AF_UNIX) return {.kind = Peer::Kind::kUnix, .address = "unix"};
  const auto address = address_of(from);
  return {.kind = address.is_loopback() ? Peer::Kind::kLoopback : Peer::Kind::kRemote,
          .address = endpoint_text(address, port_of(from))};
}

std::unexpected<Error> system_failure(std::string what) {
  const int error = errno;
  if (error == EADDRINUSE) {
    return fail(ErrorCode::kAlreadyExists, what + ": another program has it", "address_in_use");
  }
  const ErrorCode code =
      error == EACCES || error == EPERM ? ErrorCode::kPermissionDenied : ErrorCode::kInvalidArgument;
  return fail(code, what + ": " + std::strerror(error), "cannot_listen");
}

// Closes unless let go.
struct Descriptor {
  explicit Descriptor(int n) : number(n) {}
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int release() { return std::exchange(number, -1); }
  int number;
};

}  // namespace

// One listening socket. Owned by the core, which it feeds.
class Listener : public std::enable_shared_from_this<Listener> {
 public:
  Listener(std::shared_ptr<ServerCore> core, int descriptor, std::filesystem::path file)
      : core_(core), socket_(core->executor, descriptor), pause_(core->executor), file_(std::move(file)) {}

  ~Listener() { close(); }

  void wait() {
    socket_.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this()](const auto& ec) {
      const auto self = weak.lock();
      if (!ec && self) self->accept();
    });
  }

  void close() {
    boost::system::error_code ignored;
    if (socket_.is_open()) {
      socket_.close(ignored);
      std::error_code gone;
      if (!file_.empty()) std::filesystem::remove(file_, gone);
    }
    pause_.cancel();
  }

 private:
  void accept() {
    const auto core = core_.lock();
    if (!core) return;
    for (int i = 0; i < kAcceptAtOnce && socket_.is_open(); ++i) {
      sockaddr_storage from{};
      socklen_t size = sizeof from;
      const int descriptor = ::accept4(socket_.native_handle(), reinterpret_cast<sockaddr*>(&from), &size,
                                       SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor >= 0) {
        core->accept(descriptor, peer_of(from));
      } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        return wait_for_descriptors(errno);
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        break;
      }
    }
    if (socket_.is_open()) wait();
  }

  // The connection stays in the backlog: asking again at once would spin.
  void wait_for_descriptors(int error) {
    log::warning("no more connections can be taken for now: {}", std::strerror(error));
    pause_.expires_after(kNoDescriptors);
    pause_.async_wait([weak = weak_from_this()](const boost::system::error_code& ec) {
      const auto self = weak.lock();
      if (!ec && self) self->accept();
    });
  }

  std::weak_ptr<ServerCore> core_;
  asio::posix::stream_descriptor socket_;
  asio::steady_timer pause_;
  std::filesystem::path file_;
};

ServerCore::~ServerCore() = default;

void ServerCore::close_listeners() {
  listeners.clear();
}

Server::Server(asio::any_io_executor executor, Router router, ServerOptions options)
    : core_(std::make_shared<ServerCore>(std::move(executor), std::move(router), std::move(options))) {}

Server::~Server() {
  core_->gate.close();
  core_->close_listeners();
  core_->cancel_sessions();
}

namespace {

Result<asio::ip::address> address_to_listen_on(const std::string& host, bool has_keys) {
  boost::system::error_code ec;
  const std::string literal = host == "localhost" ? "127.0.0.1" : host == "*" ? "0.0.0.0" : host;
  auto address = asio::ip::make_address(literal, ec);
  if (ec) {
    return fail(ErrorCode::kInvalidArgument,
                "\"" + host + "\" is no address to listen on; use 127.0.0.1, localhost or *", "bad_address");
  }
  if (!address.is_loopback() && !has_keys) {
    return fail(
        ErrorCode::kFailedPrecondition,
        "listening on " + literal +
            " opens the server to the network: name keys under server.keys in the configuration first",
        "keys_needed");
  }
  return address;
}

}  // namespace

Result<void> check_listen(const std::string& host, bool has_keys) {
  LM_TRY_VOID(address_to_listen_on(host, has_keys));
  return {};
}

Result<std::string> Server::listen_tcp(const std::string& host, std::uint16_t port) {
  LM_TRY(const auto address, address_to_listen_on(host, core_->admission.has_keys()));
  sockaddr_storage where{};
  socklen_t size = 0;
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr.s_addr = htonl(address.to_v4().to_uint());
    size = sizeof v4;
    std::memcpy(&where, &v4, size);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    const auto bytes = address.to_v6().to_bytes();
    std::memcpy(&v6.sin6_addr, bytes.data(), bytes.size());
    size = sizeof v6;
    std::memcpy(&where, &v6, size);
  }
  const std::string what = "listening on " + endpoint_text(address, port);
  Descriptor socket(::socket(where.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.number < 0) return system_failure(what);
  const int on = 1;
  ::setsockopt(socket.number, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.number, reinterpret_cast<const sockaddr*>(&where), size) != 0)
    return system_failure(what);
  if (::listen(socket.number, kBacklog) != 0) return system_failure(what);
  size = sizeof where;
  ::getsockname(socket.number, reinterpret_cast<sockaddr*>(&where), &size);

  if (!address.is_unspecified()) core_->admission.add_bound_address(address.to_string());
  core_->listeners.push_back(std::make_shared<Listener>(core_, socket.release(), std::filesystem::path()));
  core_->listeners.back()->wait();
  return endpoint_text(address, port_of(where));
}

Result<void> Server::listen_unix(const std::filesystem::path& path) {
  sockaddr_un where{};
  where.sun_family = AF_UNIX;
  const std::string text = path.string();
  if (text.empty() || text.size() >= sizeof where.sun_path) {
    return fail(ErrorCode::kInvalidArgument,
                "the socket path \"" + text + "\" is empty or longer than " +
                    std::to_string(sizeof where.sun_path - 1) + " bytes",
                "bad_address");
  }
  std::memcpy(where.sun_path, text.c_str(), text.size() + 1);
  const auto* name = reinterpret_cast<const sockaddr*>(&where);
  const std::string what = "listening on " + text;
  Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket.number < 0) return system_failure(what);

  std::error_code ec;
  if (std::filesystem::is_socket(path, ec)) {
    // Somebody answers there, or did before he died.
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (::connect(probe.number, name, sizeof where) == 0 || errno != ECONNREFUSED) {
      errno = EADDRINUSE;
      return system_failure(what);
    }
    std::filesystem::remove(path, ec);
  }
  const ::mode_t before = ::umask(0177);
  const int bound = ::bind(socket.number, name, sizeof where);
  const int error = errno;
  ::umask(before);
  errno = error;
  if (bound != 0) return system_failure(what);
  if (::listen(socket.number, kBacklog) != 0) return system_failure(what);
  core_->listeners.push_back(std::make_shared<Listener>(core_, socket.release(), path));
  core_->listeners.back()->wait();
  return {};
}

std::size_t Server::sessions() const {
  return core_->gate.inside();
}

Task<void> Server::stop(Duration drain) {
  const auto core = core_;
  core->draining = true;
  core->close_listeners();
  core->gate.close();
  core->end_idle_sessions();
  if (co_await core->gate.wait_empty(drain)) co_return;
  for (;;) {
    core->cancel_sessions();
    if (co_await core->gate.wait_empty(kStopPatience)) co_return;
    log::warning("{} connections have not ended yet", core->gate.inside());
  }
}

}  // namespace lm::http
