// The client against upstreams that answer by hand, and the relay between both ends.
#include "http/client.h"

#include <random>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/blocking.h"
#include "http/relay.h"
#include "http/sse.h"
#include "http/test_peers.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Event;
using ::testing::HasSubstr;
using testing::Loop;
using testing::RawListener;
using testing::RawResponse;
using testing::RawSocket;
using testing::TestServer;

Endpoint at(std::uint16_t port) {
  Endpoint endpoint;
  endpoint.host = "127.0.0.1";
  endpoint.port = port;
  return endpoint;
}

// What one request gave, all of it.
struct Answer {
  int status = 0;
  std::string body;
  std::optional<Error> error;
};

Task<Answer> ask(std::shared_ptr<Client> client, ClientRequest request, Timeouts timeouts) {
  Answer answer;
  auto response = co_await client->send(std::move(request), timeouts);
  if (!response) {
    answer.error = response.error();
    co_return answer;
  }
  answer.status = response->status();
  auto body = co_await response->read_all(64u << 20);
  if (body) {
    answer.body = *body;
  } else {
    answer.error = body.error();
  }
  co_return answer;
}

// A client on a loop of its own, asked from the test's thread.
class Asker {
 public:
  explicit Asker(Endpoint endpoint, ClientOptions options = {}) {
    loop.call(
        [&] { client = std::make_shared<Client>(loop.executor(), std::move(endpoint), std::move(options)); });
  }
  ~Asker() {
    loop.call([&] { client.reset(); });
  }
  std::future<Answer> ask_async(ClientRequest request = {}, Timeouts timeouts = {}) {
    auto promise = std::make_shared<std::promise<Answer>>();
    auto future = promise->get_future();
    asio::post(loop.executor(), [this, promise, request, timeouts] {
      asio::co_spawn(loop.executor(), ask(client, request, timeouts),
                     [promise](std::exception_ptr error, Answer answer) {
                       if (error)
                         promise->set_exception(error);
                       else
                         promise->set_value(std::move(answer));
                     });
    });
    return future;
  }
  Answer ask_now(ClientRequest request = {}, Timeouts timeouts = {}) {
    return finish(ask_async(std::move(request), timeouts));
  }
  static Answer finish(std::future<Answer> future) {
    if (future.wait_for(testing::kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "the client does not return";
      std::abort();
    }
    return future.get();
  }
  std::size_t kept() {
    return loop.call([&] { return client->kept_connections(); });
  }

  Loop loop;
  std::shared_ptr<Client> client;
};

TEST(Endpoint, IsParsed) {
  const auto text = [](std::string_view url) {
    const auto parsed = Endpoint::parse(url);
    return parsed ? parsed->text() : parsed.error().reason;
  };
  EXPECT_EQ(text("http://localhost"), "http://localhost:80");
  EXPECT_EQ(text("https://api.example.com/v1/"), "https://api.example.com:443/v1");
  EXPECT_EQ(text("http://[::1]:11434/"), "http://[::1]:11434");
  EXPECT_EQ(text("HTTP://127.0.0.1:8080/a/b"), "http://127.0.0.1:8080/a/b");
  EXPECT_EQ(text("unix:/run/x.sock"), "unix:/run/x.sock");
  EXPECT_EQ(text("unix:///run/x.sock"), "unix:/run/x.sock");
  for (const char* bad : {"", "localhost:80", "ftp://x", "http://", "http://a:b@c", "http://x?y=z",
                          "http://x:99999", "unix:relative", "http://x y"}) {
    EXPECT_EQ(text(bad), "bad_url") << bad;
  }
}

TEST(Client, SendsWhatItSays) {
  RawListener upstream;
  auto endpoint = at(upstream.port);
  endpoint.base_path = "/v1";
  Asker asker(endpoint);
  auto answer = asker.ask_async(
      {.method = Method::kPost, .target = "/chat?x=1", .headers = {{"X-A", "b"}}, .body = "{}"});
  auto server = upstream.accept();
  EXPECT_EQ(server.read_until("{}"),
            "POST /v1/chat?x=1 HTTP/1.1\r\nHost: 127.0.0.1:" + std::to_string(upstream.port) +
                "\r\nX-A: b\r\nContent-Length: 2\r\n\r\n{}");
  server.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nyes");
  const Answer got = Asker::finish(std::move(answer));
  EXPECT_EQ(got.status, 201);
  EXPECT_EQ(got.body, "yes");
}

// Whatever way the bytes are cut and framed, the body is the same.
TEST(Client, ReadsEveryFramingInAnyPieces) {
  const std::string body = "0123456789abcdefghijklmnopqrstuvwxyz";
  const std::string framings[] = {
      "HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n" + body,
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n0\r\n1a;x\r\n123456789abcdefghijklmnopq\r\n"
      "9\r\nrstuvwxyz\r\n0\r\nTrailer: x\r\n\r\n",
      "HTTP/1.1 200 OK\r\n\r\n" + body,
      "HTTP/1.0 200 OK\r\nX: y\r\n\r\n" + body,
  };
  std::mt19937 random(2);
  for (const std::string& bytes : framings) {
    for (int round = 0; round < 30; ++round) {
      RawListener upstream;
      Asker asker(at(upstream.port));
      auto answer = asker.ask_async();
      auto server = upstream.accept();
      server.read_until("\r\n\r\n");
      for (std::size_t from = 0; from < bytes.size();) {
        const std::size_t n = round == 0 ? bytes.size() : 1 + random() % 20;
        server.send(std::string_view(bytes).substr(from, n));
        from += n;
        std::this_thread::yield();
      }
      server.close();
      const Answer got = Asker::finish(std::move(answer));
      EXPECT_FALSE(got.error) << got.error->message;
      EXPECT_EQ(got.body, body);
    }
  }
}

TEST(Client, KeepsConnections) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  std::optional<testing::RawSocket> server;
  for (int i = 0; i < 3; ++i) {
    auto answer = asker.ask_async();
    if (!server) server = upstream.accept();
    EXPECT_THAT(server->read_until("\r\n\r\n"), HasSubstr("GET / HTTP/1.1"));
    server->send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    EXPECT_EQ(Asker::finish(std::move(answer)).body, "ok");
    EXPECT_EQ(asker.kept(), 1u);
  }
}

