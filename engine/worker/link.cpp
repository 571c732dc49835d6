#include "link.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <unistd.h>

#include "wire/line_buffer.h"

namespace lm::worker {

void Link::send(const wire::FromWorker& message) {
  const std::string line = wire::encode(message);
  const std::scoped_lock lock(sending_);
  std::size_t sent = 0;
  while (sent < line.size()) {
    const auto n = ::write(fd_, line.data() + sent, line.size() - sent);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) ::_exit(0);
    sent += static_cast<std::size_t>(n);
  }
}

void Link::read(const std::function<void(wire::ToWorker)>& order) {
  wire::LineBuffer buffer;
  std::array<char, 16'384> bytes{};
  while (true) {
    const auto n = ::read(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    buffer.append({bytes.data(), static_cast<std::size_t>(n)});
    while (const auto line = buffer.next()) {
      auto message = wire::decode_to_worker(*line);
      if (!message) {
        std::fprintf(stderr, "worker: %s\n", message.error().message.c_str());
      } else if (!*message) {
        std::fprintf(stderr, "worker: an order of an unknown kind was dropped: the daemon is newer\n");
      } else {
        order(std::move(**message));
      }
    }
    if (buffer.overflowed()) return;
  }
}

}  // namespace lm::worker
