// The server against clients that speak Engine.IO by hand, over both transports.
#include "socketio/server.h"

#include <future>

#include <boost/json/parse.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/test_peers.h"

namespace lm::socketio {
namespace {

namespace json = boost::json;
using http::testing::kPatience;
using http::testing::RawResponse;
using http::testing::RawSocket;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::chrono::milliseconds kSoon{80};

// Says back what it is told; fills whoever asks with as much as he can take.
class Echo final : public Namespace {
 public:
  explicit Echo(boost::asio::any_io_executor executor) : gate_(std::move(executor)) {}

  Result<Caller> admit(const Caller& caller, const json::object& auth) override {
    if (auth.contains("refuse")) return fail(ErrorCode::kUnauthenticated, "no", "wrong_key");
    return caller;
  }
  void connected(std::shared_ptr<Socket> socket) override {
    socket->emit("welcome", json::array{socket->caller().client});
    here.push_back(std::move(socket));
  }
  void event(const std::shared_ptr<Socket>& socket, Event event) override {
    if (event.name == "ask" && event.id) {
      socket->acknowledge(*event.id, std::move(event.arguments), std::move(event.attachments));
    } else if (event.name == "fill") {
      gate_.start(fill(this, socket, static_cast<int>(event.arguments.at(0).as_int64())));
    } else {
      socket->emit(event.name + "-back", std::move(event.arguments), std::move(event.attachments));
    }
  }
  void disconnected(const std::shared_ptr<Socket>& socket) override { std::erase(here, socket); }

  std::vector<std::shared_ptr<Socket>> here;
  int filled = 0;

 private:
  static Task<> fill(Echo* self, std::shared_ptr<Socket> socket, int pieces) {
    for (int i = 0; i < pieces; ++i) {
      if (!co_await socket->wait_for_room()) co_return;
      socket->emit("piece", json::array{i, std::string(1000, 'x')});
      self->filled = i + 1;
    }
  }
  Gate gate_;
};

ServerOptions quick() {
  ServerOptions options;
  options.timing = {.ping_interval = kSoon, .ping_timeout = kSoon};
  return options;
}

class SocketIo : public ::testing::Test {
 protected:
  void start(ServerOptions options = {}) {
    options.holder_of = [](std::string_view key) -> std::optional<Caller> {
      if (key != "secret") return std::nullopt;
      return Caller{.principal = http::Principal::kAdmin, .client = "page"};
    };
    http_.loop.call([&] {
      echo_ = std::make_unique<Echo>(http_.loop.executor());
      io_ = std::make_unique<Server>(http_.loop.executor(), clock_, std::move(options));
      io_->add_namespace("/", *echo_);
      io_->add_namespace("/other", *echo_);
    });
  }
  ~SocketIo() override {
    if (io_) stop();
    http_.stop(Duration::zero());
    http_.loop.call([&] {
      http_.server.reset();
      io_.reset();
      echo_.reset();
    });
  }
  void stop() {
    auto stopped = http_.loop.spawn([this] { return io_->stop(); });
    ASSERT_EQ(stopped.wait_for(kPatience), std::future_status::ready) << "stop() does not return";
  }
  std::size_t sessions() {
    return http_.loop.call([&] { return io_->sessions(); });
  }
  template <class Fn>
  auto on_loop(Fn fn) {
    return http_.loop.call(std::move(fn));
  }

  RawSocket connect() { return RawSocket::tcp(http_.port); }
  RawResponse ask(std::string_view method, std::string_view query, std::string_view body = {}) {
    auto socket = connect();
    return socket.ask(request(method, query, body));
  }
  static std::string request(std::string_view method, std::string_view query, std::string_view body = {}) {
    return fmt::format("{} /socket.io/?{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{}",
                       method, query, body.size(), body);
  }
  RawResponse get(const std::string& sid) { return ask("GET", "EIO=4&transport=polling&sid=" + sid); }
  RawResponse post(const std::string& sid, std::string_view body) {
    return ask("POST", "EIO=4&transport=polling&sid=" + sid, body);
  }
  std::string open(std::string_view more = {}) {
    const RawResponse opened = ask("GET", fmt::format("EIO=4&transport=polling{}", more));
    EXPECT_EQ(opened.status, 200) << opened.body;
    return sid_in(opened.body);
  }
  static std::string sid_in(std::string_view packet) {
    EXPECT_THAT(packet, StartsWith("0{"));
    return std::string(json::parse(packet.substr(1)).at("sid").as_string());
  }
  // A session in the namespace "/", polling, that was welcomed.
  std::string open_in() {
    const std::string sid = open();
    EXPECT_EQ(post(sid, "40").body, "ok");
    EXPECT_THAT(get(sid).body, HasSubstr("42[\"welcome\""));
    return sid;
  }

