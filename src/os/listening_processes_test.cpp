// With real sockets and real children; the machines that one cannot have at hand are folders that look like
// them.
#include "os/listening_processes.h"

#include <arpa/inet.h>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::os {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// A listening socket on a port that the kernel picks.
struct Listener {
  explicit Listener(in_addr_t address = INADDR_LOOPBACK, std::uint16_t wanted = 0)
      : socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(wanted);
    where.sin_addr.s_addr = htonl(address);
    socklen_t size = sizeof where;
    is_bound = ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), size) == 0 &&
               ::listen(socket.get(), 1) == 0;
    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &size);
    port = ntohs(where.sin_port);
  }
  UniqueFd socket;
  std::uint16_t port = 0;
  bool is_bound = false;
};

// A child that runs `then` and waits to be ended; the constructor returns once it is at that.
class Child {
 public:
  explicit Child(const std::function<void()>& then = {}) {
    int ready[2];
    if (::pipe(ready) != 0) throw std::runtime_error("no pipe");
    pid_ = ::fork();
    if (pid_ == 0) {
      if (then) then();
      if (::write(ready[1], "", 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte;
    while (::read(ready[0], &byte, 1) < 0 && errno == EINTR) {
    }
    ::close(ready[0]);
    ::close(ready[1]);
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  ProcessIdentity identity() const { return *identify(pid_); }

 private:
  pid_t pid_ = -1;
};

TEST(ListeningProcesses, FindsTheServerAndWhatItStarted) {
  const Listener listener;
  const Child child([&] { ::close(listener.socket.get()); });
  ListeningProcesses processes("127.0.0.1", listener.port);
  const auto found = processes.find();
  EXPECT_THAT(found.listeners, ElementsAre(*identify(::getpid())));
  EXPECT_THAT(found.descendants, ElementsAre(child.identity()));
  EXPECT_THAT(ListeningProcesses("localhost", listener.port).find().listeners, SizeIs(1));
  EXPECT_THAT(ListeningProcesses("0.0.0.0", listener.port).find().listeners, SizeIs(1));
}

// A child that inherited the socket is still a child.
TEST(ListeningProcesses, WhoInheritedTheSocketIsNoServer) {
  const Listener listener;
  const Child child;
  const auto found = ListeningProcesses("127.0.0.1", listener.port).find();
  EXPECT_THAT(found.listeners, ElementsAre(*identify(::getpid())));
  EXPECT_THAT(found.descendants, ElementsAre(child.identity()));
}

TEST(ListeningProcesses, FollowsAChangeOfServer) {
  auto listener = std::make_unique<Listener>();
  const std::uint16_t port = listener->port;
  ListeningProcesses processes("127.0.0.1", port);
  EXPECT_THAT(processes.find().listeners, ElementsAre(*identify(::getpid())));
  listener.reset();
  EXPECT_THAT(processes.find().listeners, IsEmpty());
  Child server([&] {
    static Listener again(INADDR_LOOPBACK, port);
    if (!again.is_bound) ::_exit(1);
  });
  EXPECT_THAT(processes.find().listeners, ElementsAre(server.identity()));
  EXPECT_THAT(processes.find().listeners, ElementsAre(server.identity())) << "asked again";
  server.end();
  EXPECT_THAT(processes.find().listeners, IsEmpty());
}

// A connection to 127.0.0.1 goes to the socket bound to just that, if there is one.
TEST(ListeningProcesses, TheAddressCounts) {
  const Listener all(INADDR_ANY);
  const auto of_all = listening_sockets("127.0.0.1", all.port);
  EXPECT_THAT(of_all, SizeIs(1));
  EXPECT_EQ(listening_sockets("10.1.2.3", all.port), of_all);
  EXPECT_EQ(listening_sockets("::1", all.port), of_all) << "nobody else could answer there";
  const Listener one(INADDR_LOOPBACK);
  EXPECT_THAT(listening_sockets("127.0.0.1", one.port), SizeIs(1));
  EXPECT_THAT(listening_sockets("127.0.0.2", one.port), IsEmpty());
}

TEST(ListeningProcesses, Version6) {
  const UniqueFd socket(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in6 where{};
  where.sin6_family = AF_INET6;
  where.sin6_addr = in6addr_loopback;
  socklen_t size = sizeof where;
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), size) != 0)
    GTEST_SKIP() << "no IPv6 on this machine";
  ASSERT_EQ(::listen(socket.get(), 1), 0);
  ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &size);
  const std::uint16_t port = ntohs(where.sin6_port);
  EXPECT_THAT(ListeningProcesses("::1", port).find().listeners, ElementsAre(*identify(::getpid())));
  EXPECT_THAT(ListeningProcesses("localhost", port).find().listeners, SizeIs(1));
}

// A container's server behind a forwarded port: its socket is in a table that this process does not see.
TEST(ListeningProcesses, AnotherNetworkNamespaceShowsNothing) {
  int port_of[2];
  ASSERT_EQ(::pipe(port_of), 0);
  const Child child([&] {
    std::uint16_t port = 0;
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 || ::unshare(CLONE_NEWNET) == 0) {
      static Listener listener(INADDR_ANY);
      port = listener.port;
    }
    if (::write(port_of[1], &port, sizeof port) != sizeof port) ::_exit(1);
  });
  std::uint16_t port = 0;
  ASSERT_EQ(::read(port_of[0], &port, sizeof port), ssize_t{sizeof port});
  ::close(port_of[0]);
  ::close(port_of[1]);
  if (port == 0) GTEST_SKIP() << "this user may not make a network namespace";
  EXPECT_THAT(ListeningProcesses("127.0.0.1", port).find().listeners, IsEmpty());
}

