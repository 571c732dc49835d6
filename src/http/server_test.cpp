// The server against sockets that speak HTTP by hand.
#include "http/server.h"

#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/test_peers.h"

namespace lm::http {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Event;
using ::testing::HasSubstr;
using testing::RawResponse;
using testing::RawSocket;
using testing::TestServer;

constexpr std::string_view kGet = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";

Task<void> hello(Exchange& exchange) {
  co_await exchange.respond({.status = 200, .headers = {}, .body = "hello"});
}

// Says back what it understood.
Task<void> echo(Exchange& exchange) {
  std::string text = exchange.request().method_text + " " + exchange.request().path + "\n";
  for (const auto& [name, value] : exchange.request().query) text += "query " + name + "=" + value + "\n";
  for (const auto& [name, value] : exchange.request().path_parameters)
    text += "path " + name + "=" + value + "\n";
  for (const Header& field : exchange.request().headers) text += field.name + ": " + field.value + "\n";
  text += exchange.take_body();
  co_await exchange.respond(
      {.status = 200, .headers = {{"Content-Type", "text/plain"}}, .body = std::move(text)});
}

Task<void> stream(Exchange& exchange) {
  if (!exchange.begin(200, {{"Content-Type", "text/plain"}})) co_return;
  if (!co_await exchange.write("one ")) co_return;
  if (!co_await exchange.write("two ")) co_return;
  co_await exchange.end("three");
}

Router simple_routes() {
  Router router;
  router.add(Method::kGet, "/hello", hello);
  router.add(Method::kPost, "/echo", echo);
  router.add(Method::kGet, "/echo/{one}/{rest...}", echo);
  router.add(Method::kGet, "/stream", stream);
  return router;
}

ServerOptions json_errors(Limits limits = {}) {
  ServerOptions options;
  options.limits = limits;
  options.error_body = [](const Error& error, const Request&) {
    return Body{.content_type = "application/json", .text = "{\"reason\":\"" + error.reason + "\"}"};
  };
  return options;
}

std::string post(std::string_view path, std::string_view body, std::string_view more_headers = {}) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         std::string(more_headers) + "\r\n" + std::string(body);
}

TEST(Server, AnswersAndKeepsTheConnection) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  for (int i = 0; i < 3; ++i) {
    const RawResponse got = client.ask(kGet);
    EXPECT_EQ(got.status, 200);
    EXPECT_EQ(got.body, "hello");
    EXPECT_TRUE(got.has("Content-Length: 5\r\n")) << got.head;
    EXPECT_TRUE(got.has("\r\nDate: ")) << got.head;
    EXPECT_FALSE(got.has("Connection:")) << got.head;
  }
  EXPECT_EQ(server.sessions(), 1u);
}

TEST(Server, ConnectionCloseIsObeyed) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  const RawResponse got = client.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(got.has("Connection: close\r\n")) << got.head;
  EXPECT_TRUE(client.at_end());
}

TEST(Server, OldClientsAreServed) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  EXPECT_EQ(client.ask("GET /hello HTTP/1.0\r\nHost: localhost\r\n\r\n").body, "hello");
  EXPECT_TRUE(client.at_end());

  auto kept = RawSocket::tcp(server.port);
  const std::string_view again = "GET /hello HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n";
  EXPECT_TRUE(kept.ask(again).has("Connection: keep-alive\r\n"));
  EXPECT_EQ(kept.ask(again).body, "hello");

  // A stream of unknown length ends with the connection.
  const RawResponse streamed =
      kept.ask("GET /stream HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n");
  EXPECT_FALSE(streamed.has("chunked")) << streamed.head;
  EXPECT_EQ(streamed.body, "one two three");
}

TEST(Server, PipelinedRequestsAreAnsweredInOrder) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  std::string all;
  for (int i = 0; i < 50; ++i) all += post("/echo", "body " + std::to_string(i) + ";");
  all += "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
  all += kGet;
  ASSERT_TRUE(client.send(all));
  for (int i = 0; i < 50; ++i)
    EXPECT_THAT(client.response().body, HasSubstr("body " + std::to_string(i) + ";"));
  EXPECT_EQ(client.response().body, "one two three");
  EXPECT_EQ(client.response().body, "hello");
}

TEST(Server, StreamsInChunks) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send("GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_EQ(client.read_until("0\r\n\r\n"), "4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n");
}

