#include "rpc_devices.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <ggml-rpc.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

#include "engine_log.h"

namespace lm::worker {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kServesWithin = std::chrono::seconds(3);
constexpr auto kLivesWithin = std::chrono::milliseconds(200);

// What every version of the protocol begins with: its number, a length, and 24 bytes of abilities, of which
// we offer none. The answer: a length, three numbers of the version and one of padding, and 24 bytes again.
constexpr unsigned char kHello = 14;
constexpr std::size_t kAbilities = 24;
constexpr std::size_t kHelloAnswer = 8 + 4 + kAbilities;

struct Added {
  wire::RpcDevice device;
  ggml_backend_dev_t handle = nullptr;
};
// Written by the main thread before the engine starts threads of its own.
std::vector<Added>& added() {
  static auto* const the = new std::vector<Added>;
  return *the;
}

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket(const Socket&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

bool wait_for(int fd, short what, Clock::time_point deadline) {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  pollfd entry{.fd = fd, .events = what, .revents = 0};
  return left > 0 && ::poll(&entry, 1, static_cast<int>(left)) == 1;
}

// Connected, or nothing.
std::optional<Socket> reach(const std::string& server, Clock::time_point deadline) {
  const auto colon = server.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  addrinfo hints{};
  hints.ai_family = AF_INET;  // as the engine itself
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(server.substr(0, colon).c_str(), server.substr(colon + 1).c_str(), &hints, &found) != 0)
    return std::nullopt;
  Socket socket(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const bool refused = ::connect(socket.fd(), found->ai_addr, found->ai_addrlen) != 0 && errno != EINPROGRESS;
  ::freeaddrinfo(found);
  if (refused || !wait_for(socket.fd(), POLLOUT, deadline)) return std::nullopt;
  int error = 0;
  socklen_t size = sizeof(error);
  ::getsockopt(socket.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) return std::nullopt;
  return socket;
}

// Why the engine is not to be let near it; empty: it serves.
std::string why_not(const std::string& server) {
  const auto deadline = Clock::now() + kServesWithin;
  const auto socket = reach(server, deadline);
  if (!socket) return "does not answer";
  std::array<unsigned char, 1 + 8 + kAbilities> hello{};
  hello[0] = kHello;
  hello[1] = kAbilities;  // little end first, as the engine writes it
  if (::send(socket->fd(), hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size()))
    return "closes its connections";
  std::array<unsigned char, kHelloAnswer> answer{};
  std::size_t have = 0;
  while (have < answer.size()) {
    if (!wait_for(socket->fd(), POLLIN, deadline)) return "is busy with another client";
    const auto got = ::recv(socket->fd(), answer.data() + have, answer.size() - have, 0);
    if (got <= 0) return "is no RPC server of llama.cpp, or of another version";
    have += static_cast<std::size_t>(got);
  }
  if (answer[8] != RPC_PROTO_MAJOR_VERSION || answer[9] > RPC_PROTO_MINOR_VERSION) {
    return fmt::format("speaks version {}.{} of the RPC protocol, and this engine {}.{}", answer[8],
                       answer[9], RPC_PROTO_MAJOR_VERSION, RPC_PROTO_MINOR_VERSION);
  }
  return {};
}

Error lost(const wire::RpcDevice& device, std::string_view why) {
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("device {} is not there: {} {}", device.id.str(), device.server, why),
          .reason = "device_lost",
          .fields = {{"device", device.id.str()}, {"server", device.server}},
          .retry_after = {}};
}

}  // namespace

Result<void> add_rpc_devices(const std::vector<wire::RpcDevice>& devices) {
  for (const wire::RpcDevice& device : devices) {
    const bool known = std::ranges::any_of(
        added(), [&](const Added& other) { return other.device.server == device.server; });
    if (!known) {
      if (const auto why = why_not(device.server); !why.empty()) return fail(lost(device, why));
    }
    auto* server = ggml_backend_rpc_add_server(device.server.c_str());
    if (server == nullptr || static_cast<std::size_t>(device.number) >= ggml_backend_reg_dev_count(server)) {
      return fail(lost(device, "has no such device"));
    }
    if (!known) ggml_backend_register(server);
    auto* handle = ggml_backend_reg_dev_get(server, static_cast<std::size_t>(device.number));
    call_device(ggml_backend_dev_name(handle), device.id.str());
    added().push_back({device, handle});
  }
  return {};
}

ggml_backend_dev_t rpc_device(const DeviceId& id) {
  const auto found = std::ranges::find(added(), id, [](const Added& a) { return a.device.id; });
  return found == added().end() ? nullptr : found->handle;
}

void list_rpc_devices(const std::vector<std::string>& servers, wire::DevicesListed& out) {
  for (const std::string& server : servers) {
    auto why = why_not(server);
    auto* registered = why.empty() ? ggml_backend_rpc_add_server(server.c_str()) : nullptr;
    if (registered == nullptr) {
      out.missing.push_back({.server = server, .why = why.empty() ? "has no device" : std::move(why)});
      continue;
    }
    for (std::size_t i = 0; i < ggml_backend_reg_dev_count(registered); ++i) {
      std::size_t free = 0, total = 0;
      ggml_backend_dev_memory(ggml_backend_reg_dev_get(registered, i), &free, &total);
      out.devices.push_back({.id = {},
                             .kind = DeviceKind::kRpc,
                             .name = fmt::format("device {} of the RPC server {}", i, server),
                             .capacity = Bytes(static_cast<std::int64_t>(total)),
                             .free = Bytes(static_cast<std::int64_t>(free)),
                             .bus = {},
                             .server = server,
                             .number = static_cast<int>(i)});
    }
  }
}

std::optional<wire::RpcDevice> lost_rpc_device() {
  // Whoever lives still accepts connections, although it serves only ours.
  for (const Added& each : added()) {
    if (!reach(each.device.server, Clock::now() + kLivesWithin)) return each.device;
  }
  return std::nullopt;
}

}  // namespace lm::worker
