#include "os/addresses.h"

#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "os/file.h"

namespace lm::os {
namespace {

TEST(Addresses, OfThisMachine) {
  for (const char* host : {"localhost", "LocalHost", "localhost.", "ollama.localhost", "127.0.0.1",
                           "127.8.9.10", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::1%lo"}) {
    EXPECT_TRUE(is_this_machine(host)) << host;
  }
  std::array<char, 256> own{};
  ASSERT_EQ(::gethostname(own.data(), own.size() - 1), 0);
  EXPECT_TRUE(is_this_machine(own.data()));
}

TEST(Addresses, OfOthers) {
  for (const char* host : {"", "api.openai.com", "localhost.example.org", "mylocalhost", "192.0.2.1",
                           "8.8.8.8", "2001:db8::1", "::2", "127.0.0.1.example.org", "1.0.0.0"}) {
    EXPECT_FALSE(is_this_machine(host)) << host;
  }
}

TEST(Addresses, AFreePortCanBeTaken) {
  const auto port = free_loopback_port();
  ASSERT_TRUE(port);
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  where.sin_port = htons(*port);
  EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&where), sizeof where), 0);
}

}  // namespace
}  // namespace lm::os