  SteadyClock clock_;
  std::unique_ptr<Echo> echo_;
  std::unique_ptr<Server> io_;
  http::testing::TestServer http_{[this] {
    // The server is made later, for each test with options of its own.
    http::Router router;
    const http::Route route{[this](http::Exchange& exchange) { return forward(exchange); },
                            http::Principal::kNone};
    for (const auto method : {http::Method::kGet, http::Method::kPost, http::Method::kPut})
      router.add(method, "/socket.io/", route);
    return router;
  }()};

 private:
  Task<> forward(http::Exchange& exchange) {
    http::Router router;
    io_->add_routes(router, "/socket.io");
    http::Request request = exchange.request();
    const http::Route* route = *router.find(request);
    co_await route->run(exchange);
  }
};

// The client's side of a WebSocket.
class Web {
 public:
  Web(RawSocket socket, const std::string& query) : socket_(std::move(socket)) {
    socket_.send("GET /socket.io/?" + query +
                 " HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n");
    head = socket_.response();
  }
  void send(std::string_view text, unsigned first = 0x81) {
    std::string out(1, static_cast<char>(first));
    if (text.size() < 126) {
      out += static_cast<char>(0x80u | text.size());
    } else {
      const int more = text.size() <= 0xFFFF ? 2 : 8;
      out += static_cast<char>(more == 2 ? 0xFE : 0xFF);
      for (int i = more - 1; i >= 0; --i)
        out += static_cast<char>((std::uint64_t{text.size()} >> (8 * i)) & 0xFF);
    }
    out += std::string(4, '\0');
    socket_.send(out + std::string(text));
  }
  // The next frame's bytes; "close CODE" of a closing one, empty at the end.
  std::string next() {
    const std::string start = socket_.read_exactly(2);
    if (start.size() < 2) return {};
    std::size_t size = static_cast<unsigned char>(start[1]);
    const std::size_t more = size == 126 ? 2 : size == 127 ? 8 : 0;
    if (more != 0) {
      size = 0;
      for (const char c : socket_.read_exactly(more)) size = size << 8 | static_cast<unsigned char>(c);
    }
    std::string bytes = socket_.read_exactly(size);
    kind = start[0] & 0x0F;
    if (kind != 8) return bytes;
    return "close " + std::to_string(static_cast<unsigned char>(bytes.at(0)) * 256 +
                                     static_cast<unsigned char>(bytes.at(1)));
  }
  // The next that is no ping; those are answered.
  std::string next_message() {
    for (;;) {
      std::string text = next();
      if (text != "2") return text;
      send("3");
    }
  }
  bool at_end() { return socket_.at_end(); }
  void leave() { socket_.close(); }

  RawResponse head;
  int kind = 0;

