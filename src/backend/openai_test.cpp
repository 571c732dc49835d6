// OpenAI-compatible servers of every kind, as they answer and as they should not.
#include "backend/openai.h"

#include <map>
#include <set>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/memory_control.h"
#include "http/test_peers.h"

namespace lm::backend {
namespace {

using http::Exchange;
using http::Method;
using http::testing::Loop;
using http::testing::RawListener;
using http::testing::TestServer;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using namespace std::chrono_literals;

// A server whose answers are functions of what was asked; everything on its own thread.
class Peer {
 public:
  struct Reply {
    int status = 200;
    std::string body;
  };
  using Route = std::function<Reply(const http::Request&)>;

  // Called before start().
  void on(Method method, const std::string& path, Route route) { routes_[{method, path}] = std::move(route); }
  void on(const std::string& path, Route route) { on(Method::kGet, path, std::move(route)); }

  void start() {
    http::Router router;
    // One handler for all, which knows what it was not told of.
    for (const Method method : {Method::kGet, Method::kPost}) {
      router.add(method, "/{path...}", [this](Exchange& exchange) -> Task<> {
        const http::Request& request = exchange.request();
        asked.push_back(fmt::format("{} {}", request.method_text, request.target));
        authorization.insert(std::string(request.headers.get("Authorization").value_or("")));
        const auto it = routes_.find({request.method, request.path});
        const Reply reply = it == routes_.end() ? unknown : it->second(request);
        co_await exchange.respond(
            {.status = reply.status, .headers = {{"Content-Type", "application/json"}}, .body = reply.body});
      });
    }
    server = std::make_unique<TestServer>(std::move(router));
  }
  std::string url(std::string_view path = "/v1") const {
    return fmt::format("http://127.0.0.1:{}{}", server->port, path);
  }

  Reply unknown{404, R"({"detail":"Not Found"})"};
  std::vector<std::string> asked;
  std::set<std::string> authorization;
  std::unique_ptr<TestServer> server;

 private:
  std::map<std::pair<Method, std::string>, Route> routes_;
};

class OpenAiServer : public ::testing::Test {
 protected:
  ~OpenAiServer() override {
    if (upstream) loop().call([&] { upstream.reset(); });
  }
  Loop& loop() { return peer.server ? peer.server->loop : own_loop; }

  void open(OpenAiOptions options = {}) {
    if (!peer.server) peer.start();
    if (options.name.empty()) options.name = "lab";
    if (options.base_url.empty()) options.base_url = peer.url();
    auto made = make_openai(loop().executor(), std::move(options));
    ASSERT_TRUE(made) << made.error().message;
    loop().call([&] { upstream = *made; });  // the one before belongs to the loop's thread
  }

