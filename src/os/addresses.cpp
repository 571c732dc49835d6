#include "os/addresses.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cstring>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <unistd.h>

#include "os/file.h"
#include "os/system_error.h"

namespace lm::os {
namespace {

// Every address as one of version 6, so that both spellings of one compare equal.
using Address = std::array<unsigned char, 16>;

Address mapped(const in_addr& v4) {
  Address address{};
  address[10] = address[11] = 0xff;
  std::memcpy(&address[12], &v4, 4);
  return address;
}

std::optional<Address> parse(const std::string& host) {
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return mapped(v4);
  in6_addr v6{};
  // A zone ("fe80::1%eth0") says which way, not who.
  if (::inet_pton(AF_INET6, host.substr(0, host.find('%')).c_str(), &v6) != 1) return std::nullopt;
  Address address;
  std::memcpy(address.data(), &v6, address.size());
  return address;
}

bool is_loopback_or_unspecified(const Address& address) {
  static constexpr Address kZero{};
  const bool leading_zeros = std::equal(address.begin(), address.begin() + 15, kZero.begin());
  if (leading_zeros && address[15] <= 1) return true;  // :: and ::1
  const bool is_v4 = std::equal(address.begin(), address.begin() + 10, kZero.begin()) &&
                     address[10] == 0xff && address[11] == 0xff;
  return is_v4 && (address[12] == 127 || std::equal(address.begin() + 12, address.end(), kZero.begin()));
}

bool is_an_interfaces(const Address& wanted) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return false;
  bool found = false;
  for (const ifaddrs* one = list; one != nullptr && !found; one = one->ifa_next) {
    if (one->ifa_addr == nullptr) continue;
    Address address{};
    if (one->ifa_addr->sa_family == AF_INET) {
      address = mapped(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr);
    } else if (one->ifa_addr->sa_family == AF_INET6) {
      std::memcpy(address.data(), &reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr,
                  address.size());
    } else {
      continue;
    }
    found = address == wanted;
  }
  ::freeifaddrs(list);
  return found;
}

}  // namespace

bool is_this_machine(std::string_view host) {
  std::string name(host);
  std::ranges::transform(name, name.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (name.ends_with('.')) name.pop_back();
  if (const auto address = parse(name))
    return is_loopback_or_unspecified(*address) || is_an_interfaces(*address);
  if (name == "localhost" || name.ends_with(".localhost") || name == "localhost.localdomain" ||
      name == "ip6-localhost") {
    return true;
  }
  std::array<char, 256> own{};
  if (name.empty() || ::gethostname(own.data(), own.size() - 1) != 0) return false;
  std::string ours(own.data());
  std::ranges::transform(ours, ours.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return name == ours;
}

Result<std::uint16_t> free_loopback_port() {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  if (!socket || ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), size) != 0 ||
      ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&where), &size) != 0) {
    return fail(system_error(errno, "looking for a free port"));
  }
  return ntohs(where.sin_port);
}

}  // namespace lm::os