 private:
  RawSocket socket_;
};

constexpr const char* kWeb = "EIO=4&transport=websocket";

TEST_F(SocketIo, OpensASessionByPolling) {
  start();
  const RawResponse opened = ask("GET", "EIO=4&transport=polling");
  ASSERT_EQ(opened.status, 200);
  EXPECT_TRUE(opened.has("text/plain; charset=UTF-8"));
  const json::value said = json::parse(opened.body.substr(1));
  EXPECT_EQ(said.at("sid").as_string().size(), 20u);
  EXPECT_EQ(said.at("upgrades"), json::value(json::array{"websocket"}));
  EXPECT_EQ(said.at("pingInterval"), 25000);
  EXPECT_EQ(said.at("pingTimeout"), 20000);
  EXPECT_EQ(said.at("maxPayload"), 1000000);
  EXPECT_EQ(sessions(), 1u);
}

TEST_F(SocketIo, RefusesWhatItDoesNotSpeak) {
  start();
  const std::vector<std::tuple<std::string, std::string, int>> wrong = {
      {"GET", "transport=polling", 5},
      {"GET", "EIO=3&transport=polling", 5},
      {"GET", "EIO=4", 0},
      {"GET", "EIO=4&transport=flash", 0},
      {"POST", "EIO=4&transport=polling", 2},
      {"PUT", "EIO=4&transport=polling", 2},
      {"GET", "EIO=4&transport=polling&sid=nobody", 1},
      {"POST", "EIO=4&transport=polling&sid=nobody", 1},
      {"GET", "EIO=4&transport=websocket", 3},
  };
  for (const auto& [method, query, code] : wrong) {
    const RawResponse got = ask(method, query, method == "POST" ? "40" : "");
    EXPECT_EQ(got.status, 400) << query;
    EXPECT_EQ(json::parse(got.body).at("code"), code) << query;
  }
  EXPECT_EQ(ask("PUT", "EIO=4&transport=polling&sid=" + open()).status, 400);
  EXPECT_EQ(Web(connect(), std::string(kWeb) + "&sid=nobody").head.status, 400);
}

TEST_F(SocketIo, EventsAndAcknowledgementsByPolling) {
  start();
  const std::string sid = open_in();
  EXPECT_EQ(post(sid,
                 "42[\"hey\",1,{\"a\":[true]}]\x1e"
                 "427[\"ask\",\"x\"]\x1e"
                 "451-[\"bytes\",{\"_placeholder\":true,\"num\":0}]\x1e"
                 "bAQIDBA==")
                .body,
            "ok");
  EXPECT_EQ(get(sid).body,
            "42[\"hey-back\",1,{\"a\":[true]}]\x1e"
            "437[\"x\"]\x1e"
            "451-[\"bytes-back\",{\"_placeholder\":true,\"num\":0}]\x1e"
            "bAQIDBA==");
}

TEST_F(SocketIo, APollWaitsForSomethingToSay) {
  start();
  const std::string sid = open_in();
  auto poll = connect();
  poll.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  EXPECT_EQ(post(sid, "42[\"hey\"]").status, 200);
  EXPECT_EQ(poll.response().body, "42[\"hey-back\"]");
}

TEST_F(SocketIo, SpeaksOverAWebSocketAlone) {
  start();
  Web web(connect(), kWeb);
  ASSERT_EQ(web.head.status, 101);
  const std::string opened = web.next();
  EXPECT_THAT(opened, HasSubstr("\"upgrades\":[]"));
  web.send("40{\"token\":\"x\"}");
  EXPECT_THAT(web.next(), StartsWith("40{\"sid\":\""));
  EXPECT_EQ(web.next(), "42[\"welcome\",\"\"]");
  web.send("42[\"hey\"]");
  EXPECT_EQ(web.next(), "42[\"hey-back\"]");
  web.send("451-9[\"ask\",{\"_placeholder\":true,\"num\":0}]");
  web.send("\x01\x02", 0x82);
  EXPECT_EQ(web.next(), "461-9[{\"_placeholder\":true,\"num\":0}]");
  EXPECT_EQ(web.next(), "\x01\x02");
  EXPECT_EQ(web.kind, 2);
  web.send("ping", 0x89);
  EXPECT_EQ(web.next(), "ping");
  EXPECT_EQ(web.kind, 10);
  // Its polls are not answered.
  EXPECT_EQ(get(sid_in(opened)).status, 400);
  web.send("\x03\xe8", 0x88);
  EXPECT_EQ(web.next(), "close 1000");
  web.leave();
}

TEST_F(SocketIo, MovesFromPollingToAWebSocket) {
  start();
  const std::string sid = open_in();
  auto poll = connect();
  poll.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  Web web(connect(), std::string(kWeb) + "&sid=" + sid);
  ASSERT_EQ(web.head.status, 101);
  web.send("2probe");
  EXPECT_EQ(web.next(), "3probe");
  EXPECT_EQ(poll.response().body, "6") << "a poll that waits is let go";
  // What is said in between travels by polling still, in its order.
  EXPECT_EQ(post(sid, "42[\"one\"]").status, 200);
  EXPECT_EQ(get(sid).body, "42[\"one-back\"]");
  EXPECT_EQ(get(sid).body, "6") << "nor does a later one wait";
  web.send("5");
  web.send("42[\"two\"]");
  EXPECT_EQ(web.next(), "42[\"two-back\"]");
  EXPECT_EQ(get(sid).status, 400);
  EXPECT_EQ(Web(connect(), std::string(kWeb) + "&sid=" + sid).head.status, 400);
  web.send("42[\"three\"]");
  EXPECT_EQ(web.next(), "42[\"three-back\"]") << "others did not harm it";
}

TEST_F(SocketIo, AProbeThatComesToNothingLeavesItPolling) {
  start();
  const std::string sid = open_in();
  {
    Web web(connect(), std::string(kWeb) + "&sid=" + sid);
    web.send("2probe");
    EXPECT_EQ(web.next(), "3probe");
    Web second(connect(), std::string(kWeb) + "&sid=" + sid);
    EXPECT_EQ(second.head.status, 400) << "one at a time";
  }
  EXPECT_EQ(post(sid, "42[\"hey\"]").status, 200);
  EXPECT_EQ(get(sid).body, "42[\"hey-back\"]");
  // Once the server has seen its end, another may try.
  while (Web(connect(), std::string(kWeb) + "&sid=" + sid).head.status != 101) std::this_thread::yield();
}

TEST_F(SocketIo, AWebSocketThatDoesNotProbeIsClosed) {
  start();
  const std::string sid = open_in();
  Web web(connect(), std::string(kWeb) + "&sid=" + sid);
  web.send("42[\"hey\"]");
  EXPECT_EQ(web.next(), "close 1008");
  EXPECT_EQ(post(sid, "42[\"hey\"]").status, 200) << "the session is another matter";
}

TEST_F(SocketIo, EndsWhoMakesNoSense) {
  start();
  for (const std::string body : {"abc", "", "47", "42{}", "42[\"x\"", "b!!", "bAQIDBA==", "2", "5", "0",
                                 "42/none,[\"x\"]", "451-[\"x\"]\u001e42[\"y\"]"}) {
    const std::string sid = open_in();
    EXPECT_EQ(post(sid, body).status, 400) << body;
    EXPECT_EQ(get(sid).status, 400) << body;

    Web web(connect(), kWeb);
    web.next();
    web.send(body);
    EXPECT_THAT(web.next(), StartsWith("close ")) << body;
    web.leave();
  }
  const std::string sid = open();
  EXPECT_EQ(post(sid, "42[\"before\",\"connecting\"]").status, 400);
  EXPECT_EQ(get(sid).status, 400);
}

TEST_F(SocketIo, ASecondPollEndsTheSession) {
  start();
  const std::string sid = open_in();
  auto first = connect();
  first.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  while (!on_loop([&] { return echo_->here.front()->connected() && io_->polls() == 1; }))
    std::this_thread::yield();
  EXPECT_EQ(get(sid).status, 400);
  EXPECT_EQ(first.response().body, "1");
  EXPECT_EQ(get(sid).status, 400);
}

TEST_F(SocketIo, APollThatIsCutEndsTheSession) {
  start();
  const std::string sid = open_in();
  auto poll = connect();
  poll.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  while (on_loop([&] { return io_->polls(); }) != 1) std::this_thread::yield();
  poll.close();
  while (sessions() != 0) std::this_thread::yield();
  EXPECT_EQ(get(sid).status, 400);
}

TEST_F(SocketIo, AClientMayClose) {
  start();
  const std::string sid = open_in();
  auto poll = connect();
  poll.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  while (on_loop([&] { return io_->polls(); }) != 1) std::this_thread::yield();
  EXPECT_EQ(post(sid, "1").status, 200);
  EXPECT_EQ(poll.response().body, "6");
  EXPECT_EQ(get(sid).status, 400);
  EXPECT_TRUE(on_loop([&] { return echo_->here.empty(); }));

  Web web(connect(), kWeb);
  web.next();
  web.send("1");
  EXPECT_EQ(web.next(), "close 1000");
}

TEST_F(SocketIo, PingsAndExpectsAnswers) {
  start(quick());
  const std::string sid = open_in();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(get(sid).body, "2");
    EXPECT_EQ(post(sid, "3").status, 200);
  }
  Web web(connect(), kWeb);
  web.next();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(web.next(), "2");
    web.send("3");
  }
}

