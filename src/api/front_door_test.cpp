#include "api/front_door.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/test_peers.h"

namespace lm::api {
namespace {

using http::testing::RawSocket;
using http::testing::TestServer;
using ::testing::HasSubstr;

// Never unpacked here.
constexpr std::string_view kPacked = "packed";
const std::vector<http::StaticFile> kPage = {
    {.path = "/", .content_type = "text/html; charset=utf-8", .hash = "a1", .packed = kPacked},
    {.path = "/icon.svg", .content_type = "image/svg+xml", .hash = "b2", .packed = kPacked}};

http::testing::RawResponse ask(std::span<const http::StaticFile> page, std::string_view path,
                               std::string_view accept) {
  http::Router router;
  add_front_door(router, page);
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  return client.ask(
      "GET " + std::string(path) +
      " HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\nAccept: " + std::string(accept) + "\r\n\r\n");
}

TEST(FrontDoor, PeopleMeetTheDashboard) {
  const auto answer = ask(kPage, "/", "text/html,application/xhtml+xml,*/*;q=0.8");
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, kPacked);
  EXPECT_THAT(answer.head, HasSubstr("Content-Security-Policy"));
  EXPECT_THAT(answer.head, HasSubstr("Vary: Accept\r\n"));
  EXPECT_EQ(ask(kPage, "/icon.svg", "image/*").body, kPacked);
}

TEST(FrontDoor, ProgramsMeetWhatTheyLookFor) {
  for (const std::string_view accept : {"*/*", "application/json"})
    EXPECT_EQ(ask(kPage, "/", accept).body, "Ollama is running") << accept;
}

TEST(FrontDoor, WithoutADashboardItSaysSo) {
  const auto answer = ask({}, "/", "text/html");
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.body, HasSubstr("scripts/bootstrap"));
  EXPECT_EQ(ask({}, "/", "*/*").body, "Ollama is running");
}

}  // namespace
}  // namespace lm::api
