// How answers and connections end: clients that leave, stall or wait; routes that fail; a server that stops.
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/sse.h"
#include "http/test_peers.h"

namespace lm::http {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Event;
using ::testing::HasSubstr;
using testing::RawResponse;
using testing::RawSocket;
using testing::TestServer;

std::string get(std::string_view path) {
  return "GET " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n\r\n";
}

// Sets an event when it goes out of scope: a lease, in the daemon.
struct Guard {
  explicit Guard(Event& e) : event(e) {}
  ~Guard() { event.set(); }
  Event& event;
};

Task<void> wait_forever(asio::any_io_executor executor) {
  asio::steady_timer timer(executor, asio::steady_timer::time_point::max());
  co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
}

Task<void> hello(Exchange& exchange) {
  co_await exchange.respond({.status = 200, .headers = {}, .body = "hello"});
}

// A route that holds something and waits for what never comes.
class Waiting {
 public:
  Event entered;
  Event released;
  std::atomic<bool> went_on{false};

  RouteFunction route() {
    return [this](Exchange& exchange) { return run(exchange); };
  }

 private:
  Task<void> run(Exchange& exchange) {
    const Guard guard(released);
    entered.set();
    co_await wait_forever(exchange.executor());
    co_await exchange.respond({.status = 200, .headers = {}, .body = "late"});
    went_on = true;
  }
};

Router routes_with(RouteFunction waiting) {
  Router router;
  router.add(Method::kGet, "/hello", hello);
  router.add(Method::kGet, "/wait", std::move(waiting));
  return router;
}

TEST(Session, ClientThatLeavesCancelsTheRoute) {
  for (const std::string how : {"close", "reset", "half close"}) {
    Waiting waiting;
    TestServer server(routes_with(waiting.route()));
    auto client = RawSocket::tcp(server.port);
    ASSERT_TRUE(client.send(get("/wait")));
    ASSERT_TRUE(waiting.entered.wait());
    EXPECT_FALSE(waiting.released.is_set());
    if (how == "close") client.close();
    if (how == "reset") client.reset();
    if (how == "half close") client.shutdown_send();
    EXPECT_TRUE(waiting.released.wait()) << how;
    EXPECT_FALSE(waiting.went_on) << how;
  }
}

TEST(Session, PipelinedBytesAreNoDisconnect) {
  Event entered;
  Event may_go_on;
  Event done;
  asio::steady_timer* timer = nullptr;
  Router router = routes_with([&](Exchange& exchange) -> Task<void> {
    return [](Exchange& ex, Event& in, asio::steady_timer*& wake) -> Task<void> {
      asio::steady_timer mine(ex.executor(), asio::steady_timer::time_point::max());
      wake = &mine;
      in.set();
      co_await mine.async_wait(asio::as_tuple(asio::use_awaitable));
      co_await ex.respond({.status = 200, .headers = {}, .body = ex.client_gone() ? "gone" : "here"});
    }(exchange, entered, timer);
  });
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/wait") + get("/hello")));
  ASSERT_TRUE(entered.wait());
  // Far more than is read ahead, so that the watch has to stop reading.
  std::string many;
  for (int i = 0; i < 3000; ++i) many += get("/hello");
  ASSERT_TRUE(client.send(many));
  server.loop.call([&] { timer->cancel(); });
  EXPECT_EQ(client.response().body, "here");
  for (int i = 0; i < 3001; ++i) ASSERT_EQ(client.response().body, "hello") << i;
}

TEST(Session, ClientThatLeavesBehindPipelinedBytesIsNoticed) {
  Waiting waiting;
  TestServer server(routes_with(waiting.route()));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/wait")));
  ASSERT_TRUE(waiting.entered.wait());
  std::string many;
  for (int i = 0; i < 3000; ++i) many += get("/hello");
  ASSERT_TRUE(client.send(many));
  client.close();
  EXPECT_TRUE(waiting.released.wait());
}

TEST(Session, ClientThatLeavesInTheMiddleOfAStreamEndsIt) {
  Event released;
  Event failed;
  Router router;
  std::string reason;
  router.add(Method::kGet, "/flood", [&](Exchange& exchange) {
    return [](Exchange& ex, Event& gone, Event& write_failed, std::string& why) -> Task<void> {
      const Guard guard(gone);
      if (!ex.begin(200, {})) co_return;
      const std::string piece(1000, 'x');
      for (;;) {
        const auto sent = co_await ex.write(piece);
        if (sent) continue;
        why = sent.error().reason;
        write_failed.set();
        co_return;
      }
    }(exchange, released, failed, reason);
  });
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/flood")));
  client.read_exactly(5000);
  client.close();
  ASSERT_TRUE(released.wait());
}

TEST(Session, ClientThatStopsReadingIsCutOff) {
  Event failed;
  std::string reason;
  Router router;
  router.add(Method::kGet, "/flood", [&](Exchange& exchange) {
    return [](Exchange& ex, Event& write_failed, std::string& why) -> Task<void> {
      if (!ex.begin(200, {})) co_return;
      const std::string piece(64u << 10, 'x');
      for (;;) {
        const auto sent = co_await ex.write(piece);
        if (sent) continue;
        why = sent.error().reason;
        write_failed.set();
        co_return;
      }
    }(exchange, failed, reason);
  });
  ServerOptions options;
  options.limits.write_silence = milliseconds(100);
  TestServer server(std::move(router), std::move(options));
  auto client = RawSocket::tcp(server.port, 4096);
  ASSERT_TRUE(client.send(get("/flood")));
  ASSERT_TRUE(failed.wait());
  EXPECT_EQ(reason, "client_stalled");
}

TEST(Session, HeaderTravelsAloneWhenNothingFollows) {
  Event released;
  Router router;
  router.add(Method::kGet, "/events", [&](Exchange& exchange) {
    return [](Exchange& ex, Event& gone) -> Task<void> {
      const Guard guard(gone);
      if (!ex.begin(200, {{"Content-Type", "text/event-stream"}})) co_return;
      co_await wait_forever(ex.executor());
    }(exchange, released);
  });
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/events")));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("text/event-stream"));
  client.close();
  EXPECT_TRUE(released.wait());
}

TEST(Session, HeaderAndFirstPieceAreOneSegment) {
  Router router;
  router.add(Method::kGet, "/stream", [](Exchange& exchange) -> Task<void> {
    if (!exchange.begin(200, {})) co_return;
    co_await exchange.write("first");
    co_await exchange.end();
  });
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/stream")));
  char buffer[4096];
  const ssize_t n = ::recv(client.descriptor(), buffer, sizeof buffer, 0);
  ASSERT_GT(n, 0);
  EXPECT_THAT(std::string(buffer, static_cast<std::size_t>(n)), HasSubstr("\r\n\r\n5\r\nfirst\r\n"));
}

TEST(Session, RouteThatDoesNotAnswerOrThrowsIsA500) {
  Router router;
  router.add(Method::kGet, "/nothing", [](Exchange&) -> Task<void> { co_return; });
  router.add(Method::kGet, "/throws", [](Exchange&) -> Task<void> {
    throw std::runtime_error("as tests do");
    co_return;
  });
  router.add(Method::kGet, "/hello", hello);
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  EXPECT_EQ(client.ask(get("/nothing")).status, 500);
  EXPECT_EQ(client.ask(get("/throws")).status, 500);
  EXPECT_EQ(client.ask(get("/hello")).body, "hello");
}

TEST(Session, AnswerThatIsCutShortIsSeenByTheClient) {
  Router router;
  router.add(Method::kGet, "/half", [](Exchange& exchange) -> Task<void> {
    if (!exchange.begin(200, {})) co_return;
    co_await exchange.write("half");
  });
  router.add(Method::kGet, "/short", [](Exchange& exchange) -> Task<void> {
    if (!exchange.begin(200, {{"Content-Length", "100"}})) co_return;
    EXPECT_FALSE(co_await exchange.end("only this"));
  });
  TestServer server(std::move(router));
  auto half = RawSocket::tcp(server.port);
  ASSERT_TRUE(half.send(get("/half")));
  EXPECT_THAT(half.read_to_end(), ::testing::EndsWith("\r\n4\r\nhalf\r\n"));
  auto brief = RawSocket::tcp(server.port);
  ASSERT_TRUE(brief.send(get("/short")));
  EXPECT_THAT(brief.read_to_end(), ::testing::EndsWith("\r\n\r\nonly this"));
}

TEST(Session, FailSpeaksThroughTheHook) {
  Router router;
  router.add(Method::kGet, "/busy", [](Exchange& exchange) -> Task<void> {
    Error error = fail(ErrorCode::kUnavailable, "later", "model_held").error();
    error.retry_after = milliseconds(1500);
    co_await exchange.fail(503, std::move(error));
  });
  ServerOptions options;
  options.error_body = [](const Error& error, const Request& request) {
    return Body{.content_type = "text/x-error", .text = request.path + " " + error.reason};
  };
  TestServer server(std::move(router), std::move(options));
  auto client = RawSocket::tcp(server.port);
  const RawResponse got = client.ask(get("/busy"));
  EXPECT_EQ(got.status, 503);
  EXPECT_EQ(got.body, "/busy model_held");
  EXPECT_TRUE(got.has("Retry-After: 2\r\n")) << got.head;
  EXPECT_TRUE(got.has("Content-Type: text/x-error\r\n")) << got.head;
}

TEST(Session, TakenOverConnectionsSpeakTheirOwnLanguage) {
  Router router;
  router.add(Method::kGet, "/upgrade", [](Exchange& exchange) -> Task<void> {
    RawStream raw = exchange.take_over();
    co_await raw.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n");
    char buffer[64];
    for (;;) {
      const auto got = co_await raw.read(buffer, seconds(10));
      if (!got || *got == 0) co_return;
      co_await raw.write({buffer, *got});
    }
  });
  TestServer server(std::move(router));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(
      "GET /upgrade HTTP/1.1\r\nHost: localhost\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nearly"));
  EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("101 Switching Protocols"));
  EXPECT_EQ(client.read_exactly(5), "early");
  ASSERT_TRUE(client.send("late"));
  EXPECT_EQ(client.read_exactly(4), "late");
  client.shutdown_send();
  EXPECT_TRUE(client.at_end());
}