  template <class T>
  T run(std::function<Task<T>()> make) {
    auto result = std::make_shared<std::optional<T>>();
    auto done = loop().spawn([result, make]() -> Task<> { return keep(result, make); });
    if (done.wait_for(http::testing::kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "the upstream does not return";
      std::abort();
    }
    done.get();
    return std::move(**result);
  }
  template <class T>
  static Task<> keep(std::shared_ptr<std::optional<T>> result, std::function<Task<T>()> make) {
    result->emplace(co_await make());
  }
  Result<Sight> look() {
    return run<Result<Sight>>([this] { return upstream->look(); });
  }
  Result<void> yield(Duration limit = 10s) {
    return run<Result<void>>([this, limit] { return upstream->yield(limit); });
  }
  Result<void> load(std::string model, Duration limit = 10s) {
    return run<Result<void>>([this, model, limit] { return upstream->load(model, limit); });
  }

  Peer peer;
  Loop own_loop;
  std::shared_ptr<UpstreamServer> upstream;
};

std::vector<std::string> names(const std::vector<Resident>& residents) {
  std::vector<std::string> out;
  for (const Resident& resident : residents) out.push_back(resident.name);
  return out;
}

std::string text_of(const http::Request& request, std::string_view field) {
  return wire::decode_text(request.body, field);
}

TEST(ApiBase, IsTakenApartAtTheVersion) {
  const auto parts = [](std::string_view url) {
    const auto base = parse_api_base(url);
    return base ? base->root.text() + " " + base->prefix : base.error().reason;
  };
  EXPECT_EQ(parts("http://h:8000"), "http://h:8000 /v1");
  EXPECT_EQ(parts("http://h:8000/"), "http://h:8000 /v1");
  EXPECT_EQ(parts("http://h:8000/v1"), "http://h:8000 /v1");
  EXPECT_EQ(parts("http://h:8000/v1/"), "http://h:8000 /v1");
  EXPECT_EQ(parts("http://h:8000/llm"), "http://h:8000/llm /v1");
  EXPECT_EQ(parts("https://openrouter.ai/api/v1"), "https://openrouter.ai:443/api /v1");
  EXPECT_EQ(parts("https://h/v1beta/openai"), "https://h:443 /v1beta/openai");
  EXPECT_EQ(parts("https://h/api/paas/v4"), "https://h:443/api/paas /v4");
  EXPECT_EQ(parts("http://h/vision"), "http://h:80/vision /v1");
  EXPECT_EQ(parts("unix:/run/x/v1.sock"), "unix:/run/x/v1.sock /v1");
  EXPECT_EQ(parts("ftp://h"), "bad_url");
}

TEST(Kinds, ComeFromTheListOrTheName) {
  const auto kind = [](const char* name, std::optional<ModelKind> said = {}) {
    wire::ListedModel model;
    model.name = name;
    model.kind = said;
    return kind_of(model);
  };
  EXPECT_EQ(kind("gpt-4o"), ModelKind::kGeneration);
  EXPECT_EQ(kind("text-Embedding-3-small"), ModelKind::kEmbedding);
  EXPECT_EQ(kind("bge-reranker-v2"), ModelKind::kRerank);
  EXPECT_EQ(kind("embedded-chat", ModelKind::kGeneration), ModelKind::kGeneration);
}

TEST_F(OpenAiServer, OffersWhatItLists) {
  peer.on("/v1/models",
          [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"gpt-x"},{"id":"org/embed-1"}]})"}; });
  open({.key = "sk-secret"});
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  ASSERT_THAT(sight->models, SizeIs(2));
  const Model& second = sight->models[1];
  EXPECT_EQ(second.id, ModelId("lab/org/embed-1"));
  EXPECT_THAT(second.aliases, ElementsAre("openai_org/embed-1"));
  EXPECT_EQ(second.kind, ModelKind::kEmbedding);
  EXPECT_EQ(second.family, Family::kOpenai);
  EXPECT_EQ(second.remote, (Remote{.upstream = UpstreamId("lab"), .name = "org/embed-1"}));
  EXPECT_EQ(second.origin, "providers.lab");
  EXPECT_THAT(peer.authorization, ElementsAre("Bearer sk-secret"));
  EXPECT_EQ(upstream->headers().get("authorization"), "Bearer sk-secret");
  EXPECT_EQ(upstream->api_prefix(), "/v1");
  EXPECT_EQ(upstream->description().url, peer.url());
}

TEST_F(OpenAiServer, OffersWhatIsConfiguredAndTakesKindsFromTheList) {
  peer.on("/v1/models",
          [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"a"},{"id":"b","type":"embedding"}]})"}; });
  open({.models = {"b", "unlisted"}});
  const auto sight = look();
  ASSERT_TRUE(sight);
  ASSERT_THAT(sight->models, SizeIs(2));
  EXPECT_EQ(sight->models[0].kind, ModelKind::kEmbedding);
  EXPECT_EQ(sight->models[1].remote->name, "unlisted");
}

