// Whole commands against a daemon that is played by a real HTTP server on port 0.
#include "cli/program.h"

#include <csignal>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/json_view.h"
#include "cli/version.h"
#include "http/sse.h"
#include "http/test_peers.h"

namespace lm::cli {
namespace {

using http::testing::Event;
using http::testing::TestServer;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::int64_t kNow = 1'700'000'000'000;

// What the daemon was asked, and what it says.
class FakeDaemon {
 public:
  struct Asked {
    std::string method, target, body;
    http::Headers headers;
  };

  FakeDaemon() { start({}); }

  std::string url() const { return "http://" + server_->address; }

  void answer(const std::string& path, std::string body, int status = 200) {
    const std::lock_guard lock(mutex_);
    answers_[path] = {.status = status,
                      .headers = {{"Content-Type", "application/json; charset=utf-8"}},
                      .body = std::move(body)};
  }
  // Events; where `stays_open` it ends only when the client has left.
  void answer_events(const std::string& path, std::string events, bool stays_open = false) {
    const std::lock_guard lock(mutex_);
    answers_[path] = {
        .status = 200, .headers = {{"Content-Type", "text/event-stream"}}, .body = std::move(events)};
    if (stays_open) staying_open_ = path;
  }
  // Called on the server's thread once everything of a stream that stays open has been written.
  std::function<void()> on_open_stream;
  Event client_left;

  std::deque<Asked> asked() {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  Asked last() {
    const auto all = asked();
    return all.empty() ? Asked{} : all.back();
  }

 private:
  void start(http::ServerOptions options) {
    http::Router router;
    const auto play = [this](http::Exchange& exchange) { return serve(exchange); };
    router.add(http::Method::kGet, "/{path...}", play);
    router.add(http::Method::kPost, "/{path...}", play);
    router.add(http::Method::kPatch, "/{path...}", play);
    router.add(http::Method::kDelete, "/{path...}", play);
    server_ = std::make_unique<TestServer>(std::move(router), std::move(options));
  }

  Task<void> serve(http::Exchange& exchange) {
    const http::Request& request = exchange.request();
    http::Response response;
    bool stays_open = false;
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back({.method = request.method_text,
                        .target = request.target,
                        .body = request.body,
                        .headers = request.headers});
      const auto found = answers_.find(request.path);
      if (found == answers_.end()) {
        response = {
            .status = 404,
            .headers = {{"Content-Type", "application/json"}},
            .body =
                R"({"error":{"message":"nothing here","type":"not_found_error","code":"no_such_route","param":null}})"};
      } else {
        response = found->second;
      }
      stays_open = staying_open_ == request.path;
    }
    if (response.headers.get("Content-Type") != "text/event-stream") {
      co_await exchange.respond(std::move(response));
      co_return;
    }
    if (!exchange.begin(200, response.headers)) co_return;
    if (!stays_open) {
      co_await exchange.end(response.body);
      co_return;
    }
    // Whatever way this ends, the client has gone.
    struct Left {
      Event& event;
      ~Left() { event.set(); }
    } left{client_left};
    if (!co_await exchange.write(response.body)) co_return;
    if (on_open_stream) on_open_stream();
    boost::asio::steady_timer for_ever(exchange.executor(), boost::asio::steady_timer::time_point::max());
    co_await for_ever.async_wait(boost::asio::use_awaitable);
  }

  std::mutex mutex_;
  std::map<std::string, http::Response> answers_;
  std::string staying_open_;
  std::deque<Asked> asked_;
  std::unique_ptr<TestServer> server_;
};

struct Ran {
  int code = 0;
  std::string out;
  std::string err;
};

struct Setting {
  std::string url = "http://127.0.0.1:1";
  std::string input;
  std::map<std::string, std::string> environment;
  bool input_is_terminal = false;
  bool errors_are_terminal = false;
  bool catches_interrupts = false;
  std::function<Outcome<void>(const ServeOptions&)> serve = [](const ServeOptions&) {
    return Outcome<void>();
  };
  std::function<Outcome<void>(const std::filesystem::path&, const Host::TellReplayed&)> replay;
};

Ran ran(const std::vector<std::string>& arguments, Setting setting = {}) {
  Ran result;
  Host host;
  host.console = {.out = text_stream(result.out), .err = text_stream(result.err)};
  host.console.err.is_terminal = setting.errors_are_terminal;
  setting.environment.try_emplace("LLM_MANAGER_URL", setting.url);
  host.environment = [&](std::string_view name) -> std::optional<std::string> {
    const auto found = setting.environment.find(std::string(name));
    if (found == setting.environment.end()) return std::nullopt;
    return found->second;
  };
  host.serve = setting.serve;
  host.replay = setting.replay;
  host.read_input = [&](const Interrupts*) { return setting.input; };
  host.now_ms = [] { return kNow; };
  host.input_is_terminal = setting.input_is_terminal;
  host.catches_interrupts = setting.catches_interrupts;
  result.code = run_program(arguments, std::move(host));
  return result;
}

Ran ran(FakeDaemon& daemon, const std::vector<std::string>& arguments, Setting setting = {}) {
  setting.url = daemon.url();
  return ran(arguments, std::move(setting));
}

constexpr std::string_view kNotKnown =
    R"({"error":{"message":"model \"tinylama\" is not known; did you mean tinyllama?","type":"not_found_error","code":"model_not_found","param":"model","details":{"nearest":"tinyllama"}}})";

TEST(Program, ServeIsHandedOver) {
  std::string listen;
  const auto serve = [&](const ServeOptions& options) -> Outcome<void> {
    listen = options.listen;
    return {};
  };
  const Ran served = ran({"serve", "--listen", "127.0.0.1:0"}, {.serve = serve});
  EXPECT_EQ(served.code, 0);
  EXPECT_EQ(served.out + served.err, "");
  EXPECT_EQ(listen, "127.0.0.1:0");
}

