#include "http/admission.h"

#include <gtest/gtest.h>

#include "http/test_peers.h"

namespace lm::http {
namespace {

struct Asked {
  Peer::Kind from = Peer::Kind::kLoopback;
  Headers headers{};
  Method method = Method::kGet;
};

Admission admission() {
  Admission made({.host_names = {"box.lan"},
                  .origins = {"https://page.example"},
                  .user_keys = {"user-key", "other-user-key"},
                  .clients = {{.name = "ci", .key = "ci-key"}, {.name = "nobody", .key = ""}},
                  .admin_keys = {"admin-key"}});
  made.add_bound_address("192.168.1.5");
  return made;
}

// "admin", "user", "none", or the refusal's status and reason, for a route that needs nothing or `needs`.
std::string verdict(const Asked& asked, Principal needs = Principal::kNone) {
  Request request;
  request.method = asked.method;
  request.headers = asked.headers;
  request.peer.kind = asked.from;
  const auto visitor = admission().identify(request);
  if (!visitor) return std::to_string(visitor.error().status) + " " + visitor.error().error.reason;
  if (visitor->preflight) return "preflight";
  if (const auto refusal = Admission::demand(*visitor, needs)) {
    return std::to_string(refusal->status) + " " + refusal->error.reason;
  }
  return visitor->principal == Principal::kAdmin  ? "admin"
         : visitor->principal == Principal::kUser ? "user"
                                                  : "none";
}

TEST(Admission, HostsOnLoopback) {
  for (const char* host : {"localhost", "LocalHost:11435", "localhost.:1", "127.0.0.1:11435", "127.8.9.1",
                           "[::1]:11435", "box.lan:80", "192.168.1.5:11435"}) {
    EXPECT_EQ(verdict({.headers = {{"Host", host}}}), "admin") << host;
  }
  for (const char* host :
       {"evil.example", "evil.example:11435", "localhost.evil.example", "127.0.0.1.evil.example",
        "192.168.1.6", "", "[::2]:1", "0x7f000001", "localhost@evil.example", "[::1"}) {
    EXPECT_EQ(verdict({.headers = {{"Host", host}}}), "403 foreign_host") << host;
  }
  EXPECT_EQ(verdict({}), "403 foreign_host");
}

TEST(Admission, OriginsOnLoopback) {
  const auto from_page = [](const char* origin, const char* host = "localhost:11435") {
    return verdict({.headers = {{"Host", host}, {"Origin", origin}}});
  };
  EXPECT_EQ(from_page("http://localhost:11435"), "admin");
  EXPECT_EQ(from_page("http://localhost:3000"), "admin");
  EXPECT_EQ(from_page("http://127.0.0.1:5173"), "admin");
  EXPECT_EQ(from_page("https://page.example"), "admin");
  EXPECT_EQ(from_page("http://box.lan:11435", "box.lan:11435"), "admin");
  EXPECT_EQ(from_page("http://box.lan", "box.lan:80"), "admin");
  EXPECT_EQ(from_page("http://box.lan:1", "box.lan:11435"), "403 foreign_origin");
  EXPECT_EQ(from_page("http://page.example"), "403 foreign_origin");
  EXPECT_EQ(from_page("https://page.example.evil.example"), "403 foreign_origin");
  EXPECT_EQ(from_page("https://evil.example"), "403 foreign_origin");
  EXPECT_EQ(from_page("null"), "403 foreign_origin");
  EXPECT_EQ(from_page("file://"), "403 foreign_origin");
  // Rebinding: host and origin agree with each other, and are not ours.
  EXPECT_EQ(from_page("http://evil.example:11435", "evil.example:11435"), "403 foreign_host");
  // A foreign page's image has no Origin, but browsers say where it comes from.
  EXPECT_EQ(verdict({.headers = {{"Host", "localhost"},
                                 {"Sec-Fetch-Site", "cross-site"},
                                 {"Sec-Fetch-Mode", "no-cors"}}}),
            "403 foreign_origin");
  EXPECT_EQ(verdict({.headers = {{"Host", "localhost"},
                                 {"Sec-Fetch-Site", "cross-site"},
                                 {"Sec-Fetch-Mode", "navigate"}}}),
            "admin");
}

TEST(Admission, Preflight) {
  const auto preflight = [](const char* origin) {
    return verdict(
        {.headers = {{"Host", "localhost"}, {"Origin", origin}, {"Access-Control-Request-Method", "POST"}},
         .method = Method::kOptions});
  };
  EXPECT_EQ(preflight("https://page.example"), "preflight");
  EXPECT_EQ(preflight("https://evil.example"), "403 foreign_origin");
  // From afar, without a key: browsers send none with a preflight.
  EXPECT_EQ(verdict({.from = Peer::Kind::kRemote,
                     .headers = {{"Host", "x"},
                                 {"Origin", "https://page.example"},
                                 {"Access-Control-Request-Method", "POST"}},
                     .method = Method::kOptions}),
            "preflight");
}

TEST(Admission, KeysFromAfar) {
  const auto with = [](Headers headers, Principal needs) {
    headers.add("Host", "whatever.example");
    return verdict({.from = Peer::Kind::kRemote, .headers = std::move(headers)}, needs);
  };
  EXPECT_EQ(with({}, Principal::kNone), "none");
  EXPECT_EQ(with({}, Principal::kUser), "401 missing_key");
  EXPECT_EQ(with({{"Authorization", "Bearer wrong"}}, Principal::kUser), "401 wrong_key");
  EXPECT_EQ(with({{"Authorization", "Bearer wrong"}}, Principal::kNone), "none");
  EXPECT_EQ(with({{"Authorization", "Bearer user-key"}}, Principal::kUser), "user");
  EXPECT_EQ(with({{"authorization", "bearer other-user-key"}}, Principal::kUser), "user");
  EXPECT_EQ(with({{"x-api-key", "user-key"}}, Principal::kUser), "user");
  EXPECT_EQ(with({{"X-Api-Key", "admin-key"}}, Principal::kAdmin), "admin");
  EXPECT_EQ(with({{"Authorization", "Bearer user-key"}}, Principal::kAdmin), "403 admin_only");
  EXPECT_EQ(with({{"Authorization", "Basic user-key"}}, Principal::kUser), "401 missing_key");
  EXPECT_EQ(with({{"Authorization", "Bearer user-key "}}, Principal::kUser), "401 wrong_key");
  EXPECT_EQ(with({{"Authorization", "Bearer user-ke"}}, Principal::kUser), "401 wrong_key");
  EXPECT_EQ(
      with({{"Authorization", "Bearer user-key"}, {"Origin", "https://evil.example"}}, Principal::kUser),
      "403 foreign_origin");
}

TEST(Admission, AClientIsKnownByItsKey) {
  const auto client = [](Peer::Kind from, const std::string& key) {
    Request request;
    request.headers = {{"Host", "localhost"}, {"Authorization", "Bearer " + key}};
    request.peer.kind = from;
    const auto visitor = admission().identify(request);
    return visitor ? visitor->client + (visitor->principal == Principal::kAdmin  ? " admin"
                                        : visitor->principal == Principal::kUser ? " user"
                                                                                 : " none")
                   : "refused";
  };
  EXPECT_EQ(client(Peer::Kind::kRemote, "ci-key"), "ci user");
  EXPECT_EQ(client(Peer::Kind::kRemote, "user-key"), " user") << "a key without a name";
  EXPECT_EQ(client(Peer::Kind::kRemote, "other"), " none");
  EXPECT_EQ(client(Peer::Kind::kRemote, ""), " none") << "a client whose key is not there is let in by none";
  EXPECT_EQ(client(Peer::Kind::kLoopback, "ci-key"), "ci admin") << "here it needs no key and still is known";
  EXPECT_EQ(client(Peer::Kind::kLoopback, "sk-none"), " admin") << "programs send anything";
}

TEST(Admission, ProxiedRequestsAreNotLocal) {
  EXPECT_EQ(
      verdict({.headers = {{"Host", "localhost"}, {"X-Forwarded-For", "203.0.113.9"}}}, Principal::kUser),
      "401 missing_key");
  EXPECT_EQ(
      verdict(
          {.headers = {{"Host", "localhost"}, {"Forwarded", "for=203.0.113.9"}, {"x-api-key", "user-key"}}},
          Principal::kUser),
      "user");
}

TEST(Admission, UnixSocketsAreTrusted) {
  EXPECT_EQ(verdict({.from = Peer::Kind::kUnix,
                     .headers = {{"Host", "anything"}, {"Origin", "https://evil.example"}}},
                    Principal::kAdmin),
            "admin");
}

TEST(Admission, IsEnforcedByTheServer) {
  Router router;
  router.add(Method::kGet, "/hello", [](Exchange& exchange) -> Task<void> {
    co_await exchange.respond({.status = 200, .headers = {}, .body = "hello"});
  });
  testing::TestServer server(std::move(router));
  auto client = testing::RawSocket::tcp(server.port);
  EXPECT_EQ(client.ask("GET /hello HTTP/1.1\r\nHost: evil.example\r\n\r\n").status, 403);
  const auto good =
      client.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n\r\n");
  EXPECT_EQ(good.body, "hello");
  EXPECT_TRUE(good.has("Access-Control-Allow-Origin: http://localhost:3000\r\n")) << good.head;
  EXPECT_TRUE(good.has("Access-Control-Expose-Headers: *\r\n")) << good.head;
  const auto preflight = client.ask(
      "OPTIONS /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  EXPECT_EQ(preflight.status, 204);
  EXPECT_TRUE(preflight.has("Access-Control-Allow-Methods: ")) << preflight.head;
  EXPECT_EQ(
      client.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n").status,
      403);
}

}  // namespace
}  // namespace lm::http