TEST_F(OpenAiServer, AListIsNotNeededWhereModelsAreConfigured) {
  open({.models = {"a"}});
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_THAT(sight->models, SizeIs(1));
}

TEST_F(OpenAiServer, WithoutAListAndConfiguredModelsItIsAnError) {
  open();
  const auto sight = look();
  ASSERT_FALSE(sight);
  EXPECT_EQ(sight.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(sight.error().reason, "bad_upstream");
  EXPECT_EQ(sight.error().number("status"), 404);
}

TEST_F(OpenAiServer, GarbageIsAnError) {
  for (const char* body : {"", "<html>", "{}", "[1", R"({"data":"x"})"}) {
    Peer fresh;
    fresh.on("/v1/models", [body](auto&) { return Peer::Reply{200, body}; });
    fresh.start();
    open({.base_url = fresh.url()});
    const auto sight = look();
    ASSERT_FALSE(sight) << body;
    EXPECT_EQ(sight.error().reason, "bad_upstream");
  }
}

TEST_F(OpenAiServer, ErrorsNeverQuoteTheKey) {
  peer.on("/v1/models", [](const http::Request& request) {
    return Peer::Reply{401, fmt::format(R"({{"error":{{"message":"wrong key {0}, really {0}"}}}})",
                                        request.headers.get("Authorization")->substr(7))};
  });
  open({.key = "sk-secret"});
  const auto sight = look();
  ASSERT_FALSE(sight);
  EXPECT_THAT(sight.error().message, AllOf(HasSubstr("wrong key …, really …"), HasSubstr("check its key"),
                                           Not(HasSubstr("secret"))));
}

TEST_F(OpenAiServer, ARemoteOneIsOnlyAskedForItsList) {
  peer.on("/v1/models", [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"a","owned_by":"vllm"}]})"}; });
  open({.place = Place::kElsewhere});
  const auto sight = look();
  ASSERT_TRUE(sight);
  EXPECT_FALSE(upstream->description().shares_devices);
  EXPECT_FALSE(sight->tells_residents);
  EXPECT_TRUE(yield());
  EXPECT_TRUE(load("a"));
  EXPECT_THAT(peer.asked, ElementsAre("GET /v1/models"));
}

TEST_F(OpenAiServer, SharesDevicesByItsHost) {
  open();
  EXPECT_TRUE(upstream->description().shares_devices);
  open({.base_url = "https://api.example.org/v1"});
  EXPECT_FALSE(upstream->description().shares_devices);
  open({.base_url = "http://192.0.2.1:8000", .place = Place::kHere});
  EXPECT_TRUE(upstream->description().shares_devices);
}

TEST_F(OpenAiServer, APlainOneCannotYield) {
  peer.on("/v1/models", [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"a"}]})"}; });
  open();
  const auto sight = look();
  ASSERT_TRUE(sight);
  EXPECT_FALSE(sight->tells_residents);
  const auto yielded = yield();
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(yielded.error().reason, "cannot_yield");
  EXPECT_THAT(yielded.error().message, HasSubstr("location: remote"));
  EXPECT_TRUE(load("a"));
  const std::size_t before = peer.asked.size();
  EXPECT_TRUE(look());
  EXPECT_EQ(peer.asked.size(), before + 1) << "what it is has been found out once";
}

// LM Studio's way: 200 for everything it does not know.
TEST_F(OpenAiServer, TwoHundredForEverythingIsNoVllm) {
  peer.unknown = {200, R"({"error":"Unexpected endpoint or method."})"};
  peer.on("/v1/models", [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"a"}]})"}; });
  open();
  ASSERT_TRUE(look());
  EXPECT_EQ(yield().error().reason, "cannot_yield");
}

TEST_F(OpenAiServer, NobodyThereIsUnavailable) {
  std::uint16_t port = 0;
  {
    const RawListener gone;
    port = gone.port;
  }
  open({.base_url = fmt::format("http://127.0.0.1:{}", port)});
  EXPECT_EQ(look().error().reason, "connect_failed");
  EXPECT_EQ(yield().error().reason, "connect_failed");
}