TEST(Program, ADaemonThatDoesNotStartSaysWhyAlsoAsJson) {
  const auto serve = [](const ServeOptions&) -> Outcome<void> {
    Failure failure = failure_of(Error{.code = ErrorCode::kInvalidArgument,
                                       .message = "cannot listen on \"x\"",
                                       .reason = "invalid_listen",
                                       .fields = {},
                                       .retry_after = {}});
    failure.code = ExitCode::kUsage;
    return std::unexpected(std::move(failure));
  };
  const Ran told = ran({"serve"}, {.serve = serve});
  EXPECT_EQ(told.code, 2);
  EXPECT_EQ(told.out, "");
  EXPECT_EQ(told.err, "error: cannot listen on \"x\"\n");
  const Ran json = ran({"serve", "--json"}, {.serve = serve});
  EXPECT_EQ(json.code, 2);
  const auto object = parse_json(json.out);
  ASSERT_TRUE(object.has_value()) << json.out;
  EXPECT_EQ(text_of(*member_of(*object, "error"), "code"), "invalid_listen");
  EXPECT_EQ(text_of(*member_of(*object, "error"), "message"), "cannot listen on \"x\"");
}

TEST(Program, ReplayShowsEventsAndWhatFollows) {
  const auto replay = [](const std::filesystem::path& file, const Host::TellReplayed& tell) -> Outcome<void> {
    if (file != "day.jsonl")
      return std::unexpected(failure_of(Error{.code = ErrorCode::kNotFound,
                                              .message = "no such file",
                                              .reason = "io_error",
                                              .fields = {},
                                              .retry_after = {}}));
    tell({.at_s = 0.5, .is_command = false, .name = "RequestArrived", .text = " r1 tiny"});
    tell({.at_s = 0.5, .is_command = true, .name = "GrantLease", .text = " r1 i2 tiny"});
    return {};
  };
  const Ran text = ran({"replay", "day.jsonl"}, {.replay = replay});
  EXPECT_EQ(text.code, 0);
  EXPECT_EQ(text.out, "    0.500000 > RequestArrived r1 tiny\n    0.500000   < GrantLease r1 i2 tiny\n");
  const Ran json = ran({"replay", "day.jsonl", "--json"}, {.replay = replay});
  EXPECT_EQ(json.out,
            "{\"at_s\":5E-1,\"event\":\"RequestArrived\",\"text\":\"r1 tiny\"}\n"
            "{\"at_s\":5E-1,\"command\":\"GrantLease\",\"text\":\"r1 i2 tiny\"}\n");
  EXPECT_EQ(ran({"replay", "other"}, {.replay = replay}).code, 4);
  EXPECT_EQ(ran({"replay"}, {.replay = replay}).code, 2);
}

struct SimulateFiles {
  SimulateFiles() { std::filesystem::create_directories(folder); }
  ~SimulateFiles() { std::filesystem::remove_all(folder); }
  std::string write(const std::string& name, std::string_view text) const {
    std::ofstream(folder / name) << text;
    return (folder / name).string();
  }
  std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / fmt::format("lm-sim-{}", ::getpid());
};

// 1000 tokens to read take half a second, 50 to write one second; a load takes two.
constexpr std::string_view kTrace =
    "t_s,model,context_tokens,generated_tokens\n0,a,1000,50\n0.5,b,1000,50\n60,a,0,100\n";

TEST(Program, SimulateShowsWhatATraceWouldMeet) {
  const SimulateFiles files;
  const std::string trace = files.write("t.csv", kTrace);
  const Ran text = ran({"simulate", "--trace", trace});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_EQ(text.err, "");
  EXPECT_THAT(text.out, HasSubstr("machine    gpu 12.00 GB\n"));
  EXPECT_THAT(text.out, HasSubstr("models     a, b: 8.00 GB, loads in 2.00 s"));
  EXPECT_THAT(text.out, HasSubstr("(assumed)"));
  EXPECT_THAT(text.out, HasSubstr("policy gated"));
  const Ran json = ran({"simulate", "--trace", trace, "--json", "--policy", "all"});
  EXPECT_EQ(json.code, 0);
  const auto object = parse_json(json.out);
  ASSERT_TRUE(object.has_value()) << json.out;
  EXPECT_EQ(number_of(*member_of(*object, "workload"), "requests"), 3);
  const auto* runs = array_of(*object, "runs");
  ASSERT_NE(runs, nullptr);
  ASSERT_EQ(runs->size(), 3U);
  const boost::json::value& all = *member_of(runs->at(0), "all");
  EXPECT_EQ(number_of(all, "served"), 3);
  EXPECT_EQ(number_of(all, "loads"), 3);
  // a waits for its load; b for that, for a's answer of 1.5 s, for 0.1 s of unloading and for its own load.
  EXPECT_DOUBLE_EQ(*number_of(*member_of(all, "wait"), "max_s"), 2 + 1.5 + 0.1 + 2 - 0.5);
}

