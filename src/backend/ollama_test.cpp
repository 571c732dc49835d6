// Ollama, played by tests/fake_ollama, which behaves and lies as recorded.
#include "backend/ollama.h"

#include <csignal>

#include <boost/asio/co_spawn.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/testing/fake_ollama.h"
#include "http/exchange.h"
#include "http/server.h"

namespace lm::backend {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using os::testing::run_until;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class OllamaTest : public ::testing::Test {
 protected:
  void open(std::vector<std::string> arguments = {}, Duration look_limit = 10s) {
    fake.emplace(io, std::move(arguments));
    server = make_ollama(io.get_executor(), {.url = fake->url(), .look_limit = look_limit}).value();
  }
  Result<Sight> look() { return run(io, server->look()); }
  Result<void> load(std::string model) { return run(io, server->load(std::move(model), 20s)); }
  Result<void> yield(Duration limit = 10s) { return run(io, server->yield(limit)); }
  std::vector<std::string> residents() {
    std::vector<std::string> names;
    for (const Resident& resident : look().value().residents) names.push_back(resident.name);
    return names;
  }
  std::string complaint_of_look() {
    const auto sight = look();
    return sight ? "none" : sight.error().message;
  }

  boost::asio::io_context io;
  std::optional<testing::FakeOllama> fake;
  std::shared_ptr<UpstreamServer> server;
};

TEST_F(OllamaTest, ListsItsTags) {
  open({"--model", "qwen3:0.6b,memory=8M", "--model", "tiny,memory=4M", "--model", "mini,kind=embedding"});
  EXPECT_TRUE(server->description().shares_devices);
  EXPECT_EQ(server->description().id, UpstreamId("ollama"));
  EXPECT_EQ(server->api_prefix(), "/v1");
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  ASSERT_THAT(sight->models, SizeIs(3));
  const Model& tagged = sight->models[0];
  EXPECT_EQ(tagged.id, ModelId("ollama_qwen3:0.6b"));
  EXPECT_THAT(tagged.aliases, ElementsAre("qwen3:0.6b"));
  EXPECT_EQ(tagged.family, Family::kOllama);
  EXPECT_EQ(tagged.remote, (Remote{.upstream = UpstreamId("ollama"), .name = "qwen3:0.6b"}));
  EXPECT_EQ(tagged.artifact.size, mib(8));
  EXPECT_EQ(tagged.origin, "Ollama at " + fake->url());
  const Model& latest = sight->models[1];
  EXPECT_EQ(latest.id, ModelId("ollama_tiny:latest"));
  EXPECT_THAT(latest.aliases, ElementsAre("tiny:latest", "ollama_tiny", "tiny"));
  EXPECT_EQ(sight->models[2].kind, ModelKind::kEmbedding);
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(sight->residents, IsEmpty());
}

TEST_F(OllamaTest, LoadsAndGivesUp) {
  open({"--model", "tiny,memory=24M,vram=0.5", "--model", "mini,memory=8M,kind=embedding"});
  ASSERT_TRUE(look());
  EXPECT_TRUE(server->sees_processes());
  EXPECT_THAT(server->processes(), IsEmpty()) << "the server itself holds no model";
  for (int round = 0; round < 3; ++round) {
    for (const char* model : {"tiny:latest", "mini:latest"}) {
      const auto loaded = load(model);
      ASSERT_TRUE(loaded) << loaded.error().message;
    }
    const auto sight = look();
    ASSERT_THAT(sight->residents, SizeIs(2));
    EXPECT_EQ(sight->residents[0], (Resident{.name = "tiny:latest",
                                             .kind = ModelKind::kGeneration,
                                             .bytes = mib(24),
                                             .accelerated = mib(12)}));
    EXPECT_EQ(sight->residents[1].kind, ModelKind::kEmbedding);
    const auto processes = server->processes();
    EXPECT_THAT(processes, SizeIs(2));
    EXPECT_GE(testing::held_by(processes).total(), mib(32));
    const auto yielded = yield();
    ASSERT_TRUE(yielded) << yielded.error().message;
    EXPECT_THAT(residents(), IsEmpty());
    EXPECT_THAT(server->processes(), IsEmpty());
    EXPECT_EQ(testing::held_by(processes), DeviceBytes());
  }
  EXPECT_TRUE(yield()) << "there is nothing to give up";
}

TEST_F(OllamaTest, WhatItCannotLoad) {
  open();
  const auto unknown = load("nothing");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kNotFound);
  EXPECT_THAT(unknown.error().message, HasSubstr("has no model nothing"));
  fake->lie(R"("status": 500, "on": ["/api/generate"])");
  const auto failed = load("tinyllama");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().reason, "bad_upstream");
  EXPECT_THAT(failed.error().message, AllOf(HasSubstr("could not load tinyllama"), HasSubstr("answered 500"),
                                            HasSubstr("llama runner process has terminated")));
}