TEST(Session, StopLetsRunningAnswersEnd) {
  Event entered;
  asio::steady_timer* timer = nullptr;
  TestServer server(routes_with([&](Exchange& exchange) {
    return [](Exchange& ex, Event& in, asio::steady_timer*& wake) -> Task<void> {
      asio::steady_timer mine(ex.executor(), asio::steady_timer::time_point::max());
      wake = &mine;
      in.set();
      co_await mine.async_wait(asio::as_tuple(asio::use_awaitable));
      co_await ex.respond({.status = 200, .headers = {}, .body = "finished"});
    }(exchange, entered, timer);
  }));
  auto busy = RawSocket::tcp(server.port);
  auto idle = RawSocket::tcp(server.port);
  EXPECT_EQ(idle.ask(get("/hello")).status, 200);
  ASSERT_TRUE(busy.send(get("/wait")));
  ASSERT_TRUE(entered.wait());

  auto stopped = server.stop_async(seconds(60));
  EXPECT_TRUE(idle.at_end());
  EXPECT_NE(stopped.wait_for(seconds(0)), std::future_status::ready);
  server.loop.call([&] { timer->cancel(); });
  const RawResponse got = busy.response();
  EXPECT_EQ(got.body, "finished");
  EXPECT_TRUE(got.has("Connection: close\r\n"));
  EXPECT_EQ(stopped.wait_for(testing::kPatience), std::future_status::ready);
  EXPECT_EQ(server.sessions(), 0u);
}