TEST(Program, SimulateTakesAMachineAndRefusesABrokenOne) {
  const SimulateFiles files;
  const std::string trace = files.write("t.csv", kTrace);
  const std::string machine =
      files.write("m.yaml", "devices: {card: {memory: 24GB}}\nmodels: {a: {load: 1s}, b: {load: 4s}}\n");
  const Ran both = ran({"simulate", "--trace", trace, "--models", machine, "--json"});
  ASSERT_EQ(both.code, 0) << both.err;
  const auto object = parse_json(both.out);
  ASSERT_TRUE(object.has_value());
  EXPECT_EQ(number_of(*member_of(array_of(*object, "runs")->at(0), "all"), "loads"), 2) << "both fit";
  const std::string broken = files.write("broken.yaml", "models:\n  a: {memry: 2GB}\n");
  const Ran refused = ran({"simulate", "--trace", trace, "--models", broken});
  EXPECT_EQ(refused.code, 1);
  EXPECT_THAT(refused.err, HasSubstr("broken.yaml:2:7: models.a.memry: unknown key, did you mean memory?"));
  EXPECT_EQ(ran({"simulate", "--trace", files.write("x.csv", "a,b\n")}).code, 1);
  EXPECT_EQ(ran({"simulate", "--synthetic", "--rate", "1e9"}).code, 2) << "more than can be played";
  EXPECT_EQ(ran({"simulate", "--trace", "nowhere.csv"}).code, 4);
  const Ran small = ran({"simulate", "--trace", trace, "--memory", "4GB"});
  EXPECT_EQ(small.code, 5);
  EXPECT_THAT(small.err, HasSubstr("a takes 8.00 GB, and gpu has 4.00 GB"));
  EXPECT_EQ(ran({"simulate", "--trace", trace, "--drain", "1s"}).err, "");
}

TEST(Program, ListShowsATableAndJsonIsTheDaemonsOwn) {
  FakeDaemon daemon;
  const std::string body =
      R"({"models": [{"id": "tiny", "kind": "generation", "state": "ready", "size": 1048576, "origin": "x"}]})";
  daemon.answer("/api/v1/models", body + "\n");
  const Ran table = ran(daemon, {"list"});
  EXPECT_EQ(table.code, 0);
  EXPECT_EQ(table.out,
            "NAME  KIND          SIZE  STATE  MEMORY  FROM\ntiny  generation  1.0 MB  ready       –  x\n");
  EXPECT_EQ(table.err, "");
  const Ran json = ran(daemon, {"list", "--json"});
  EXPECT_EQ(json.out, body + "\n");
  EXPECT_EQ(json.err, "");
}

TEST(Program, PsShowsWhatIsLoadedAndJsonTheInstances) {
  FakeDaemon daemon;
  daemon.answer(
      "/api/v1/models",
      R"({"models": [{"id": "tiny", "state": "ready", "instance": {"slots": 4, "active": 0, "waiting": 0,
    "held_bytes": {"host": 1048576}, "expires_in_s": 9.5}}, {"id": "other", "state": "unloaded"}]})");
  daemon.answer("/api/v1/instances", R"({"instances": []})");
  const Ran table = ran(daemon, {"ps"});
  EXPECT_THAT(table.out, HasSubstr("tiny  ready  host    1.0 MB      4       0        0  in 9.50 s"));
  EXPECT_THAT(table.out, Not(HasSubstr("other")));
  EXPECT_EQ(ran(daemon, {"ps", "--json"}).out, "{\"instances\": []}\n");
}

TEST(Program, TheKeyAndTheNameTravel) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models", R"({"models": []})");
  ran(daemon, {"list"}, {.environment = {{"LLM_MANAGER_API_KEY", "secret"}, {"USER", "ada"}}});
  EXPECT_EQ(daemon.last().headers.get("Authorization"), "Bearer secret");
  EXPECT_EQ(daemon.last().headers.get("X-Client-Name"), "ada (llm-manager)");
  ran(daemon, {"list"});
  EXPECT_FALSE(daemon.last().headers.has("Authorization"));
}

TEST(Program, TheUrlMayLackItsSchemeAndTheOptionWins) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models", R"({"models": []})");
  EXPECT_EQ(ran({"list", "--url", daemon.url().substr(7)}).code, 0);
  EXPECT_EQ(ran({"list"}, {.environment = {{"LLM_MANAGER_URL", daemon.url() + "/"}}}).code, 0);
  EXPECT_EQ(ran({"list", "--url", "ftp://x"}).code, 2);
}

TEST(Program, NoDaemonIsCodeThreeAndSaysHowToStartOne) {
  const Ran list = ran({"list"});
  EXPECT_EQ(list.code, 3);
  EXPECT_EQ(list.out, "");
  EXPECT_EQ(list.err, "error: no daemon answers at http://127.0.0.1:1; start one with: llm-manager serve\n");
  const Ran json = ran({"load", "tiny", "--json"});
  EXPECT_EQ(json.code, 3);
  const auto object = parse_json(json.out);
  ASSERT_TRUE(object.has_value()) << json.out;
  EXPECT_EQ(text_of(*member_of(*object, "error"), "code"), "connect_failed");
  EXPECT_THAT(json.err, HasSubstr("llm-manager serve"));
  EXPECT_EQ(ran({"list", "--url", "unix:///nowhere/at/all.sock"}).code, 3);
}

TEST(Program, SomethingElseOnThePortIsToldSo) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models", "<html>", 404);
  const Ran list = ran(daemon, {"list"});
  EXPECT_EQ(list.code, 3);
  EXPECT_THAT(list.err, HasSubstr("is no LLM Manager"));
  daemon.answer("/api/v1/models", "not json");
  EXPECT_EQ(ran(daemon, {"list"}).code, 1);
}

TEST(Program, AnUnknownModelIsCodeFourWithTheNearestName) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models/load", std::string(kNotKnown), 404);
  const Ran load = ran(daemon, {"load", "tinylama"});
  EXPECT_EQ(load.code, 4);
  EXPECT_EQ(load.err, "error: model \"tinylama\" is not known; did you mean tinyllama?\n");
  const Ran json = ran(daemon, {"load", "tinylama", "--json"});
  EXPECT_EQ(json.out, std::string(kNotKnown) + "\n");
  EXPECT_EQ(json.code, 4);
}