// Another user's process: its socket is in the table, its descriptors are not to be seen.
TEST(ListeningProcesses, AnotherUsersShowsNothing) {
  const testing::TemporaryFolder root;
  const auto net = root.path() / "proc/net";
  std::filesystem::create_directories(net);
  std::filesystem::create_directories(root.path() / "proc/77");
  std::ofstream(net / "tcp")
      << "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
         "   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 "
         "0 100 0 0 10 0\n"
         "   1: 0100007F:2CAA 0100007F:9999 01 00000000:00000000 00:00000000 00000000   998        0 4712 1 "
         "0 100 0 0 10 0\n"
         "garbage\n   2: zz:2CAA x 0A\n";
  EXPECT_THAT(listening_sockets("127.0.0.1", 11434, root.path()),
              ElementsAre(ListeningSocket{.inode = 4711, .user = 998}));
  const auto found = ListeningProcesses("127.0.0.1", 11434, "ollama", root.path()).find();
  EXPECT_THAT(found.listeners, IsEmpty());
  EXPECT_THAT(found.descendants, IsEmpty());
}

// A service with a user of its own, as packages install it: known by its name, unless two have it.
TEST(ListeningProcesses, AServicesIsKnownByItsName) {
  const testing::TemporaryFolder root;
  std::filesystem::create_directories(root.path() / "proc/net");
  std::ofstream(root.path() / "proc/net/tcp")
      << "header\n   0: 0100007F:2CAA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 " << ::getuid()
      << " 0 4711\n";
  const auto process = [&](int pid, const std::string& name, int parent) {
    const auto folder = root.path() / "proc" / std::to_string(pid);
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "stat") << pid << " (" << name << ") S " << parent
                                   << " 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 " << pid * 10 << " 0 0\n";
  };
  process(70, "ollama", 1);
  process(71, "ollama", 70);
  process(72, "llama-server", 71);
  process(73, "bash", 1);
  const auto find = [&] { return ListeningProcesses("127.0.0.1", 11434, "ollama", root.path()).find(); };
  EXPECT_THAT(find().listeners, ElementsAre(ProcessIdentity{.pid = 70, .start_ticks = 700}));
  EXPECT_THAT(find().descendants, SizeIs(2));
  process(74, "ollama", 1);
  EXPECT_THAT(find().listeners, IsEmpty()) << "either might be the one";
}

TEST(ListeningProcesses, NothingIsNoError) {
  EXPECT_THAT(ListeningProcesses("127.0.0.1", 1, "", "/no/such/folder").find().listeners, IsEmpty());
  EXPECT_THAT(descendants_of({{.pid = 999'999'999, .start_ticks = 1}}), IsEmpty());
}

TEST(DescendantsOf, ReachesGrandchildrenAndForgetsTheEnded) {
  // Static, so that they are left behind when their parent is ended.
  Child child([] { static const Child one, other; });
  const auto self = *identify(::getpid());
  const auto grandchildren = descendants_of({child.identity()});
  EXPECT_THAT(grandchildren, SizeIs(2));
  EXPECT_THAT(descendants_of({self}),
              ElementsAre(child.identity(), grandchildren.front(), grandchildren.back()));
  child.end();
  EXPECT_THAT(descendants_of({self}), IsEmpty()) << "they have no parent any more";
  for (const ProcessIdentity& orphan : grandchildren) ::kill(orphan.pid, SIGKILL);
}

}  // namespace
}  // namespace lm::os