TEST(Server, TakesChunkedBodies) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  const RawResponse got = client.ask(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;ext=1\r\nhello\r\nA\r\n, 10 bytes\r\n0\r\nX-Trailer: ignored\r\n\r\n");
  EXPECT_THAT(got.body, ::testing::EndsWith("\nhello, 10 bytes"));
  EXPECT_THAT(got.body, ::testing::Not(HasSubstr("X-Trailer")));
  EXPECT_EQ(client.ask(kGet).body, "hello");
}

TEST(Server, DecodesTargets) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  const RawResponse got =
      client.ask("GET /echo/a%2Fb/c/d%20e?x=1+2&y=%26&z HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_THAT(got.body, HasSubstr("GET /echo/a/b/c/d e\n"));
  EXPECT_THAT(got.body, HasSubstr("query x=1 2\nquery y=&\nquery z=\n"));
  EXPECT_THAT(got.body, HasSubstr("path one=a/b\npath rest=c/d e\n"));
  EXPECT_EQ(client.ask("GET http://localhost/hello HTTP/1.1\r\nHost: localhost\r\n\r\n").body, "hello");
}

TEST(Server, HeadHasNoBody) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  const RawResponse got = client.ask("HEAD /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(got.status, 200);
  EXPECT_TRUE(got.has("Content-Length: 5\r\n"));
  EXPECT_EQ(client.ask("HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
  EXPECT_EQ(client.ask(kGet).body, "hello");
}

TEST(Server, ExpectContinue) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(
      "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_THAT(client.ask("body").body, ::testing::EndsWith("\nbody"));

  // A refusal comes instead of the invitation, and the body is not waited for.
  ASSERT_TRUE(client.send(
      "POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"));
  EXPECT_EQ(client.response().status, 404);
  EXPECT_TRUE(client.at_end());

  auto other = RawSocket::tcp(server.port);
  EXPECT_EQ(other.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nExpect: tea\r\n\r\n").status, 417);
}

TEST(Server, UnknownPathsAndMethodsKeepTheConnection) {
  TestServer server(simple_routes(), json_errors());
  auto client = RawSocket::tcp(server.port);
  const RawResponse missing = client.ask("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body, "{\"reason\":\"no_such_route\"}");
  EXPECT_TRUE(missing.has("Content-Type: application/json\r\n"));
  const RawResponse wrong = client.ask("DELETE /hello HTTP/1.1\r\nHost: localhost\r\n\r\n");
  EXPECT_EQ(wrong.status, 405);
  EXPECT_TRUE(wrong.has("Allow: GET, HEAD\r\n")) << wrong.head;
  EXPECT_EQ(client.ask("BREW /hello HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 405);
  EXPECT_EQ(client.ask(kGet).body, "hello");
}

TEST(Server, MalformedRequestsAreRefusedAndCutOff) {
  TestServer server(simple_routes(), json_errors());
  const std::pair<std::string, int> cases[] = {
      {"\x16\x03\x01", 400},
      {"GET /hello\r\n\r\n", 400},
      {"GET /hello HTTP/2.0\r\nHost: a\r\n\r\n", 505},
      {"GET /hello HTTP/1.1\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400},
      {"GET /%zz HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET hello HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost: localhost\r\nbad name: x\r\n\r\n", 400},
      {"GET /hello HTTP/1.1\r\nHost : localhost\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
       400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
       400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
      {"POST /echo HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400},
  };
  for (const auto& [bytes, status] : cases) {
    auto client = RawSocket::tcp(server.port);
    const RawResponse got = client.ask(bytes);
    EXPECT_EQ(got.status, status) << bytes;
    EXPECT_TRUE(got.has("Connection: close\r\n")) << bytes;
    EXPECT_TRUE(client.at_end()) << bytes;
  }
}

TEST(Server, LimitsHeaderAndBody) {
  Limits limits;
  limits.header = Bytes(1024);
  limits.body = Bytes(4096);
  TestServer server(simple_routes(), json_errors(limits));

  auto fits = RawSocket::tcp(server.port);
  EXPECT_EQ(
      fits.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(900, 'x') + "\r\n\r\n").status,
      200);
  EXPECT_EQ(fits.ask(post("/echo", std::string(4096, 'b'))).status, 200);

  auto header = RawSocket::tcp(server.port);
  EXPECT_EQ(header.ask("GET /hello HTTP/1.1\r\nHost: localhost\r\nX: " + std::string(2000, 'x') + "\r\n\r\n")
                .status,
            431);
  EXPECT_TRUE(header.at_end());
  // Without an end it is refused as soon as it is too long, also in small fields.
  auto endless = RawSocket::tcp(server.port);
  std::string fields = "GET /hello HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 100; ++i) fields += "A: 0123456789\r\n";
  EXPECT_EQ(endless.ask(fields).status, 431);

  auto body = RawSocket::tcp(server.port);
  const RawResponse too_large = body.ask(post("/echo", std::string(4097, 'b')));
  EXPECT_EQ(too_large.status, 413);
  EXPECT_EQ(too_large.body, "{\"reason\":\"body_too_large\"}");
  auto chunked = RawSocket::tcp(server.port);
  EXPECT_EQ(chunked
                .ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                     "800\r\n" +
                     std::string(0x800, 'x') + "\r\n801\r\n" + std::string(0x801, 'x') + "\r\n0\r\n\r\n")
                .status,
            413);
  auto extension = RawSocket::tcp(server.port);
  EXPECT_EQ(extension
                .ask("POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
                     std::string(5000, 'x'))
                .status,
            431);
}

TEST(Server, RefusalSurvivesABodyThatIsStillComing) {
  Limits limits;
  limits.body = Bytes(4096);
  TestServer server(simple_routes(), json_errors(limits));
  auto client = RawSocket::tcp(server.port);
  // More than socket buffers hold: the server reads it away, so no reset overtakes the answer.
  ASSERT_TRUE(client.send(post("/echo", std::string(2u << 20, 'b'))));
  EXPECT_EQ(client.response().status, 413);
}

TEST(Server, SlowHeadersAndBodiesTimeOut) {
  Limits limits;
  limits.header_time = milliseconds(60);
  limits.body_silence = milliseconds(60);
  limits.idle = seconds(60);
  TestServer server(simple_routes(), json_errors(limits));
  auto header = RawSocket::tcp(server.port);
  ASSERT_TRUE(header.send("GET /hello HTTP/1.1\r\nHo"));
  EXPECT_EQ(header.response().status, 408);
  EXPECT_TRUE(header.at_end());
  auto body = RawSocket::tcp(server.port);
  ASSERT_TRUE(body.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"));
  EXPECT_EQ(body.response().status, 408);
  EXPECT_TRUE(body.at_end());
}

TEST(Server, DripFedHeaderTimesOutAsAWhole) {
  Limits limits;
  limits.header_time = milliseconds(100);
  TestServer server(simple_routes(), json_errors(limits));
  auto client = RawSocket::tcp(server.port);
  // Each byte comes at once after the last; only the whole is late. Ends by the server's answer, or fails by
  // the test's limit.
  std::atomic<bool> answered = false;
  std::thread dripper([&] {
    client.send("GET /hello HTTP/1.1\r\nX: ");
    for (int i = 0; i < 20000 && !answered; ++i) {
      client.send("x");
      std::this_thread::yield();
    }
  });
  const RawResponse got = client.response();
  answered = true;
  dripper.join();
  EXPECT_THAT(got.status, ::testing::AnyOf(408, 431));
}

TEST(Server, IdleConnectionsAreClosedWithoutAWord) {
  Limits limits;
  limits.idle = milliseconds(50);
  TestServer server(simple_routes(), json_errors(limits));
  auto silent = RawSocket::tcp(server.port);
  EXPECT_EQ(silent.read_to_end(), "");
  auto used = RawSocket::tcp(server.port);
  EXPECT_EQ(used.ask(kGet).status, 200);
  EXPECT_EQ(used.read_to_end(), "");
}

TEST(Server, TooManyConnectionsAreTurnedAway) {
  Limits limits;
  limits.connections = 2;
  TestServer server(simple_routes(), json_errors(limits));
  auto first = RawSocket::tcp(server.port);
  auto second = RawSocket::tcp(server.port);
  EXPECT_EQ(first.ask(kGet).status, 200);
  EXPECT_EQ(second.ask(kGet).status, 200);
  auto third = RawSocket::tcp(server.port);
  const RawResponse refused = third.ask(kGet);
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.body, "{\"reason\":\"too_many_connections\"}");
  EXPECT_TRUE(refused.has("Retry-After: 1\r\n"));
  EXPECT_EQ(first.ask(kGet).status, 200);
}

// The same bytes in any pieces are the same requests.
TEST(Server, AnySplitOfTheBytesGivesTheSameAnswers) {
  TestServer server(simple_routes());
  const std::string bytes = "\r\n" + post("/echo", "first body", "X-One: 1\r\n") +
                            "POST /echo?a=b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
                            "chunked\r\n\r\n3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n" +
                            std::string(kGet) + "GET /echo/x/y%20z HTTP/1.1\r\nHost: localhost\r\n\r\n";
  const auto answers = [&](const std::vector<std::size_t>& cuts) {
    auto client = RawSocket::tcp(server.port);
    std::size_t from = 0;
    for (const std::size_t cut : cuts) {
      client.send(std::string_view(bytes).substr(from, cut - from));
      from = cut;
      std::this_thread::yield();
    }
    client.send(std::string_view(bytes).substr(from));
    std::vector<std::string> bodies;
    for (int i = 0; i < 4; ++i) bodies.push_back(client.response().body);
    return bodies;
  };
  const auto whole = answers({});
  ASSERT_THAT(whole[0], HasSubstr("first body"));
  ASSERT_THAT(whole[1], HasSubstr("abc0123456789abcdef"));
  ASSERT_THAT(whole[3], HasSubstr("path rest=y z"));
  std::mt19937 random(20261120);
  for (int round = 0; round < 100; ++round) {
    std::vector<std::size_t> cuts(1 + random() % 30);
    for (auto& cut : cuts) cut = random() % bytes.size();
    std::sort(cuts.begin(), cuts.end());
    EXPECT_EQ(answers(cuts), whole) << "round " << round;
  }
}

TEST(Server, LargeBodiesBothWays) {
  TestServer server(simple_routes());
  auto client = RawSocket::tcp(server.port);
  std::string body(5u << 20, '\0');
  std::mt19937 random(7);
  for (char& c : body) c = static_cast<char>('a' + random() % 26);
  std::thread sender([&] { client.send(post("/echo", body)); });
  const RawResponse got = client.response();
  sender.join();
  EXPECT_TRUE(got.body.ends_with("\n" + body));
}

TEST(Server, UnixSocketIsPrivateReplacedAndRemoved) {
  const std::string path = "/tmp/lm_http_test." + std::to_string(::getpid()) + ".sock";
  {
    // What a dead server leaves behind.
    const int dead = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un where{};
    where.sun_family = AF_UNIX;
    std::memcpy(where.sun_path, path.c_str(), path.size() + 1);
    ASSERT_EQ(::bind(dead, reinterpret_cast<const sockaddr*>(&where), sizeof where), 0);
    ::close(dead);
  }
  Router router;
  Peer::Kind peer = Peer::Kind::kRemote;
  Principal principal = Principal::kNone;
  router.add(Method::kGet, "/hello", [&](Exchange& exchange) {
    peer = exchange.request().peer.kind;
    principal = exchange.principal();
    return hello(exchange);
  });
  {
    TestServer server(std::move(router));
    server.loop.call([&] {
      const auto bound = server.server->listen_unix(path);
      ASSERT_TRUE(bound) << bound.error().message;
      const auto again = server.server->listen_unix(path);
      ASSERT_FALSE(again);
      EXPECT_EQ(again.error().reason, "address_in_use");
    });
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms(0600));
    auto client = RawSocket::local(path);
    EXPECT_EQ(client.ask("GET /hello HTTP/1.1\r\nHost: anything\r\n\r\n").body, "hello");
    EXPECT_EQ(peer, Peer::Kind::kUnix);
    EXPECT_EQ(principal, Principal::kAdmin);
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(Server, ListeningFailsWithAReason) {
  TestServer server(simple_routes());
  server.loop.call([&] {
    EXPECT_EQ(server.server->listen_tcp("127.0.0.1", server.port).error().reason, "address_in_use");
    EXPECT_EQ(server.server->listen_tcp("0.0.0.0", 0).error().reason, "keys_needed");
    EXPECT_EQ(server.server->listen_tcp("not an address", 0).error().reason, "bad_address");
    EXPECT_EQ(server.server->listen_unix(std::string(200, 'x')).error().reason, "bad_address");
    const auto v6 = server.server->listen_tcp("::1", 0);
    if (v6) EXPECT_THAT(*v6, ::testing::StartsWith("[::1]:"));
  });
}

}  // namespace
}  // namespace lm::http