std::string load_events(std::string_view last) {
  return http::sse_comment("waiting") +
         http::sse_event(
             R"({"model":"tiny","state":"loading","detail":"queued","stage":null,"fraction":0.0})",
             "progress") +
         http::sse_event(
             R"({"model":"tiny","state":"loading","detail":"loading","stage":"weights","fraction":0.3})",
             "progress") +
         http::sse_event(
             R"({"model":"tiny","state":"loading","detail":"loading","stage":"weights","fraction":0.9})",
             "progress") +
         std::string(last);
}
constexpr std::string_view kDone =
    R"({"model":"tiny","changed":true,"state":"ready","phases":[{"name":"vocabulary","seconds":0.02}],"took_s":0.4,"instance":{}})";

TEST(Program, LoadShowsItsStagesAndTheEnd) {
  FakeDaemon daemon;
  daemon.answer_events("/api/v1/models/load", load_events(http::sse_event(kDone, "done")));
  const Ran load = ran(daemon, {"load", "tiny", "--force"});
  EXPECT_EQ(load.code, 0);
  EXPECT_EQ(load.err, "tiny: waiting for its turn\ntiny: reading the weights\n");
  EXPECT_EQ(load.out, "tiny is ready after 0.40 s (vocabulary 0.02 s)\n");
  EXPECT_EQ(daemon.last().body, R"({"model":"tiny","force":true,"stream":true})");
  EXPECT_EQ(daemon.last().headers.get("Accept"), "text/event-stream");
  const Ran json = ran(daemon, {"load", "tiny", "--json"});
  EXPECT_EQ(json.out, std::string(kDone) + "\n");
}

TEST(Program, LoadingTheLoadedSaysSinceWhenAndSucceeds) {
  FakeDaemon daemon;
  daemon.answer_events(
      "/api/v1/models/load",
      http::sse_event(
          R"({"model":"tiny","changed":false,"state":"ready","phases":[],"took_s":0,"instance":{"since_s":60}})",
          "done"));
  const Ran load = ran(daemon, {"load", "tiny"});
  EXPECT_EQ(load.code, 0);
  EXPECT_THAT(load.out, HasSubstr("tiny is already loaded (ready since "));
}

TEST(Program, WhatAnotherServerLoadsIsNotSaidToBeLoaded) {
  FakeDaemon daemon;
  daemon.answer_events(
      "/api/v1/models/load",
      http::sse_event(
          R"({"model":"far","changed":false,"state":"unloaded","phases":[],"took_s":0,"instance":null})",
          "done"));
  const Ran load = ran(daemon, {"load", "far"});
  EXPECT_EQ(load.code, 0);
  EXPECT_EQ(load.out, "far needs no loading by us: its server loads it when it is asked\n");
}

TEST(Program, ALoadThatFailsMidwayHasItsCode) {
  FakeDaemon daemon;
  const std::string error =
      R"({"error":{"message":"tiny needs 2.00 GB, 1.00 GB are free","type":"insufficient_memory_error","code":"insufficient_memory","param":null}})";
  daemon.answer_events("/api/v1/models/load", load_events(http::sse_event(error, "error")));
  const Ran load = ran(daemon, {"load", "tiny"});
  EXPECT_EQ(load.code, 5);
  EXPECT_THAT(load.err, HasSubstr("error: tiny needs 2.00 GB, 1.00 GB are free\n"));
  EXPECT_EQ(ran(daemon, {"load", "tiny", "--json"}).out, error + "\n");
}

TEST(Program, ALoadWhoseStreamJustEndsIsNoSuccess) {
  FakeDaemon daemon;
  daemon.answer_events("/api/v1/models/load", load_events(""));
  const Ran load = ran(daemon, {"load", "tiny"});
  EXPECT_EQ(load.code, 3);
  EXPECT_THAT(load.err, HasSubstr("went away"));
}

TEST(Program, CtrlCEndsALoadAndItsConnection) {
  FakeDaemon daemon;
  daemon.answer_events("/api/v1/models/load", load_events(""), true);
  daemon.on_open_stream = [] { ::kill(::getpid(), SIGINT); };
  const Ran load = ran(daemon, {"load", "tiny"}, {.catches_interrupts = true});
  EXPECT_EQ(load.code, 130);
  EXPECT_THAT(load.err, HasSubstr("interrupted"));
  EXPECT_TRUE(daemon.client_left.wait());
}

TEST(Program, UnloadPrintsTheReport) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models/unload",
                R"({"changed": true, "release": {"devices": [{"device": "host", "before": 2097152, "after": 0,
    "freed": 2097152, "expected": 2097152, "residual": 0}], "before": 2097152, "after": 0, "freed": 2097152, "expected": 2097152,
    "residual": 0, "reclaimable": 0, "holders": [], "proved": true, "method": "process", "took_s": 0.02}})");
  const Ran unload = ran(daemon, {"unload", "tiny", "--hold"});
  EXPECT_EQ(unload.code, 0);
  EXPECT_TRUE(unload.out.starts_with("tiny is unloaded: 2.0 MB freed in 0.02 s\n")) << unload.out;
  EXPECT_THAT(unload.out, HasSubstr("tiny is held: its requests are refused until llm-manager load tiny\n"));
  EXPECT_EQ(daemon.last().body, R"({"model":"tiny","hold":true})");
  ran(daemon, {"unload", "--all"});
  EXPECT_EQ(daemon.last().body, R"({"all":true})");
}

TEST(Program, UnloadSaysOnATerminalWhatItWaitsFor) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/instances",
                R"({"instances": [{"model": "tiny", "active": 2}, {"model": "b", "active": 1}]})");
  daemon.answer("/v1/models/t", R"({"id": "tiny"})");
  daemon.answer("/api/v1/models/unload", R"({"changed": false, "release": null})");
  EXPECT_THAT(ran(daemon, {"unload", "t"}, {.errors_are_terminal = true}).err,
              HasSubstr("waiting for 2 answers of t to end"));
  EXPECT_THAT(ran(daemon, {"unload", "--all"}, {.errors_are_terminal = true}).err,
              HasSubstr("waiting for 3 answers"));
  EXPECT_EQ(ran(daemon, {"unload", "t"}).err, "");
}