TEST_F(OpenAiServer, ASilentOneIsGivenUpInTime) {
  const RawListener silent;
  open({.base_url = fmt::format("http://127.0.0.1:{}", silent.port), .look_limit = 300ms});
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(look().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(yield(300ms).error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
}

TEST_F(OpenAiServer, ADrippingOneIsGivenUpInTime) {
  RawListener listener;
  std::thread dripping([&] {
    auto socket = listener.accept();
    socket.read_until("\r\n\r\n");
    socket.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    while (socket.send(" ")) std::this_thread::sleep_for(5ms);
  });
  open({.base_url = fmt::format("http://127.0.0.1:{}", listener.port), .look_limit = 500ms});
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(look().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
  dripping.join();
}

TEST_F(OpenAiServer, AnEndlessAnswerIsCutOff) {
  peer.on("/v1/models", [](auto&) { return Peer::Reply{200, std::string(17 << 20, ' ')}; });
  open();
  EXPECT_EQ(look().error().reason, "answer_too_large");
}

// ---- vLLM

class VllmServer : public OpenAiServer {
 protected:
  VllmServer() {
    peer.on("/v1/models",
            [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"qwen","owned_by":"vllm"}]})"}; });
    peer.on("/version", [](auto&) { return Peer::Reply{200, R"({"version":"0.11.0"})"}; });
  }
  void with_sleep() {
    peer.on("/is_sleeping", [this](auto&) {
      if (sleeping != wanted && --polls_until_done <= 0) sleeping = wanted;
      return Peer::Reply{200, fmt::format(R"({{"is_sleeping":{}}})", sleeping)};
    });
    peer.on(Method::kPost, "/sleep", [this](const http::Request& request) {
      level = request.query_value("level").value_or("");
      wanted = !liar;
      return Peer::Reply{sleep_status, ""};
    });
    peer.on(Method::kPost, "/wake_up", [this](auto&) {
      wanted = false;
      return Peer::Reply{200, ""};
    });
  }
  bool sleeping = false, wanted = false, liar = false;
  int polls_until_done = 3, sleep_status = 200;
  std::string level;
};

TEST_F(VllmServer, SleepsAndWakes) {
  with_sleep();
  open();
  auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(names(sight->residents), ElementsAre("qwen"));

  EXPECT_TRUE(yield());
  EXPECT_TRUE(sleeping) << "it has been watched until it said so";
  EXPECT_EQ(level, "1");
  sight = look();
  ASSERT_TRUE(sight);
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(sight->residents, IsEmpty());
  EXPECT_THAT(sight->models, SizeIs(1)) << "it is offered all the same";

  polls_until_done = 3;
  EXPECT_TRUE(load("qwen"));
  EXPECT_FALSE(sleeping);
}

TEST_F(VllmServer, IsNotToldTwice) {
  with_sleep();
  sleeping = wanted = true;
  open();
  EXPECT_TRUE(yield());
  EXPECT_THAT(peer.asked, Not(Contains("POST /sleep?level=1")));
  sleeping = wanted = false;
  EXPECT_TRUE(load("qwen"));
  EXPECT_THAT(peer.asked, Not(Contains("POST /wake_up")));
}

TEST_F(VllmServer, ALiarIsFoundOut) {
  with_sleep();
  liar = true;
  open();
  const auto yielded = yield(1500ms);
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(yielded.error().reason, "still_resident");
  EXPECT_THAT(yielded.error().message, HasSubstr("still shows qwen"));
}

TEST_F(VllmServer, ARefusalIsReported) {
  with_sleep();
  sleep_status = 500;
  liar = true;
  open();
  EXPECT_EQ(yield().error().reason, "bad_upstream");
}

TEST_F(VllmServer, WithoutSleepModeItHoldsItsModelAndSaysHowToChangeThat) {
  open();
  const auto sight = look();
  ASSERT_TRUE(sight);
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(names(sight->residents), ElementsAre("qwen"));
  const auto yielded = yield();
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().reason, "cannot_yield");
  EXPECT_THAT(yielded.error().message, HasSubstr("--enable-sleep-mode"));
}

