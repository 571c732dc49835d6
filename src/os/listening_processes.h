// Which processes of this machine listen on a TCP port, and what they have started: how a server that is not
// ours is found among the processes, so that what it holds can be measured. Reads /proc; knows no name
// server.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "os/process.h"

namespace lm::os {

struct ListeningSocket {
  std::uint64_t inode = 0;
  unsigned user = 0;  // who made it
  auto operator<=>(const ListeningSocket&) const = default;
};

// The sockets that answer connections to `host`:`port` in this network namespace. `host` is an address
// literal without brackets; any other name stands for loopback. Those bound to just that address come before
// those bound to all: only the first kind where there is one.
std::vector<ListeningSocket> listening_sockets(std::string_view host, std::uint16_t port,
                                               const std::filesystem::path& root = "/");

// Everything that `parents` have started and what those have, parents before children, without `parents`
// themselves. A process whose parent has ended belongs to nobody. Reads a small file for each thread of
// each.
std::vector<ProcessIdentity> descendants_of(const std::vector<ProcessIdentity>& parents,
                                            const std::filesystem::path& root = "/");

// Follows the server at one address. One thread. Remembers whose the listening socket is, so that a look
// costs a fraction of a millisecond; finding that out reads the descriptors of every process that this user
// may look into (milliseconds), once for each new socket.
class ListeningProcesses {
 public:
  // `name`: what the server's process is called. Where its descriptors may not be looked into, because it is
  // a service with a user of its own, it is the process of that name and user. Empty: then it is not found.
  ListeningProcesses(std::string host, std::uint16_t port, std::string name = {},
                     std::filesystem::path root = "/");

  struct Found {
    std::vector<ProcessIdentity> listeners;  // those that hold the socket and did not get it from another
    std::vector<ProcessIdentity> descendants;
  };
  // Empty where nothing can be seen: nobody listens, the server is another user's, or it lives behind a
  // forwarded port in a namespace of its own. That is no error.
  Found find();

 private:
  std::string host_;
  std::uint16_t port_;
  std::string name_;
  std::filesystem::path root_;
  std::vector<ListeningSocket> sockets_;  // whose owners are known
  std::vector<ProcessIdentity> owners_;
};

}  // namespace lm::os