TEST(Program, UnloadingTheUnloadedSucceeds) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models/unload", R"({"changed": false, "release": null})");
  const Ran unload = ran(daemon, {"unload", "tiny"});
  EXPECT_EQ(unload.code, 0);
  EXPECT_EQ(unload.out, "tiny is not loaded; nothing to do\n");
}

TEST(Program, PinAndUnpin) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/models/pin", R"({"changed": true})");
  daemon.answer("/api/v1/models/unpin", R"({"changed": false})");
  EXPECT_THAT(ran(daemon, {"pin", "tiny"}).out, HasSubstr("tiny is pinned"));
  EXPECT_EQ(ran(daemon, {"unpin", "tiny"}).out, "tiny is not pinned; nothing to do\n");
  daemon.answer("/api/v1/models/pin", R"({"changed": true, "held": true})");
  EXPECT_EQ(ran(daemon, {"pin", "tiny"}).out,
            "tiny is pinned, and kept unloaded by a hold until llm-manager load tiny\n");
}

TEST(Program, AnOlderDaemonIsNoMissingModel) {
  FakeDaemon daemon;
  const Ran pin = ran(daemon, {"pin", "tiny"});
  EXPECT_EQ(pin.code, 1);
  EXPECT_THAT(pin.err, HasSubstr("another version"));
}

std::string chunk(std::string_view text) {
  return http::sse_event(R"({"choices":[{"index":0,"delta":{"content":")" + std::string(text) +
                         R"("},"finish_reason":null}]})");
}

TEST(Program, ChatAsksOnceAndStreamsTheAnswer) {
  FakeDaemon daemon;
  daemon.answer_events("/v1/chat/completions",
                       http::sse_comment("loading") + chunk("Pa") + chunk("ris 巴黎.") +
                           http::sse_event(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})") +
                           http::sse_event("[DONE]"));
  const Ran chat =
      ran(daemon, {"chat", "tiny", "Capital of France?", "--system", "Be brief.", "--temperature", "0"});
  EXPECT_EQ(chat.code, 0);
  EXPECT_EQ(chat.out, "Paris 巴黎.\n");
  EXPECT_EQ(chat.err, "");
  EXPECT_EQ(
      daemon.last().body,
      R"({"model":"tiny","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Capital of France?"}],"stream":true,"temperature":0E0})");
}

TEST(Program, ChatTakesItsQuestionFromAPipe) {
  FakeDaemon daemon;
  daemon.answer_events("/v1/chat/completions", chunk("yes") + http::sse_event("[DONE]"));
  EXPECT_EQ(ran(daemon, {"chat", "tiny"}, {.input = "Is it?\r\n"}).out, "yes\n");
  EXPECT_THAT(daemon.last().body, HasSubstr(R"("content":"Is it?")")) << "without the end of the last line";
  ran(daemon, {"chat", "tiny", "Sum up:", "-"}, {.input = "a text"});
  EXPECT_THAT(daemon.last().body, HasSubstr(R"("content":"Sum up:\n\na text")"));
  EXPECT_EQ(ran(daemon, {"chat", "tiny"}, {.input = "\n"}).code, 2);
  EXPECT_THAT(daemon.last().body, HasSubstr(R"("model":"tiny")"));
  ran(daemon, {"chat", "a question"});
  EXPECT_THAT(daemon.last().body, HasSubstr(R"("model":"chat")"));
}

TEST(Program, ChatTakesASingleWordThatIsNoModelForTheQuestion) {
  FakeDaemon daemon;
  daemon.answer("/v1/models/hi", R"({"error":{"message":"no model is named hi","code":"model_not_found"}})",
                404);
  daemon.answer("/v1/models/tinylama",
                R"({"error":{"message":"no","code":"model_not_found","details":{"nearest":"tinyllama"}}})",
                404);
  daemon.answer_events("/v1/chat/completions", chunk("hello") + http::sse_event("[DONE]"));
  const Ran chat = ran(daemon, {"chat", "hi"}, {.input_is_terminal = true});
  EXPECT_EQ(chat.out, "hello\n");
  EXPECT_THAT(chat.err, HasSubstr("no model is called hi"));
  EXPECT_THAT(daemon.last().body, HasSubstr(R"("model":"chat","messages":[{"role":"user","content":"hi"}])"));
  EXPECT_EQ(ran(daemon, {"chat", "tinylama"}, {.input_is_terminal = true}).code, 4) << "a slip";
  EXPECT_EQ(ran(daemon, {"chat", "-m", "hi"}, {.input_is_terminal = true}).code, 4);
}

TEST(Program, ChatJsonIsTheChunksALineEach) {
  FakeDaemon daemon;
  daemon.answer_events("/v1/chat/completions", chunk("a") + chunk("b") + http::sse_event("[DONE]"));
  EXPECT_EQ(ran(daemon, {"chat", "tiny", "x y", "--json"}).out,
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":null}]}\n"
            "{\"choices\":[{\"index\":0,\"delta\":{\"content\":\"b\"},\"finish_reason\":null}]}\n");
  EXPECT_EQ(ran(daemon, {"chat", "tiny", "--json"}, {.input_is_terminal = true}).code, 2);
}

TEST(Program, AnAnswerCutByAnErrorEventFails) {
  FakeDaemon daemon;
  daemon.answer_events(
      "/v1/chat/completions",
      chunk("half") +
          http::sse_event(
              R"({"error":{"message":"the worker died","type":"server_error","code":"worker_died"}})"));
  const Ran chat = ran(daemon, {"chat", "tiny", "x y"});
  EXPECT_EQ(chat.code, 1);
  EXPECT_EQ(chat.out, "half\n");
  EXPECT_EQ(chat.err, "error: the worker died\n");
}