TEST(Client, DoesNotKeepWhatIsToBeClosed) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto answer = asker.ask_async();
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  EXPECT_EQ(Asker::finish(std::move(answer)).body, "ok");
  EXPECT_EQ(asker.kept(), 0u);
  EXPECT_TRUE(server.at_end());
}

TEST(Client, KeptConnectionsExpire) {
  RawListener upstream;
  Asker asker(at(upstream.port), {.kept_for = milliseconds(30)});
  auto answer = asker.ask_async();
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(Asker::finish(std::move(answer)).status, 200);
  EXPECT_TRUE(server.at_end());
  EXPECT_EQ(asker.kept(), 0u);
}

// The server's end of a connection that the client keeps after its first answer.
RawSocket kept_connection(RawListener& upstream, Asker& asker) {
  auto answer = asker.ask_async();
  auto connection = upstream.accept();
  connection.read_until("\r\n\r\n");
  connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  Asker::finish(std::move(answer));
  return connection;
}

TEST(Client, StaleConnectionIsReplacedOnce) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto first = kept_connection(upstream, asker);

  // The upstream takes the next request on the kept connection and dies before it answers.
  auto answer = asker.ask_async();
  first.read_until("\r\n\r\n");
  first.reset();
  auto second = upstream.accept();
  second.read_until("\r\n\r\n");
  second.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
  EXPECT_EQ(Asker::finish(std::move(answer)).body, "new");

  // What may not be repeated is not repeated.
  answer = asker.ask_async({.method = Method::kPost, .body = "once"});
  second.read_until("once");
  second.reset();
  const Answer failed = Asker::finish(std::move(answer));
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->reason, "connection_lost");
}

// llama.cpp's server says "Keep-Alive" and closes after each stream all the same.
TEST(Client, WhatMayBeRepeatedSurvivesAServerThatCloses) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto first = kept_connection(upstream, asker);

  auto answer = asker.ask_async({.method = Method::kPost, .body = "what", .repeatable = true});
  first.read_until("what");
  first.close();
  auto second = upstream.accept();
  second.read_until("what");
  second.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
  EXPECT_EQ(Asker::finish(std::move(answer)).body, "new");

  // Once is enough: a server that closes a connection without a past is not asked a third time.
  answer = asker.ask_async({.method = Method::kPost, .body = "again", .repeatable = true});
  second.read_until("again");
  second.close();
  auto third = upstream.accept();
  third.read_until("again");
  third.close();
  const Answer failed = Asker::finish(std::move(answer));
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->reason, "connection_lost");
}

TEST(Client, WhoWasInterruptedIsNotAskedAgain) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto first = kept_connection(upstream, asker);

  const auto interruption = std::make_shared<Interruption>();
  auto answer = asker.ask_async(
      {.method = Method::kPost, .body = "what", .interruption = interruption, .repeatable = true});
  first.read_until("what");
  asker.loop.call([&] { interruption->interrupt(); });
  const Answer failed = Asker::finish(std::move(answer));
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->reason, "connection_lost");
}