// Somebody talks to it directly: it goes when the answer has ended, which is told in full.
TEST_F(OllamaTest, ABusyModelIsWaitedFor) {
  open({"--model", "tiny,memory=8M,rate=100"});
  fake->load("tiny");
  std::optional<Answer> answer;
  const Caller other(io.get_executor(), server->client(), {});
  boost::asio::co_spawn(
      io,
      other.post("/api/generate",
                 R"({"model":"tiny","prompt":"x","stream":false,"options":{"num_predict":60}})", now() + 20s),
      [&](std::exception_ptr, Result<Answer> got) { answer = got.value(); });
  // Each question runs the loop, so it is not asked from inside of one.
  const TimePoint patience = now() + 20s;
  while (fake->confess().find("num_predict") == std::string::npos) ASSERT_LT(now(), patience);
  const auto yielded = yield();
  ASSERT_TRUE(yielded) << yielded.error().message;
  ASSERT_TRUE(run_until(io, [&] { return answer.has_value(); }, 5s));
  EXPECT_THAT(answer->body, HasSubstr(R"("eval_count":60)"));
}

// Whoever asked for it does not want it any more.
TEST_F(OllamaTest, ALoadUnderWayIsTakenBack) {
  open({"--model", "slow,memory=8M,load=15"});
  ASSERT_TRUE(look());
  std::optional<Result<void>> loaded;
  boost::asio::co_spawn(io, server->load("slow:latest", 20s),
                        [&](std::exception_ptr, Result<void> result) { loaded = std::move(result); });
  const TimePoint patience = now() + 10s;
  while (fake->confess().find("/api/generate") == std::string::npos) ASSERT_LT(now(), patience);
  ASSERT_TRUE(yield());
  ASSERT_TRUE(run_until(io, [&] { return loaded.has_value(); }, 5s));
  ASSERT_FALSE(*loaded);
  EXPECT_EQ(loaded->error().reason, "load_given_up");
}

// ---- liars

TEST_F(OllamaTest, OneThatHangsInStopping) {
  open({"--model", "tiny,memory=8M"});
  fake->load("tiny");
  fake->lie(R"("hangs_in_stopping": true)");
  const TimePoint began = now();
  const auto yielded = yield(700ms);
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(yielded.error().reason, "still_resident");
  EXPECT_EQ(yielded.error().message,
            fake->url() + " was asked to give up its memory and still shows tiny:latest");
  EXPECT_LT(now() - began, 3s);
  fake->lie("");
  EXPECT_TRUE(yield());
}

TEST_F(OllamaTest, OneThatKeepsTheMemory) {
  open({"--model", "tiny,memory=24M"});
  fake->load("tiny");
  fake->lie(R"("keeps_memory": "hidden")");
  EXPECT_TRUE(yield()) << "it says that it has given it up";
  EXPECT_THAT(residents(), IsEmpty());
  EXPECT_GE(testing::held_by(server->processes()).total(), mib(24)) << "the measurement knows better";
  fake->lie(R"("keeps_memory": "listed")");
  fake->load("tiny");
  EXPECT_EQ(yield(300ms).error().reason, "still_resident");
  fake->lie("");
}

// One that shows what a test wants, answer by answer; the last again and again.
class ScriptedOllama {
 public:
  ScriptedOllama(boost::asio::io_context& io, std::vector<std::vector<std::string>> shown)
      : shown_(std::move(shown)), server_(io.get_executor(), routes(), {}) {
    url = "http://" + server_.listen_tcp("127.0.0.1", 0).value();
  }
  std::string url;
  std::vector<std::string> told;  // the bodies of POST /api/generate

 private:
  http::Router routes() {
    http::Router router;
    router.add(http::Method::kGet, "/api/ps", [this](http::Exchange& exchange) {
      std::string list;
      for (const std::string& name : shown_[std::min(asked_++, shown_.size() - 1)])
        list += fmt::format(R"({}{{"name":"{}"}})", list.empty() ? "" : ",", name);
      return answer(exchange, fmt::format(R"({{"models":[{}]}})", list));
    });
    router.add(http::Method::kPost, "/api/generate", [this](http::Exchange& exchange) {
      told.push_back(exchange.take_body());
      return answer(exchange, R"({"done":true,"done_reason":"unload"})");
    });
    return router;
  }
  static Task<> answer(http::Exchange& exchange, std::string body) {
    co_await exchange.respond({.status = 200, .headers = {}, .body = std::move(body)});
  }

  std::vector<std::vector<std::string>> shown_;
  std::size_t asked_ = 0;
  http::Server server_;
};

TEST_F(OllamaTest, AModelThatComesBackIsToldAgainAtOnce) {
  ScriptedOllama peer(io, {{"a:1", "b:2"}, {"b:2"}, {"a:1", "b:2"}, {"b:2"}, {}});
  server = make_ollama(io.get_executor(), {.url = peer.url}).value();
  EXPECT_TRUE(yield(20s));
  EXPECT_THAT(peer.told, ElementsAre(R"({"model":"a:1","stream":false,"keep_alive":0})",
                                     R"({"model":"b:2","stream":false,"keep_alive":0})",
                                     R"({"model":"a:1","stream":false,"keep_alive":0})"));
}