TEST(Program, CtrlCStopsAnAnswerAndTheDaemonSeesIt) {
  FakeDaemon daemon;
  daemon.answer_events("/v1/chat/completions", chunk("half an"), true);
  daemon.on_open_stream = [] { ::kill(::getpid(), SIGINT); };
  const Ran chat = ran(daemon, {"chat", "tiny", "x y"}, {.catches_interrupts = true});
  EXPECT_EQ(chat.code, 130);
  EXPECT_TRUE(daemon.client_left.wait());
}

TEST(Program, ChatNeverLetsTheModelSteerTheTerminal) {
  FakeDaemon daemon;
  daemon.answer_events("/v1/chat/completions", chunk(R"(a\u001b[2Jb)") + http::sse_event("[DONE]"));
  EXPECT_EQ(ran(daemon, {"chat", "tiny", "x y"}).out, "a\xEF\xBF\xBD[2Jb\n");
}

TEST(Program, EmbedPrintsAVectorALine) {
  FakeDaemon daemon;
  const std::string body = R"({"data":[{"embedding":[0.5,-0.25]},{"embedding":[1.5,2.5]}]})";
  daemon.answer("/v1/embeddings", body);
  EXPECT_EQ(ran(daemon, {"embed", "minilm", "one text", "another"}).out, "[0.5,-0.25]\n[1.5,2.5]\n");
  EXPECT_EQ(daemon.last().body, R"({"model":"minilm","input":["one text","another"]})");
  EXPECT_EQ(ran(daemon, {"embed", "-"}, {.input = "one\r\n\ntwo"}).code, 0);
  EXPECT_EQ(daemon.last().body, R"({"model":"embedding","input":["one","two"]})");
  EXPECT_EQ(ran(daemon, {"embed", "--json", "-m", "minilm", "a", "b"}).out, body + "\n");
  EXPECT_EQ(ran(daemon, {"embed", "-"}).code, 2);
  EXPECT_EQ(ran(daemon, {"embed", "only one"}).code, 1);
}

TEST(Program, InspectSendsWholePathsOrNames) {
  FakeDaemon daemon;
  daemon.answer(
      "/api/v1/models/inspect",
      R"({"name":"Tiny","size":1048576,"layers":22,"parameters":1100048384,"predicted":{"host":2097152},"chat_template":"{% a %}\n{% b %}","path":"/x"})");
  const auto file = std::filesystem::temp_directory_path() /
                    ("llm-manager-inspect-" + std::to_string(::getpid()) + ".gguf");
  std::ofstream(file) << "GGUF";
  const Ran inspect = ran(daemon, {"inspect", file.string()});
  EXPECT_EQ(inspect.code, 0);
  EXPECT_EQ(daemon.last().body, "{\"path\":\"" + file.string() + "\"}");
  EXPECT_THAT(inspect.out, HasSubstr("size           1.0 MB\n"));
  EXPECT_THAT(inspect.out, HasSubstr("layers         22\n"));
  EXPECT_THAT(inspect.out, HasSubstr("parameters     1.10 billion\n"));
  EXPECT_THAT(inspect.out, HasSubstr("predicted\n  host  2.0 MB\n"));
  EXPECT_THAT(inspect.out, HasSubstr("chat_template  {% a %} …\n"));
  std::filesystem::remove(file);
  EXPECT_EQ(ran(daemon, {"inspect", file.string()}).code, 4);
  ran(daemon, {"inspect", "tiny"});
  EXPECT_EQ(daemon.last().body, R"({"model":"tiny"})");
}

TEST(Program, ExplainShowsDecisionsNewestFirst) {
  FakeDaemon daemon;
  daemon.answer(
      "/api/v1/explain",
      R"({"decisions":[{"at_ms":1700000000000,"kind":"evict","model":"tiny","why":"big needs room","fields":{}}]})");
  EXPECT_THAT(ran(daemon, {"explain", "a/b c", "-n", "3"}).out, HasSubstr("evict  tiny  big needs room\n"));
  EXPECT_EQ(daemon.last().target, "/api/v1/explain?limit=3&model=a%2Fb%20c");
  daemon.answer("/api/v1/explain", R"({"decisions":[]})");
  EXPECT_EQ(ran(daemon, {"explain"}).out, "nothing has been decided yet\n");
}

TEST(Program, EventsAreLinesAndNdjson) {
  FakeDaemon daemon;
  const std::string datum =
      R"({"model":"tiny","state":"ready","detail":"ready","cause":"none","error":null,"at_ms":1700000000000})";
  daemon.answer_events("/api/v1/events", http::sse_comment("x") + http::sse_event(datum, "state", "7"));
  const Ran lines = ran(daemon, {"events"});
  EXPECT_THAT(lines.out, HasSubstr("state     tiny is ready\n"));
  EXPECT_EQ(lines.code, 3);  // the daemon's stream does not end by itself
  const Ran json = ran(daemon, {"events", "--json"});
  EXPECT_TRUE(json.out.starts_with("{\"id\":\"7\",\"event\":\"state\",\"data\":" + datum + "}\n"))
      << json.out;
}