TEST(Client, ConnectionClosedWhileKeptIsDropped) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto first = kept_connection(upstream, asker);
  first.close();
  // Even a POST gets a fresh connection: nothing was sent on the dead one.
  auto answer = asker.ask_async({.method = Method::kPost, .body = "once"});
  auto second = upstream.accept();
  second.read_until("once");
  second.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew");
  EXPECT_EQ(Asker::finish(std::move(answer)).body, "new");
}

TEST(Client, CutAnswersAreErrors) {
  const std::string beginnings[] = {
      "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
      "HTTP/1.1 200 OK\r\nConte",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
  };
  for (const std::string& bytes : beginnings) {
    for (const bool hard : {false, true}) {
      RawListener upstream;
      Asker asker(at(upstream.port));
      auto answer = asker.ask_async();
      auto server = upstream.accept();
      server.read_until("\r\n\r\n");
      server.send(bytes);
      if (hard)
        server.reset();
      else
        server.close();
      const Answer got = Asker::finish(std::move(answer));
      ASSERT_TRUE(got.error) << bytes;
      EXPECT_EQ(got.error->code, ErrorCode::kUnavailable) << bytes;
      EXPECT_THAT(got.error->reason, ::testing::AnyOf("bad_upstream", "connection_lost")) << bytes;
      EXPECT_EQ(asker.kept(), 0u);
    }
  }
}

TEST(Client, NonsenseIsABadUpstream) {
  const std::string answers[] = {
      "hello\r\n\r\n",
      "HTTP/1.1 999999 OK\r\n\r\n",
      "HTTP/1.1 200 OK\r\nX: " + std::string(100u << 10, 'x') + "\r\n\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnothex\r\n",
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;" + std::string(100u << 10, 'x'),
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
      "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
  };
  for (const std::string& bytes : answers) {
    RawListener upstream;
    Asker asker(at(upstream.port));
    auto answer = asker.ask_async();
    auto server = upstream.accept();
    server.read_until("\r\n\r\n");
    server.send(bytes);
    const Answer got = Asker::finish(std::move(answer));
    ASSERT_TRUE(got.error) << bytes.substr(0, 80);
    EXPECT_EQ(got.error->code, ErrorCode::kUnavailable);
    EXPECT_EQ(got.error->reason, "bad_upstream") << got.error->message;
    EXPECT_THAT(got.error->message, HasSubstr("http://127.0.0.1:"));
  }
}

TEST(Client, EveryWaitHasItsTimeout) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  Answer got = asker.ask_now({}, {.first_byte = milliseconds(40)});
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(got.error->reason, "first_byte_timeout");
  auto abandoned = upstream.accept();
  abandoned.read_until("\r\n\r\n");
  EXPECT_TRUE(abandoned.at_end());

  auto answer = asker.ask_async({}, {.silence = milliseconds(40)});
  auto silent = upstream.accept();
  silent.read_until("\r\n\r\n");
  silent.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
  got = Asker::finish(std::move(answer));
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->reason, "silence_timeout");

  // A backlog that is full swallows connections.
  const int full = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof where;
  ASSERT_EQ(::bind(full, reinterpret_cast<const sockaddr*>(&where), size), 0);
  ASSERT_EQ(::listen(full, 0), 0);
  ::getsockname(full, reinterpret_cast<sockaddr*>(&where), &size);
  auto filler = RawSocket::tcp(ntohs(where.sin_port));
  Asker stuck(at(ntohs(where.sin_port)));
  got = stuck.ask_now({}, {.connect = milliseconds(60), .first_byte = milliseconds(200)});
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->reason, "connect_timeout") << got.error->message;
  ::close(full);
}

TEST(Client, RefusedConnectionsAreUnavailable) {
  std::uint16_t port = 0;
  {
    RawListener upstream;
    port = upstream.port;
  }
  Answer got = Asker(at(port)).ask_now();
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->code, ErrorCode::kUnavailable);
  EXPECT_EQ(got.error->reason, "connect_failed");
  got = Asker(Endpoint::unix_socket("/nonexistent/socket")).ask_now();
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->reason, "connect_failed");
  Endpoint unknown = at(1);
  unknown.host = "no-such-name.invalid";
  got = Asker(unknown).ask_now();
  ASSERT_TRUE(got.error);
  EXPECT_THAT(got.error->reason, ::testing::AnyOf("connect_failed", "connect_timeout"));
}