TEST_F(OllamaTest, OneThatDoesNotGoIsToldAgainAndAgainButRarer) {
  ScriptedOllama peer(io, {{"a:1"}});
  server = make_ollama(io.get_executor(), {.url = peer.url}).value();
  EXPECT_EQ(yield(2300ms).error().reason, "still_resident");
  // At 0, 0.5 and 1.5 s, as late as a poll is apart from the next one.
  EXPECT_THAT(peer.told, SizeIs(3));
}

TEST_F(OllamaTest, OneThatDiesInTheMiddle) {
  open({"--model", "tiny,memory=24M"});
  fake->load("tiny");
  const auto processes = server->processes();
  ASSERT_THAT(processes, SizeIs(1));
  fake->lie(R"("dies_in": "unload", "leaves_child": true)");
  const auto yielded = yield();
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(yielded.error().message, HasSubstr(std::to_string(fake->port())));
  ASSERT_TRUE(run_until(io, [&] { return fake->has_ended(); }));
  EXPECT_THAT(server->processes(), IsEmpty());
  EXPECT_FALSE(server->sees_processes());
  EXPECT_GE(testing::held_by(processes).total(), mib(24)) << "who remembers it can still measure it";
  ::kill(processes.front().pid, SIGKILL);
  EXPECT_THAT(complaint_of_look(), HasSubstr(std::to_string(fake->port())));
}

TEST_F(OllamaTest, Garbage) {
  open({}, 2s);
  const std::pair<const char*, const char*> kinds[] = {
      {"html",
       "GET /api/tags was not answered as Ollama does: the answer is no JSON; it begins with “<html>"},
      {"cut", "the answer is cut off; it begins with “{\"models\":"},
      {"types", "\"models\" is no list"},
      {"deep", "nested too deeply"},
      {"huge", "the answer is larger than"},
      {"not_http", "127.0.0.1"}};
  for (const auto& [kind, said] : kinds) {
    fake->lie(fmt::format(R"("garbage": "{}")", kind));
    EXPECT_THAT(complaint_of_look(), AllOf(HasSubstr(fake->url()), HasSubstr(said))) << kind;
  }
  // Only what is in memory is garbage: above all that is not an empty list.
  for (const char* kind : {"html", "cut", "types", "deep", "not_http"}) {
    fake->lie(fmt::format(R"("garbage": "{}", "on": ["/api/ps"])", kind));
    EXPECT_THAT(complaint_of_look(), HasSubstr(fake->url())) << kind;
    EXPECT_FALSE(yield(1s)) << kind;
  }
  fake->lie("");
  EXPECT_TRUE(look());
}

TEST_F(OllamaTest, SilenceSlownessAnd500s) {
  open({"--model", "tiny,memory=4M"}, 400ms);
  fake->load("tiny");
  fake->lie(R"("silent": true)");
  TimePoint began = now();
  EXPECT_EQ(look().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_LT(now() - began, 2s);
  began = now();
  EXPECT_EQ(yield(400ms).error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_LT(now() - began, 2s);
  fake->lie(R"("status": 500)");
  EXPECT_THAT(complaint_of_look(), HasSubstr("GET /api/tags was answered 500"));
  fake->lie(R"("status": 500, "on": ["/api/generate"])");
  EXPECT_THAT(yield(300ms).error().message,
              AllOf(HasSubstr("still shows tiny:latest; "), HasSubstr("was answered 500")));
  fake->lie(R"("slow_ms": 50)");
  EXPECT_TRUE(look());
  EXPECT_TRUE(yield(5s));
}

TEST_F(OllamaTest, WithoutSizes) {
  open({"--liar", R"({"size_zero": true})", "--model", "tiny,memory=24M"});
  fake->load("tiny");
  EXPECT_EQ(look()->residents.front().bytes, Bytes());
  EXPECT_GE(testing::held_by(server->processes()).total(), mib(24));
}

TEST(Ollama, ElsewhereItSharesNothing) {
  boost::asio::io_context io;
  const auto place = [&](OllamaOptions options) {
    return make_ollama(io.get_executor(), std::move(options)).value()->description().shares_devices;
  };
  EXPECT_TRUE(place({}));
  EXPECT_FALSE(place({.url = "http://192.0.2.7:11434"}));
  EXPECT_TRUE(place({.url = "http://192.0.2.7:11434", .place = Place::kHere}));
  EXPECT_FALSE(place({.place = Place::kElsewhere}));
  const auto bad = make_ollama(io.get_executor(), {.url = "ftp://x"});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().reason, "bad_url");
  // Nothing is asked of one elsewhere: nobody listens at this address.
  const auto server = make_ollama(io.get_executor(), {.url = "http://192.0.2.7:11434"}).value();
  EXPECT_TRUE(run(io, server->yield(5s)));
  EXPECT_THAT(server->processes(), IsEmpty());
}

}  // namespace
}  // namespace lm::backend