TEST(Session, StopCancelsWhatDoesNotEnd) {
  Waiting waiting;
  TestServer server(routes_with(waiting.route()));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/wait")));
  ASSERT_TRUE(waiting.entered.wait());
  server.stop(milliseconds(20));
  EXPECT_TRUE(waiting.released.is_set());
  const RawResponse got = client.response();
  EXPECT_EQ(got.status, 503);
  EXPECT_TRUE(client.at_end());
}

TEST(Session, DestroyedServerCutsEverything) {
  Waiting waiting;
  TestServer server(routes_with(waiting.route()));
  auto client = RawSocket::tcp(server.port);
  ASSERT_TRUE(client.send(get("/wait")));
  ASSERT_TRUE(waiting.entered.wait());
  server.loop.call([&] { server.server.reset(); });
  EXPECT_TRUE(waiting.released.wait());
}

TEST(Session, LoopDestroyedWithRunningRoutesLeaksNothing) {
  Waiting waiting;
  {
    TestServer server(routes_with(waiting.route()));
    auto client = RawSocket::tcp(server.port);
    EXPECT_EQ(client.ask(get("/hello")).status, 200);
    ASSERT_TRUE(client.send(get("/wait")));
    ASSERT_TRUE(waiting.entered.wait());
    // Nobody runs the loop again after this: the coroutines die with it.
    server.loop.call([&] { server.server.reset(); });
  }
  EXPECT_TRUE(waiting.released.is_set());
}

