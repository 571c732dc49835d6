// Times requests over kept connections, as a client sees them: from the first byte sent to the last byte of
// the answer. Each tick asks every target once, in an order that turns, at even distances within the tick, so
// that what a target costs is measured in pairs under the same noise.
//
//   bench-latency --body FILE --target ADDRESS… [--body FILE --target ADDRESS…] [--rate N] [--count N]
//   [--path P]
//
// ADDRESS is unix:PATH or HOST:PORT; --body holds for the targets after it; --rate 0 asks without pause.
// Prints {"whole_ms": [[…] of each target], "first_ms": [[…]]}. A failed request ends it with status 1.
#include <arpa/inet.h>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace {

using SteadyClock = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& why) {
  fmt::print(stderr, "bench-latency: {}\n", why);
  std::exit(1);
}

std::string read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) give_up("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

int connect_to(const std::string& address) {
  if (address.starts_with("unix:")) {
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    const std::string path = address.substr(5);
    if (path.size() >= sizeof to.sun_path) give_up("too long a path: " + path);
    std::memcpy(to.sun_path, path.c_str(), path.size() + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
      give_up(fmt::format("{}: {}", address, std::strerror(errno)));
    return fd;
  }
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) give_up("not an address: " + address);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<std::uint16_t>(std::atoi(address.c_str() + colon + 1)));
  if (inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) != 1)
    give_up("not an IPv4 address: " + address);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0)
    give_up(fmt::format("{}: {}", address, std::strerror(errno)));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

struct Times {
  double first_ms = 0, whole_ms = 0;
};

// One kept connection and what it has timed.
class Target {
 public:
  Target(std::string address, const std::string& path, const std::string& body)
      : address_(std::move(address)),
        request_(
            fmt::format("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                        "Authorization: Bearer bench\r\nUser-Agent: bench\r\nContent-Length: {}\r\n\r\n{}",
                        path, body.size(), body)),
        fd_(connect_to(address_)) {}

  void ask() {
    auto start = SteadyClock::now();
    if (!send_all(request_) || !fill()) {
      // It had closed the kept connection without a word (llama-server does after so many requests): asked
      // anew.
      reconnect();
      start = SteadyClock::now();
      if (!send_all(request_) || !fill()) give_up(address_ + " closes without an answer");
    }
    read_head();
    first.push_back(since(start));
    read_body();
    whole.push_back(since(start));
    if (closing_) reconnect();
  }

  std::vector<double> first, whole;

 private:
  static double since(SteadyClock::time_point start) {
    return std::chrono::duration<double, std::milli>(SteadyClock::now() - start).count();
  }

  // Not timed, which favours a server that keeps no connection.
  void reconnect() {
    close(fd_);
    fd_ = connect_to(address_);
    buffer_.clear();
  }

  bool send_all(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }

  bool fill() {
    char bytes[16384];
    const ssize_t n = recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }

  void need_more() {
    if (!fill()) give_up(address_ + " closed in the middle of an answer");
  }

  std::string take_line() {
    std::size_t end = 0;
    while ((end = buffer_.find("\r\n")) == std::string::npos) need_more();
    std::string line = buffer_.substr(0, end);
    buffer_.erase(0, end + 2);
    return line;
  }

  void skip(std::size_t bytes) {
    while (buffer_.size() < bytes) need_more();
    buffer_.erase(0, bytes);
  }

  void read_head() {
    const std::string status = take_line();
    length_ = 0;
    chunked_ = closing_ = false;
    for (std::string line = take_line(); !line.empty(); line = take_line()) {
      for (char& c : line) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      if (line.starts_with("content-length:")) length_ = std::strtoull(line.c_str() + 15, nullptr, 10);
      if (line.starts_with("transfer-encoding:") && line.find("chunked") != std::string::npos)
        chunked_ = true;
      if (line.starts_with("connection:") && line.find("close") != std::string::npos) closing_ = true;
    }
    if (status.find(" 200") == std::string::npos) {
      while (!chunked_ && buffer_.size() < length_) need_more();
      give_up(fmt::format("{} answered {}: {}", address_, status, buffer_.substr(0, 300)));
    }
  }

  void read_body() {
    if (!chunked_) return skip(length_);
    for (;;) {
      const std::size_t size = std::strtoull(take_line().c_str(), nullptr, 16);
      skip(size + 2);
      if (size == 0) return;
    }
  }

  std::string address_, request_;
  int fd_;
  std::string buffer_;
  std::size_t length_ = 0;
  bool chunked_ = false, closing_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  std::string path = "/v1/chat/completions", body;
  std::vector<std::pair<std::string, std::string>> wanted;  // address, body
  double rate = 50;
  int count = 500;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view option = argv[i];
    if (i + 1 == argc) give_up(fmt::format("{} needs a value", option));
    const std::string value = argv[i + 1];
    if (option == "--body") {
      body = read_whole(value);
    } else if (option == "--target") {
      wanted.emplace_back(value, body);
    } else if (option == "--path") {
      path = value;
    } else if (option == "--rate") {
      rate = std::atof(value.c_str());
    } else if (option == "--count") {
      count = std::atoi(value.c_str());
    } else {
      give_up(fmt::format("unknown option {}", option));
    }
  }
  if (wanted.empty()) give_up("no --target");

  std::vector<Target> targets;
  targets.reserve(wanted.size());
  for (const auto& [address, text] : wanted) targets.emplace_back(address, path, text);

  const auto tick =
      rate > 0 ? std::chrono::duration_cast<SteadyClock::duration>(std::chrono::duration<double>(1 / rate))
               : SteadyClock::duration();
  const auto step = tick / static_cast<int>(targets.size());
  auto due = SteadyClock::now();
  for (int round = 0; round < count; ++round) {
    for (std::size_t i = 0; i < targets.size(); ++i) {
      if (rate > 0) std::this_thread::sleep_until(due);
      targets[(i + static_cast<std::size_t>(round)) % targets.size()].ask();
      due += step;
    }
    // After a stall: go on from here, no burst.
    due = std::max(due, SteadyClock::now() - tick);
  }

  std::vector<std::vector<double>> whole, first;
  for (Target& target : targets) {
    whole.push_back(std::move(target.whole));
    first.push_back(std::move(target.first));
  }
  fmt::print("{{\"whole_ms\": [[{:.4f}]", fmt::join(whole.front(), ", "));
  for (std::size_t i = 1; i < whole.size(); ++i) fmt::print(", [{:.4f}]", fmt::join(whole[i], ", "));
  fmt::print("], \"first_ms\": [[{:.4f}]", fmt::join(first.front(), ", "));
  for (std::size_t i = 1; i < first.size(); ++i) fmt::print(", [{:.4f}]", fmt::join(first[i], ", "));
  fmt::print("]}}\n");
}
