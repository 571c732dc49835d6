#include "os/listening_processes.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <netinet/in.h>
#include <optional>
#include <sstream>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace lm::os {
namespace {

namespace fs = std::filesystem;

// Listening sockets come first in the kernel's tables; what is behind this much is connections.
constexpr std::size_t kMostOfTable = std::size_t{8} << 20;
constexpr std::string_view kListening = "0A";
// A chain of processes deeper than this is no server of models.
constexpr std::size_t kMostDescendants = 4096;

// Every address as one of version 6, so that both spellings of one compare equal.
using Address = std::array<unsigned char, 16>;

template <class T>
bool holds(const std::vector<T>& list, const T& value) {
  return std::ranges::find(list, value) != list.end();
}

constexpr Address kMappedZero = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0};

std::vector<Address> addresses_of(std::string_view host) {
  const std::string text(host.substr(0, host.find('%')));
  Address address = kMappedZero;
  if (::inet_pton(AF_INET, text.c_str(), &address[12]) != 1 &&
      ::inet_pton(AF_INET6, text.c_str(), address.data()) != 1) {
    return {Address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1},
            Address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
  }
  // A connection to "all addresses" arrives at loopback.
  if (address == kMappedZero) return {Address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}};
  if (address == Address{}) return {Address{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};
  return {address};
}

// "0100007F" or four of these: words of the address as they lie in memory, each printed as a number.
std::optional<Address> parse_address(std::string_view hex) {
  Address address = kMappedZero;
  if (hex.size() != 8 && hex.size() != 32) return std::nullopt;
  std::size_t at = hex.size() == 8 ? 12 : 0;
  for (std::size_t i = 0; i < hex.size(); i += 8, at += 4) {
    std::uint32_t word = 0;
    const char* end = hex.data() + i + 8;
    if (const auto [stop, error] = std::from_chars(hex.data() + i, end, word, 16);
        error != std::errc() || stop != end) {
      return std::nullopt;
    }
    std::memcpy(&address[at], &word, sizeof word);
  }
  return address;
}

struct Listening {
  Address address{};
  ListeningSocket socket;
};

void read_table(const fs::path& path, std::uint16_t port, std::vector<Listening>& into) {
  std::ifstream table(path);
  std::string line;
  std::getline(table, line);  // the columns' names
  std::size_t read = 0;
  while (read < kMostOfTable && std::getline(table, line)) {
    read += line.size();
    std::istringstream words(line);
    std::string skip, local, state;
    Listening found;
    // sl local_address rem_address st queues timer retransmits uid timeout inode
    if (!(words >> skip >> local >> skip >> state) || state != kListening) continue;
    if (!(words >> skip >> skip >> skip >> found.socket.user >> skip >> found.socket.inode)) continue;
    if (found.socket.inode == 0) continue;
    const auto colon = local.find(':');
    if (colon == std::string::npos) continue;
    unsigned number = 0;
    std::from_chars(local.data() + colon + 1, local.data() + local.size(), number, 16);
    const auto address = parse_address(std::string_view(local).substr(0, colon));
    if (number != port || !address) continue;
    found.address = *address;
    into.push_back(found);
  }
}

// The process ids there are, as far as /proc shows them.
std::vector<pid_t> all_processes(const fs::path& root) {
  std::vector<pid_t> pids;
  std::error_code error;
  for (fs::directory_iterator it(root / "proc", error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    pid_t pid = 0;
    const auto [stop, bad] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (bad == std::errc() && stop == name.data() + name.size()) pids.push_back(pid);
  }
  return pids;
}

bool holds_one_of(pid_t pid, const std::vector<std::string>& links, const fs::path& root) {
  std::error_code error;
  // Another user's: not an error, there is just nothing to see.
  for (fs::directory_iterator it(root / "proc" / std::to_string(pid) / "fd", error), end; !error && it != end;
       it.increment(error)) {
    std::array<char, 64> target{};
    const ssize_t length = ::readlink(it->path().c_str(), target.data(), target.size());
    if (length <= 0) continue;
    if (holds(links, std::string(target.data(), static_cast<std::size_t>(length)))) return true;
  }
  return false;
}

std::vector<ProcessStat> holders_of(const std::vector<ListeningSocket>& sockets,
                                    const std::vector<pid_t>& pids, const fs::path& root) {
  std::vector<std::string> links;
  for (const ListeningSocket& socket : sockets)
    links.push_back("socket:[" + std::to_string(socket.inode) + "]");
  std::vector<ProcessStat> holders;
  for (const pid_t pid : pids) {
    if (!holds_one_of(pid, links, root)) continue;
    if (auto stat = read_process_stat(pid, root)) holders.push_back(std::move(*stat));
  }
  return holders;
}

// A process and its children may have the same name, and all of it may belong to another server of that user:
// the name is taken for proof only where the user has one such family.
std::vector<ProcessStat> of_user(const std::vector<ListeningSocket>& sockets, const std::string& name,
                                 const std::vector<pid_t>& pids, const fs::path& root) {
  std::vector<ProcessStat> named;
  for (const pid_t pid : pids) {
    struct stat folder{};
    if (::stat((root / "proc" / std::to_string(pid)).c_str(), &folder) != 0) continue;
    if (std::ranges::none_of(sockets, [&](const ListeningSocket& s) { return s.user == folder.st_uid; }))
      continue;
    if (auto stat = read_process_stat(pid, root); stat && stat->name == name)
      named.push_back(std::move(*stat));
  }
  const auto roots = std::ranges::count_if(named, [&](const ProcessStat& one) {
    return std::ranges::none_of(named,
                                [&](const ProcessStat& other) { return other.identity.pid == one.parent; });
  });
  return roots == 1 ? named : std::vector<ProcessStat>();
}

// The children of a process, from the kernel's own lists; nullopt where it keeps none.
std::optional<std::vector<pid_t>> listed_children(pid_t pid, const fs::path& root) {
  std::vector<pid_t> children;
  std::error_code error;
  fs::directory_iterator it(root / "proc" / std::to_string(pid) / "task", error);
  if (error) return std::nullopt;
  for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
    const auto list = read_file(it->path() / "children");
    if (!list) {
      // A thread that has just ended is fine; a kernel without these files is not.
      std::error_code ignored;
      if (fs::exists(it->path() / "stat", ignored)) return std::nullopt;
      continue;
    }
    std::istringstream words(*list);
    for (pid_t child = 0; words >> child;) children.push_back(child);
  }
  return children;
}