TEST(Client, DroppingTheAnswerClosesTheConnection) {
  RawListener upstream;
  Loop loop;
  auto done = loop.spawn([&]() -> Task<void> {
    return [](asio::any_io_executor executor, std::uint16_t port) -> Task<void> {
      Client client(executor, at(port));
      auto response = co_await client.send({});
      EXPECT_TRUE(response);
      const auto piece = co_await response->read();
      EXPECT_TRUE(piece && *piece && **piece == "begin");
    }(loop.executor(), upstream.port);
  });
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
  EXPECT_TRUE(server.at_end());
  EXPECT_EQ(done.wait_for(testing::kPatience), std::future_status::ready);
}

TEST(Client, CancellingTheCoroutineClosesTheConnection) {
  RawListener upstream;
  Loop loop;
  auto client = loop.call([&] { return std::make_shared<Client>(loop.executor(), at(upstream.port)); });
  asio::cancellation_signal signal;
  std::promise<Answer> promise;
  asio::post(loop.executor(), [&] {
    asio::co_spawn(loop.executor(), ask(client, {}, {}),
                   asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr, Answer answer) {
                     promise.set_value(std::move(answer));
                   }));
  });
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  loop.call([&] { signal.emit(asio::cancellation_type::terminal); });
  auto future = promise.get_future();
  ASSERT_EQ(future.wait_for(testing::kPatience), std::future_status::ready);
  const Answer got = future.get();
  ASSERT_TRUE(got.error);
  EXPECT_EQ(got.error->code, ErrorCode::kCancelled);
  EXPECT_TRUE(server.at_end());
  loop.call([&] { client.reset(); });
}

TEST(Client, TalksToOurServerOverAUnixSocketFromBlockingCode) {
  const std::string path = "/tmp/lm_http_client_test." + std::to_string(::getpid()) + ".sock";
  Router router;
  router.add(Method::kPost, "/upper", [](Exchange& exchange) -> Task<void> {
    std::string body = exchange.take_body();
    for (char& c : body) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    co_await exchange.respond({.status = 200, .headers = {}, .body = std::move(body)});
  });
  TestServer server(std::move(router));
  server.loop.call([&] { ASSERT_TRUE(server.server->listen_unix(path)); });
  const Answer got = run_blocking<Answer>([&](asio::any_io_executor executor) {
    return ask(std::make_shared<Client>(executor, Endpoint::unix_socket(path)),
               {.method = Method::kPost, .target = "/upper", .body = "quiet"}, {});
  });
  EXPECT_EQ(got.body, "QUIET");
}

TEST(Client, HeadAnswersHaveNoBody) {
  RawListener upstream;
  Asker asker(at(upstream.port));
  auto answer = asker.ask_async({.method = Method::kHead});
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
  const Answer got = Asker::finish(std::move(answer));
  EXPECT_FALSE(got.error);
  EXPECT_EQ(got.body, "");
  EXPECT_EQ(asker.kept(), 1u);
}

TEST(Client, ReadAllHasALimit) {
  RawListener upstream;
  Loop loop;
  Event checked;
  auto done = loop.spawn([&] {
    return [](asio::any_io_executor executor, std::uint16_t port) -> Task<void> {
      Client client(executor, at(port));
      auto response = co_await client.send({});
      EXPECT_TRUE(response);
      const auto all = co_await response->read_all(10);
      EXPECT_FALSE(all);
      EXPECT_EQ(all.error().reason, "answer_too_large");
    }(loop.executor(), upstream.port);
  });
  auto server = upstream.accept();
  server.read_until("\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world");
  EXPECT_EQ(done.wait_for(testing::kPatience), std::future_status::ready);
}

// Client -> our server -> upstream by hand.
class RelayTest : public ::testing::Test {
 protected:
  RelayTest() {
    Router router;
    router.add(Method::kGet, "/relay", [this](Exchange& exchange) { return relay_route(exchange); });
    server = std::make_unique<TestServer>(std::move(router));
    server->loop.call([&] { client = std::make_unique<Client>(server->loop.executor(), at(upstream.port)); });
  }
  ~RelayTest() override {
    server->stop(Duration::zero());
    server->loop.call([&] { client.reset(); });
  }

  Task<void> relay_route(Exchange& exchange) {
    if (ping_first) {
      EXPECT_TRUE(exchange.begin(200, {{"Content-Type", "text/event-stream"}}));
      co_await exchange.write(sse_comment("loading"));
    }
    auto response = co_await client->send({.target = "/upstream"}, {.silence = seconds(30)});
    if (!response) {
      error = response.error();
      co_await exchange.fail(503, *error);
      ended.set();
      co_return;
    }
    auto report =
        co_await relay(std::move(*response), exchange, [this](std::string_view piece) { seen += piece; });
    if (report) {
      relayed = report->bytes;
    } else {
      error = report.error();
      if (error->reason == "bad_upstream") co_await exchange.end(sse_event(error->reason, "error"));
    }
    ended.set();
  }