TEST_F(VllmServer, WhatComesBackAfterAnErrorIsLookedAtAnew) {
  open();
  ASSERT_TRUE(look());
  EXPECT_EQ(yield().error().reason, "cannot_yield");
  // Its owner restarts it with sleep mode.
  peer.on("/v1/models", [](auto&) { return Peer::Reply{503, ""}; });
  EXPECT_FALSE(look());
  peer.on("/v1/models",
          [](auto&) { return Peer::Reply{200, R"({"data":[{"id":"qwen","owned_by":"vllm"}]})"}; });
  with_sleep();
  ASSERT_TRUE(look());
  EXPECT_TRUE(yield());
  EXPECT_TRUE(sleeping);
}

// ---- llama-server's router

class RouterServer : public OpenAiServer {
 protected:
  RouterServer() {
    peer.on("/v1/models", [this](auto&) {
      std::vector<std::string> data;
      for (auto& [name, status] : models) {
        data.push_back(
            fmt::format(R"({{"id":"{}","owned_by":"llamacpp","status":{{"value":"{}","failed":{}}}}})", name,
                        status, failed));
        if (status == "loading" && loads) status = "loaded";
      }
      return Peer::Reply{200, fmt::format(R"({{"data":[{}]}})", fmt::join(data, ","))};
    });
    peer.on(Method::kPost, "/models/unload", [this](const http::Request& request) {
      const std::string name = text_of(request, "model");
      unloads.push_back(name);
      const std::string was = models[name];
      if (was != "loaded" && was != "loading" && was != "sleeping")
        return Peer::Reply{400, R"({"error":{"message":"model is not running"}})"};
      if (!keeps) models[name] = revive-- > 0 ? "loading" : "unloaded";
      return Peer::Reply{200, R"({"success":true})"};
    });
    peer.on(Method::kPost, "/models/load", [this](const http::Request& request) {
      if (fails) {
        failed = true;
      } else {
        models[text_of(request, "model")] = "loading";
      }
      return Peer::Reply{200, R"({"success":true})"};
    });
  }
  std::map<std::string, std::string> models = {
      {"a", "loaded"}, {"b", "unloaded"}, {"c", "sleeping"}, {"d", "loading"}};
  std::vector<std::string> unloads;
  bool keeps = false, loads = false, fails = false, failed = false;
  int revive = 0;
};

TEST_F(RouterServer, UnloadsEverythingThatRuns) {
  open();
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(names(sight->residents), ElementsAre("a", "c", "d"));
  EXPECT_TRUE(yield());
  EXPECT_THAT(unloads, ElementsAre("a", "c", "d"));
  EXPECT_THAT(look()->residents, IsEmpty());
}

TEST_F(RouterServer, WhatSomebodyLoadsAgainMeanwhileIsUnloadedAgain) {
  revive = 1;
  models = {{"a", "loaded"}};
  open();
  EXPECT_TRUE(yield());
  EXPECT_THAT(unloads, ElementsAre("a", "a"));
}

TEST_F(RouterServer, ALiarIsFoundOut) {
  keeps = true;
  open();
  const auto yielded = yield(1500ms);
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().reason, "still_resident");
  EXPECT_THAT(yielded.error().message, HasSubstr("still shows a, c, d"));
}

TEST_F(RouterServer, AnEmptyOneIsKnownByItsProperties) {
  models.clear();
  peer.on("/props", [](auto&) { return Peer::Reply{200, R"({"role":"router"})"}; });
  open();
  const auto sight = look();
  ASSERT_TRUE(sight);
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_TRUE(yield());
}