TEST(Program, DoctorWorksWithoutADaemonAndWithOne) {
  const auto home =
      std::filesystem::temp_directory_path() / ("llm-manager-doctor-" + std::to_string(::getpid()));
  std::filesystem::create_directories(home);
  const std::map<std::string, std::string> environment = {{"HOME", home.string()}, {"PATH", home.string()}};
  const Ran alone = ran({"doctor"}, {.environment = environment});
  EXPECT_THAT(alone.out, HasSubstr("no daemon answers"));
  EXPECT_THAT(alone.out, HasSubstr("llm-manager is not on your PATH"));
  EXPECT_THAT(alone.out, HasSubstr("llm-manager serve"));

  FakeDaemon daemon;
  daemon.answer("/api/v1/system", "{\"version\":\"" + std::string(version()) + "\"}");
  daemon.answer(
      "/api/v1/diagnose",
      R"({"checks":[{"name":"models","status":"problem","message":"there is none","fix":"fetch one"}]})");
  const Ran with = ran(daemon, {"doctor"}, {.environment = environment});
  EXPECT_EQ(with.code, 1);
  EXPECT_THAT(with.out, HasSubstr("problem  models: there is none\n         fetch one\n"));
  EXPECT_THAT(with.out, HasSubstr("ok       daemon: "));
  const auto json = parse_json(ran(daemon, {"doctor", "--json"}, {.environment = environment}).out);
  ASSERT_TRUE(json.has_value());
  EXPECT_NE(array_of(*json, "checks"), nullptr);

  daemon.answer("/api/v1/system", R"({"version":"0.0.1"})");
  EXPECT_THAT(ran(daemon, {"doctor"}, {.environment = environment}).out,
              HasSubstr("the daemon is version 0.0.1"));

  const std::string file = (home / "odd.yaml").string();
  std::ofstream(file) << "models: {llm: {model_path: /not/there.gguf}}\n";
  daemon.answer("/api/v1/system", fmt::format(R"({{"version":"{}","config_file":"{}"}})", version(), file));
  EXPECT_THAT(ran(daemon, {"doctor"}, {.environment = environment}).out,
              HasSubstr("configuration: " + file + ":1"));
  std::filesystem::remove_all(home);
}

class LogFileTest : public ::testing::Test {
 protected:
  LogFileTest() { std::filesystem::create_directories(folder_); }
  ~LogFileTest() override { std::filesystem::remove_all(folder_); }
  void write(std::string_view text) { std::ofstream(file_, std::ios::app) << text; }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("llm-manager-logs-" + std::to_string(::getpid()));
  const std::filesystem::path file_ = folder_ / "x.log";
};

TEST_F(LogFileTest, TheLastLinesOfTheFileThatTheDaemonNames) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/system", "{\"log_file\":\"" + file_.string() + "\"}");
  EXPECT_EQ(ran(daemon, {"logs"}).code, 4);
  write("one\ntwo\nthree\n");
  EXPECT_EQ(ran(daemon, {"logs", "-n", "2"}).out, "two\nthree\n");
  EXPECT_EQ(ran(daemon, {"logs", "-n", "0"}).out, "");
  EXPECT_EQ(ran(daemon, {"logs"}).out, "one\ntwo\nthree\n");
  EXPECT_EQ(ran(daemon, {"logs", "-n", "1", "--json"}).out, "{\"line\":\"three\"}\n");
  write("unfinished");
  EXPECT_EQ(ran(daemon, {"logs", "-n", "1"}).out, "unfinished\n");
  // More than one block, with the cut in the middle of a line.
  std::string many;
  for (int i = 0; i < 20000; ++i) many += "line " + std::to_string(i) + "\n";
  write("\n" + many);
  EXPECT_TRUE(ran(daemon, {"logs", "-n", "15000"}).out.starts_with("line 5000\nline 5001\n"));
}

TEST_F(LogFileTest, WithoutADaemonTheDefaultPlace) {
  const auto place = folder_ / "llm-manager" / "llm-manager.log";
  std::filesystem::create_directories(place.parent_path());
  std::ofstream(place) << "last words\n";
  const Ran logs =
      ran({"logs"}, {.environment = {{"HOME", folder_.string()}, {"XDG_DATA_HOME", folder_.string()}}});
  EXPECT_EQ(logs.code, 0);
  EXPECT_EQ(logs.out, "last words\n");
  EXPECT_THAT(logs.err, HasSubstr("no daemon answers"));
}

TEST_F(LogFileTest, FollowsNewLinesTruncationAndRotation) {
  FakeDaemon daemon;
  daemon.answer("/api/v1/system", "{\"log_file\":\"" + file_.string() + "\"}");
  write("old\n");
  // The test acts from inside the program's own output: each line that is seen causes the next step, so
  // nothing waits for time.
  Ran result;
  Host host;
  host.console = {.out = text_stream(result.out), .err = text_stream(result.err)};
  host.console.out.write = [&](std::string_view text) {
    result.out += text;
    if (text == "old\n") write("appe");
    if (text == "old\n") write("nded\n");
    if (text == "appended\n") {
      std::filesystem::rename(file_, folder_ / "x.log.1");
      write("rotated\n");
    }
    if (text == "rotated\n") {
      std::filesystem::resize_file(file_, 0);
      write("cut\n");
    }
    if (text == "cut\n") ::kill(::getpid(), SIGINT);
  };
  host.environment = [&](std::string_view name) -> std::optional<std::string> {
    if (name == "LLM_MANAGER_URL") return daemon.url();
    return std::nullopt;
  };
  host.now_ms = [] { return kNow; };
  EXPECT_EQ(run_program({"logs", "-f"}, std::move(host)), 130);
  EXPECT_EQ(result.out, "old\nappended\nrotated\ncut\n");
}