TEST_F(SocketIo, EndsWhoDoesNotAnswerPings) {
  start(quick());
  const std::string sid = open();
  Web web(connect(), kWeb);
  web.next();
  EXPECT_EQ(web.next(), "2");
  EXPECT_EQ(web.next(), "close 1000");
  while (sessions() != 0) std::this_thread::yield();
  EXPECT_EQ(get(sid).status, 400);
}

TEST_F(SocketIo, EndsWhoDoesNotConnect) {
  ServerOptions options = quick();
  options.timing.ping_timeout = kPatience;
  options.connect_time = kSoon;
  start(options);
  Web silent(connect(), kWeb);
  silent.next();
  std::string said;
  while ((said = silent.next()) == "2") {
  }
  EXPECT_EQ(said, "close 1000");
}

TEST_F(SocketIo, Namespaces) {
  start();
  Web web(connect(), kWeb);
  web.next();
  web.send("40/random,");
  EXPECT_EQ(web.next(), "44/random,{\"message\":\"Invalid namespace\"}");
  web.send("40/other,");
  EXPECT_THAT(web.next(), StartsWith("40/other,{\"sid\":\""));
  EXPECT_EQ(web.next(), "42/other,[\"welcome\",\"\"]");
  web.send("40");
  web.next();
  web.next();
  EXPECT_EQ(on_loop([&] { return echo_->here.size(); }), 2u);
  web.send("40");  // again: nothing
  web.send("42/other,3[\"ask\"]");
  EXPECT_EQ(web.next(), "43/other,3[]");
  web.send("41/other,");
  web.send("42[\"still\"]");
  EXPECT_EQ(web.next(), "42[\"still-back\"]");
  EXPECT_EQ(on_loop([&] { return echo_->here.size(); }), 1u);
  web.send("42/other,[\"gone\"]");
  EXPECT_EQ(web.next(), "close 1000");
}