TEST_F(RouterServer, LoadsAndWaits) {
  loads = true;
  open();
  EXPECT_TRUE(load("b"));
  EXPECT_EQ(models["b"], "loaded");
  EXPECT_TRUE(load("a"));
  EXPECT_THAT(peer.asked, Contains("POST /models/load").Times(1));
  EXPECT_EQ(load("nobody").error().code, ErrorCode::kNotFound);
}

TEST_F(RouterServer, AFailedLoadIsReportedAtOnce) {
  fails = true;
  open();
  EXPECT_EQ(load("b").error().reason, "load_failed");
}

TEST_F(RouterServer, ALoadThatDoesNotEndIsGivenUp) {
  open();
  EXPECT_EQ(load("b", 400ms).error().code, ErrorCode::kDeadlineExceeded);
}

// ---- LM Studio

class LmStudioServer : public OpenAiServer {
 protected:
  LmStudioServer() {
    peer.unknown = {200, R"({"error":"Unexpected endpoint or method."})"};
    peer.on("/v1/models", [](auto&) {
      return Peer::Reply{200, R"({"data":[{"id":"q","owned_by":"organization_owner"},{"id":"e"}]})"};
    });
  }
  void old_interface() {
    peer.on("/api/v0/models", [this](auto&) {
      return Peer::Reply{200, fmt::format(R"({{"data":[{{"id":"q","type":"llm","state":"{}"}}]}})",
                                          loaded.empty() ? "not-loaded" : "loaded")};
    });
  }
  void new_interface() {
    peer.on("/api/v1/models", [this](auto&) {
      std::vector<std::string> instances;
      for (const std::string& id : loaded) instances.push_back(wire::encode_text("id", id));
      return Peer::Reply{
          200,
          fmt::format(R"({{"models":[{{"key":"q","type":"llm","size_bytes":77,"loaded_instances":[{}]}}]}})",
                      fmt::join(instances, ","))};
    });
    peer.on(Method::kPost, "/api/v1/models/unload", [this](const http::Request& request) {
      const std::string id = text_of(request, "instance_id");
      if (!keeps) std::erase(loaded, id);
      return Peer::Reply{200, request.body};
    });
    peer.on(Method::kPost, "/api/v1/models/load", [this](const http::Request& request) {
      if (text_of(request, "model") != "q")
        return Peer::Reply{404, R"({"error":{"message":"no such model"}})"};
      loaded.emplace_back("q");
      return Peer::Reply{200, R"({"type":"llm","instance_id":"q","status":"loaded"})"};
    });
  }
  std::vector<std::string> loaded = {"q", "q:2"};
  bool keeps = false;
};

TEST_F(LmStudioServer, UnloadsEveryInstance) {
  new_interface();
  open();
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(names(sight->residents), ElementsAre("q", "q:2"));
  EXPECT_EQ(sight->residents[0].bytes, Bytes(77));
  EXPECT_TRUE(yield());
  EXPECT_THAT(loaded, IsEmpty());
  EXPECT_TRUE(load("q"));
  EXPECT_TRUE(load("q"));
  EXPECT_THAT(loaded, ElementsAre("q")) << "once";
  EXPECT_THAT(load("other").error().message, HasSubstr("no such model"));
}

TEST_F(LmStudioServer, ALiarIsFoundOut) {
  new_interface();
  keeps = true;
  open();
  const auto yielded = yield(1500ms);
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().reason, "still_resident");
}

TEST_F(LmStudioServer, AnOldOneTellsButCannotUnload) {
  old_interface();
  open();
  const auto sight = look();
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(names(sight->residents), ElementsAre("q"));
  EXPECT_EQ(yield().error().reason, "cannot_yield");
  loaded.clear();
  EXPECT_TRUE(yield()) << "it has nothing to give up";
}

}  // namespace
}  // namespace lm::backend