  RawListener upstream;
  std::unique_ptr<TestServer> server;
  std::unique_ptr<Client> client;
  bool ping_first = false;
  Event ended;
  std::string seen;
  std::uint64_t relayed = 0;
  std::optional<Error> error;
  const std::string request = "GET /relay HTTP/1.1\r\nHost: localhost\r\n\r\n";
};

TEST_F(RelayTest, PassesOnWhatIsEndToEnd) {
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  up.send(
      "HTTP/1.1 429 Too Many\r\nContent-Type: application/json\r\nX-Hop: 1\r\nX-Kept: 2\r\nConnection: "
      "X-Hop, "
      "keep-alive\r\nKeep-Alive: timeout=5\r\nDate: yesterday\r\nContent-Length: 7\r\n\r\n{\"a\":1}");
  const RawResponse got = down.response();
  EXPECT_EQ(got.status, 429);
  EXPECT_EQ(got.body, "{\"a\":1}");
  EXPECT_TRUE(got.has("X-Kept: 2\r\n"));
  EXPECT_TRUE(got.has("Date: yesterday\r\n"));
  EXPECT_TRUE(got.has("Content-Length: 7\r\n"));
  EXPECT_FALSE(got.has("X-Hop")) << got.head;
  EXPECT_FALSE(got.has("Keep-Alive")) << got.head;
  ASSERT_TRUE(ended.wait());
  EXPECT_EQ(relayed, 7u);
  EXPECT_EQ(seen, "{\"a\":1}");
}

TEST_F(RelayTest, FlushesEachPieceAsItComes) {
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  up.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  EXPECT_THAT(down.read_until("\r\n\r\n"), HasSubstr("text/event-stream"));
  for (int i = 0; i < 20; ++i) {
    const std::string event = sse_event("token " + std::to_string(i));
    up.send(fmt::format("{:x}\r\n{}\r\n", event.size(), event));
    // The next is only sent after this one has arrived.
    EXPECT_EQ(down.read_until(event + "\r\n"), fmt::format("{:x}\r\n{}\r\n", event.size(), event));
  }
  up.send("0\r\n\r\n");
  EXPECT_EQ(down.read_until("0\r\n\r\n"), "0\r\n\r\n");
  EXPECT_TRUE(ended.wait());
}

TEST_F(RelayTest, BodyFollowsPingsThatBeganTheAnswer) {
  ping_first = true;
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  EXPECT_THAT(down.read_until(": loading\n\n\r\n"), HasSubstr("200 OK"));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  up.send("HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\ndata: hi\n\n\n");
  EXPECT_EQ(down.read_until("0\r\n\r\n"), "b\r\ndata: hi\n\n\n\r\n0\r\n\r\n");
}

TEST_F(RelayTest, CutUpstreamLeavesTheExchangeToItsOwner) {
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  up.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
  EXPECT_THAT(down.read_until("begin\r\n"), HasSubstr("200 OK"));
  up.reset();
  EXPECT_THAT(down.read_until("0\r\n\r\n"), HasSubstr("event: error\ndata: bad_upstream\n\n"));
  ASSERT_TRUE(ended.wait());
  ASSERT_TRUE(error);
  EXPECT_EQ(error->number("relayed"), 5);
}

TEST_F(RelayTest, ClientThatLeavesClosesTheUpstream) {
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  up.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n");
  down.read_until("begin\r\n");
  const auto left_at = std::chrono::steady_clock::now();
  down.close();
  EXPECT_TRUE(up.at_end());
  EXPECT_LT(std::chrono::steady_clock::now() - left_at, seconds(2));
}

TEST_F(RelayTest, ClientThatLeavesBeforeTheHeaderClosesTheUpstream) {
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  down.close();
  EXPECT_TRUE(up.at_end());
}

TEST_F(RelayTest, LargeBodiesPassWhole) {
  std::string body(6u << 20, '\0');
  std::mt19937 random(3);
  for (char& c : body) c = static_cast<char>(random());
  auto down = RawSocket::tcp(server->port);
  ASSERT_TRUE(down.send(request));
  auto up = upstream.accept();
  up.read_until("\r\n\r\n");
  std::thread sender([&] {
    up.send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  });
  const RawResponse got = down.response();
  sender.join();
  EXPECT_TRUE(got.body == body);
  ASSERT_TRUE(ended.wait());
  EXPECT_TRUE(seen == body);
}

}  // namespace
}  // namespace lm::http