TEST_F(SocketIo, SaysWhyItLetsNobodyIn) {
  start();
  Web web(connect(), kWeb);
  web.next();
  web.send("40{\"refuse\":true}");
  EXPECT_EQ(web.next(),
            "44{\"message\":\"no\",\"data\":{\"code\":\"wrong_key\",\"status\":\"unauthenticated\"}}");
  web.send("40");
  EXPECT_THAT(web.next(), StartsWith("40{")) << "it may try again";
}

TEST_F(SocketIo, AKeyMayComeInTheQuery) {
  start();
  // Peers on this machine are admins already; a named key tells no more than they have.
  const std::string sid = open("&key=wrong");
  post(sid, "40");
  EXPECT_THAT(get(sid).body, HasSubstr("[\"welcome\",\"\"]"));
}

TEST_F(SocketIo, LimitsWhatItReads) {
  ServerOptions options;
  options.max_payload = 1000;
  options.sessions = 3;
  start(options);
  const std::string sid = open_in();
  EXPECT_EQ(post(sid, "42[\"x\",\"" + std::string(1000, 'y') + "\"]").status, 413);
  EXPECT_EQ(get(sid).status, 400);
  Web web(connect(), kWeb);
  web.next();
  web.send("42[\"x\",\"" + std::string(1000, 'y') + "\"]");
  EXPECT_EQ(web.next(), "close 1009");
  web.leave();
  while (sessions() != 0) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) open();
  EXPECT_EQ(ask("GET", "EIO=4&transport=polling").status, 503);
  EXPECT_EQ(Web(connect(), kWeb).head.status, 503);
}

TEST_F(SocketIo, ASlowClientLosesNothingAndSlowsNobody) {
  constexpr int kPieces = 20000;  // of a kilobyte each: more than any socket's buffers hold
  start();
  Web slow(RawSocket::tcp(http_.port, 16384), kWeb);
  slow.next();
  slow.send("40");
  slow.next();
  slow.next();
  slow.send("42[\"fill\"," + std::to_string(kPieces) + "]");
  Web quick(connect(), kWeb);
  quick.next();
  quick.send("40");
  quick.next();
  quick.next();
  int before = -1;
  // Until its producer stands still.
  for (int i = 0; i < 50 || before != on_loop([&] { return echo_->filled; }); ++i) {
    before = on_loop([&] { return echo_->filled; });
    quick.send("42[\"hey\"]");
    EXPECT_EQ(quick.next_message(), "42[\"hey-back\"]");
  }
  EXPECT_LT(before, kPieces) << "it was held up";
  for (int i = 0; i < kPieces; ++i) {
    ASSERT_THAT(slow.next_message(), StartsWith("42[\"piece\"," + std::to_string(i) + ",")) << i;
  }
}

TEST_F(SocketIo, StopsPolitely) {
  start();
  const std::string sid = open_in();
  auto poll = connect();
  poll.send(request("GET", "EIO=4&transport=polling&sid=" + sid));
  while (on_loop([&] { return io_->polls(); }) != 1) std::this_thread::yield();
  Web web(connect(), kWeb);
  web.next();
  auto stopped = http_.loop.spawn([this] { return io_->stop(); });
  EXPECT_EQ(poll.response().body, "1");
  EXPECT_EQ(web.next(), "close 1000");
  web.leave();
  EXPECT_EQ(stopped.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(ask("GET", "EIO=4&transport=polling").status, 503);
}

}  // namespace
}  // namespace lm::socketio