TEST(Program, ConfigExampleChecksAsGood) {
  const Ran example = ran({"config", "example"});
  EXPECT_EQ(example.code, 0);
  const auto file =
      std::filesystem::temp_directory_path() / ("llm-manager-config-" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(file) << example.out;
  const Ran good = ran({"config", "check", file.string()});
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("is good"));
  std::ofstream(file) << "residency:\n  lingr: 3s\n";
  const Ran bad = ran({"config", "check", file.string()});
  EXPECT_EQ(bad.code, 1);
  EXPECT_THAT(bad.err, HasSubstr(file.string() + ":2"));
  EXPECT_THAT(bad.err, HasSubstr("linger"));
  // What serve would refuse when it opens its doors.
  std::ofstream(file) << "models: {}\nserver: {listen: \"0.0.0.0:1\"}\n";
  const Ran open_to_all = ran({"config", "check", file.string()});
  EXPECT_EQ(open_to_all.code, 1) << open_to_all.out;
  EXPECT_THAT(open_to_all.err, HasSubstr(file.string() + ":2"));
  EXPECT_THAT(open_to_all.err, HasSubstr("server.keys"));
  std::ofstream(file) << "server: {listen: \"my-machine:1\"}\n";
  EXPECT_THAT(ran({"config", "check", file.string()}).err, HasSubstr("no address to listen on"));
  // The variable may be set where the daemon runs.
  std::ofstream(file) << "server: {listen: \"0.0.0.0:1\", keys: {user_env: LLM_MANAGER_NOT_SET}}\n";
  EXPECT_EQ(ran({"config", "check", file.string()}).code, 0);
  std::ofstream(file) << "server: {listen: \"[::1]:1\"}\n";
  EXPECT_EQ(ran({"config", "check", file.string()}).code, 0);
  std::filesystem::remove(file);
  EXPECT_EQ(ran({"config", "check", file.string()}).code, 4);
}

TEST(Program, VersionWithAndWithoutADaemon) {
  EXPECT_EQ(ran({"version"}).out, "llm-manager " + std::string(version()) + "; no daemon answers\n");
  FakeDaemon daemon;
  daemon.answer("/api/v1/system", R"({"version":"9.9"})");
  EXPECT_THAT(ran(daemon, {"version"}).out, HasSubstr("is 9.9\n"));
  EXPECT_EQ(ran(daemon, {"version", "--json"}).out,
            "{\"version\":\"" + std::string(version()) + "\",\"daemon\":{\"version\":\"9.9\"}}\n");
}

TEST(Program, ModelNamesForCompletionAreSafeWords) {
  FakeDaemon daemon;
  daemon.answer(
      "/api/v1/models",
      R"json({"models":[{"id":"tiny","aliases":["t","$(rm x)"],"roles":["chat"]},{"id":"a b"}]})json");
  EXPECT_EQ(ran(daemon, {"__models"}).out, "tiny\nt\nchat\n");
  const Ran none = ran({"__models"});
  EXPECT_EQ(none.out + none.err, "");
}

TEST(Program, WrongUsageIsCodeTwoAndAnObjectWithJson) {
  EXPECT_EQ(ran({"load"}).code, 2);
  const Ran json = ran({"load", "--json"});
  EXPECT_EQ(json.code, 2);
  const auto object = parse_json(json.out);
  ASSERT_TRUE(object.has_value()) << json.out;
  EXPECT_EQ(text_of(*member_of(*object, "error"), "code"), "usage");
}

TEST(Program, ConversationsAreListedSearchedAndChanged) {
  FakeDaemon daemon;
  const std::string path = "/api/v1/conversations";
  const std::string one = R"({"id":"c1","title":"Rivers","user":"ada","channel":"#tea","created_ms":1,)"
                          R"("updated_ms":1700000000000,"message_count":2,"bytes":9})";
  daemon.answer(path, R"({"conversations":[)" + one + R"(],"next":null})");
  Ran list = ran(daemon, {"conversations"});
  EXPECT_EQ(list.code, 0) << list.err;
  EXPECT_THAT(list.out, HasSubstr("c1"));
  EXPECT_THAT(list.out, HasSubstr("Rivers"));
  EXPECT_EQ(daemon.last().target, path + "?limit=20");
  ran(daemon, {"conversations", "list", "--search", "模型 a&b", "--user", "ada", "-n", "3"});
  EXPECT_EQ(daemon.last().target, path + "?limit=3&user=ada&q=%E6%A8%A1%E5%9E%8B%20a%26b");
  daemon.answer(path, R"({"conversations":[],"next":null})");
  EXPECT_THAT(ran(daemon, {"conversations"}).out, HasSubstr("X-Conversation"));

  daemon.answer(
      path + "/c1/export",
      R"({"id":"c1","title":"Rivers","messages":[)"
      R"({"id":1,"role":"user","content":"Name one.","model":"m","at_ms":1700000000000,"complete":true},)"
      R"({"id":2,"role":"assistant","content":"The\u001b[2J Rh","model":"tiny","at_ms":1700000000000,)"
      R"("complete":false}]})");
  const Ran shown = ran(daemon, {"conversations", "show", "c1"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_THAT(shown.out, HasSubstr("Name one.\n"));
  EXPECT_THAT(shown.out, HasSubstr("tiny "));
  EXPECT_THAT(shown.out, HasSubstr("broken off\nThe�[2J Rh\n")) << "what is in it steers no terminal";
  EXPECT_THAT(ran(daemon, {"conversations", "export", "c1"}).out, HasSubstr("\"messages\""));
  EXPECT_EQ(daemon.last().target, path + "/c1/export?format=md");
  ran(daemon, {"conversations", "export", "c1", "--json"});
  EXPECT_EQ(daemon.last().target, path + "/c1/export?format=json");

  daemon.answer(path + "/c1", one);
  EXPECT_EQ(ran(daemon, {"conversations", "rename", "c1", "Long", "rivers"}).out,
            "c1 is called Rivers now\n");
  EXPECT_EQ(daemon.last().method, "PATCH");
  EXPECT_EQ(daemon.last().body, R"({"title":"Long rivers"})");
  EXPECT_EQ(ran(daemon, {"conversations", "rm", "c1"}).out, "c1 is removed\n");
  EXPECT_EQ(daemon.last().method, "DELETE");
  daemon.answer(path + "/c9",
                R"({"error":{"message":"no conversation c9","type":"not_found_error",)"
                R"("code":"conversation_not_found","param":null}})",
                404);
  EXPECT_EQ(ran(daemon, {"conversations", "rm", "c9", "c1"}).code, 4);
  EXPECT_EQ(daemon.last().target, path + "/c9") << "what comes behind it is not touched";
}

}  // namespace
}  // namespace lm::cli