// All children of everybody, where the kernel keeps no lists: by parent.
std::multimap<pid_t, pid_t> all_children(const fs::path& root) {
  std::multimap<pid_t, pid_t> children;
  for (const pid_t pid : all_processes(root)) {
    if (const auto stat = read_process_stat(pid, root)) children.emplace(stat->parent, pid);
  }
  return children;
}

}  // namespace

std::vector<ListeningSocket> listening_sockets(std::string_view host, std::uint16_t port,
                                               const fs::path& root) {
  std::vector<Listening> all;
  read_table(root / "proc/net/tcp", port, all);
  read_table(root / "proc/net/tcp6", port, all);
  const auto wanted = addresses_of(host);
  std::vector<ListeningSocket> exact, any;
  for (const Listening& one : all) {
    if (holds(wanted, one.address)) exact.push_back(one.socket);
    if (one.address == kMappedZero || one.address == Address{}) any.push_back(one.socket);
  }
  auto& chosen = exact.empty() ? any : exact;
  std::ranges::sort(chosen);
  return chosen;
}

std::vector<ProcessIdentity> descendants_of(const std::vector<ProcessIdentity>& parents,
                                            const fs::path& root) {
  std::vector<ProcessIdentity> family = parents;
  std::optional<std::multimap<pid_t, pid_t>> searched;
  for (std::size_t i = 0; i < family.size() && family.size() < kMostDescendants; ++i) {
    const pid_t parent = family[i].pid;
    std::vector<pid_t> children;
    if (auto listed = searched ? std::nullopt : listed_children(parent, root)) {
      children = std::move(*listed);
    } else {
      if (!searched) searched = all_children(root);
      for (auto [it, end] = searched->equal_range(parent); it != end; ++it) children.push_back(it->second);
    }
    for (const pid_t child : children) {
      const auto stat = read_process_stat(child, root);
      // Its number may be another's by now.
      if (stat && stat->parent == parent && !holds(family, stat->identity)) family.push_back(stat->identity);
    }
  }
  family.erase(family.begin(), family.begin() + static_cast<std::ptrdiff_t>(parents.size()));
  return family;
}

ListeningProcesses::ListeningProcesses(std::string host, std::uint16_t port, std::string name, fs::path root)
    : host_(std::move(host)), port_(port), name_(std::move(name)), root_(std::move(root)) {}

ListeningProcesses::Found ListeningProcesses::find() {
  auto sockets = listening_sockets(host_, port_, root_);
  const bool same = sockets == sockets_ && std::ranges::all_of(owners_, [this](const ProcessIdentity& owner) {
                      const auto stat = read_process_stat(owner.pid, root_);
                      return stat && stat->identity == owner;
                    });
  if (!same) {
    sockets_ = std::move(sockets);
    owners_.clear();
    std::vector<ProcessStat> holders;
    if (!sockets_.empty()) {
      const auto pids = all_processes(root_);
      holders = holders_of(sockets_, pids, root_);
      if (holders.empty() && !name_.empty()) holders = of_user(sockets_, name_, pids, root_);
    }
    for (const ProcessStat& holder : holders) {
      const bool inherited = std::ranges::any_of(
          holders, [&](const ProcessStat& other) { return other.identity.pid == holder.parent; });
      if (!inherited) owners_.push_back(holder.identity);
    }
  }
  return {owners_, descendants_of(owners_, root_)};
}

}  // namespace lm::os