// Thousands of waiting streams are the daemon's normal life. Prints what one costs.
TEST(Session, ThousandIdleStreams) {
  constexpr int kStreams = 1000;
  std::atomic<int> open = 0;
  Event all_open;
  Event all_closed;
  Router router;
  router.add(Method::kGet, "/events", [&](Exchange& exchange) {
    return [](Exchange& ex, std::atomic<int>& count, Event& full, Event& empty) -> Task<void> {
      struct Count {
        explicit Count(std::atomic<int>& c, Event& e) : n(c), none(e) {}
        ~Count() {
          if (--n == 0) none.set();
        }
        std::atomic<int>& n;
        Event& none;
      };
      if (++count == kStreams) full.set();
      const Count leaving(count, empty);
      if (!ex.begin(200, {{"Content-Type", "text/event-stream"}})) co_return;
      if (!co_await ex.write(sse_comment("ping"))) co_return;
      co_await wait_forever(ex.executor());
    }(exchange, open, all_open, all_closed);
  });
  TestServer server(std::move(router));
  const auto resident = [] {
    long pages = 0;
    long resident_pages = 0;
    if (FILE* file = std::fopen("/proc/self/statm", "r")) {
      if (std::fscanf(file, "%ld %ld", &pages, &resident_pages) != 2) resident_pages = 0;
      std::fclose(file);
    }
    return resident_pages * ::sysconf(_SC_PAGESIZE);
  };
  const std::string request =
      "GET /events HTTP/1.1\r\nHost: localhost\r\nUser-Agent: some-client/1.0 with a name of usual length\r\n"
      "Accept: text/event-stream\r\nAccept-Encoding: gzip, deflate, br\r\nCache-Control: no-cache\r\n\r\n";
  std::vector<RawSocket> clients;
  clients.reserve(kStreams);
  const long before = resident();
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(RawSocket::tcp(server.port));
    ASSERT_TRUE(clients.back().send(request)) << i;
    ASSERT_THAT(clients.back().read_until("ping\n\n\r\n"), HasSubstr("200 OK")) << i;
  }
  ASSERT_TRUE(all_open.wait());
  const double each = static_cast<double>(resident() - before) / kStreams / 1024.0;
  RecordProperty("kib_per_idle_stream", std::to_string(each));
  std::printf("[          ] %.1f KiB resident for each of %d idle streams\n", each, kStreams);
#if !defined(__SANITIZE_ADDRESS__) && !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer)
  EXPECT_LE(each, 20.0);
#endif
  clients.clear();
  EXPECT_TRUE(all_closed.wait());
}

}  // namespace
}  // namespace lm::http
