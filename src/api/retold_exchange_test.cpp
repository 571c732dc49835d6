#include "api/retold_exchange.h"

#include <optional>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "api/error_shape.h"
#include "api/ollama_answer.h"
#include "http/sse.h"

namespace lm::api {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

// A client: what came to it, in order.
class Client final : public http::Exchange {
 public:
  explicit Client(asio::any_io_executor executor) : Exchange(request()), executor_(std::move(executor)) {}

  asio::any_io_executor executor() const override { return executor_; }
  Task<Result<void>> respond(http::Response response) override {
    EXPECT_TRUE(status == 0);
    status = response.status;
    headers = std::move(response.headers);
    body = std::move(response.body);
    ended_ = true;
    co_return Result<void>();
  }
  Task<Result<void>> fail(int with, Error error) override {
    http::Body told = error_body(error, Exchange::request());
    failure = error;
    co_return co_await respond(
        {.status = with, .headers = {{"Content-Type", told.content_type}}, .body = std::move(told.text)});
  }
  void add_header(std::string_view, std::string_view) override {}
  Result<void> begin(int with, http::Headers fields) override {
    EXPECT_TRUE(status == 0);
    status = with;
    headers = std::move(fields);
    return {};
  }
  Task<Result<void>> write(std::string_view bytes) override {
    if (gone) co_return lm::fail(ErrorCode::kCancelled, "the client has left", "client_gone");
    EXPECT_TRUE(status != 0 && !ended_);
    body += bytes;
    co_return Result<void>();
  }
  Task<Result<void>> end(std::string_view last) override {
    LM_CO_TRY_VOID(co_await write(last));
    ended_ = true;
    co_return Result<void>();
  }
  bool begun() const override { return status != 0; }
  bool ended() const override { return ended_; }
  bool client_gone() const override { return gone; }
  http::RawStream take_over() override { std::abort(); }

  static http::Request request() {
    http::Request asked;
    asked.path = "/api/chat";
    return asked;
  }

  int status = 0;
  http::Headers headers;
  std::string body;
  std::optional<Error> failure;
  bool gone = false;

 private:
  asio::any_io_executor executor_;
  bool ended_ = false;
};

struct Retold : ::testing::Test {
  RetoldExchange& exchange(bool stream = true) {
    OllamaClock clock{.now = [this] { return now; },
                      .date = [] { return std::chrono::system_clock::time_point(); }};
    http::Request question;
    question.path = "/v1/chat/completions";
    retold.emplace(client, std::move(question),
                   std::make_unique<OllamaAnswer>(OllamaAnswer::Form::kChat, "m", stream, clock),
                   [this] { return now; });
    return *retold;
  }
  // Runs what never waits.
  template <class T>
  T run(Task<T> task) {
    std::optional<T> result;
    asio::co_spawn(io, std::move(task), [&](std::exception_ptr thrown, T value) {
      EXPECT_FALSE(thrown);
      result = std::move(value);
    });
    io.restart();
    io.run();
    return *std::move(result);
  }
  void run(Task<> task) {
    bool done = false;
    asio::co_spawn(io, std::move(task), [&](std::exception_ptr thrown) { done = !thrown; });
    io.restart();
    io.run();
    EXPECT_TRUE(done);
  }
  void begin(int status = 200, std::string type = "text/event-stream") {
    EXPECT_TRUE(retold->begin(status, {{"Content-Type", std::move(type)}}));
  }
  void write(std::string_view bytes) { EXPECT_TRUE(run(retold->write(bytes))); }

  asio::io_context io;
  Client client{io.get_executor()};
  TimePoint now{1h};
  std::optional<RetoldExchange> retold;
};

constexpr std::string_view kPiece = "data: {\"choices\":[{\"delta\":{\"content\":\"Paris\"}}]}\n\n";
constexpr std::string_view kEnd =
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";

Error held() {
  return fail(ErrorCode::kUnavailable, "m is kept unloaded", "model_held").error();
}

TEST_F(Retold, TheHeaderGoesWithTheFirstLine) {
  exchange();
  begin();
  EXPECT_TRUE(retold->begun());
  EXPECT_EQ(client.status, 0);
  write(": m is loading\n\n");
  EXPECT_EQ(client.status, 0) << "silence, so far";
  write(kPiece);
  EXPECT_EQ(client.status, 200);
  EXPECT_EQ(client.headers.get("Content-Type"), "application/x-ndjson");
  EXPECT_NE(client.body.find("Paris"), std::string::npos);
  EXPECT_TRUE(run(retold->end(kEnd)));
  EXPECT_TRUE(client.ended());
  EXPECT_NE(client.body.find("\"done\":true"), std::string::npos);
}

TEST_F(Retold, WhatFailsBeforeAnythingWasToldHasItsStatus) {
  exchange();
  begin();
  write(": m is queued\n\n");
  EXPECT_TRUE(run(retold->end(error_event(held(), "/v1/chat/completions"))));
  EXPECT_EQ(client.status, 503);
  EXPECT_EQ(client.body, R"({"error":"m is kept unloaded"})");
  EXPECT_EQ(client.failure->reason, "model_held");
}

TEST_F(Retold, WhatFailsInTheMiddleIsTheLastLine) {
  exchange();
  begin();
  write(kPiece);
  EXPECT_TRUE(run(retold->end(error_event(held(), "/v1/chat/completions"))));
  EXPECT_EQ(client.status, 200);
  EXPECT_TRUE(client.ended());
  EXPECT_TRUE(client.body.ends_with("}\n{\"error\":\"m is kept unloaded\"}\n")) << client.body;
}

TEST_F(Retold, AnEngineThatRefusesIsPassedOnWithItsStatus) {
  exchange();
  begin(400, "application/json");
  write(R"({"error":{"code":400,"mess)");
  EXPECT_TRUE(run(retold->end(R"(age":"too long","type":"exceed_context_size_error"}})")));
  EXPECT_EQ(client.status, 400);
  EXPECT_EQ(client.body, R"({"error":"too long"})");
}

TEST_F(Retold, ARefusalInOnePieceToo) {
  exchange();
  EXPECT_TRUE(
      run(retold->respond({.status = 429, .headers = {}, .body = R"({"error":{"message":"slow down"}})"})));
  EXPECT_EQ(client.status, 429);
  EXPECT_EQ(client.body, R"({"error":"slow down"})");
  EXPECT_TRUE(retold->ended());
}

TEST_F(Retold, ARefusalThatIsNoJsonIsTold) {
  exchange();
  EXPECT_TRUE(run(retold->respond({.status = 502, .headers = {}, .body = "bad gateway"})));
  EXPECT_EQ(client.status, 502);
  EXPECT_EQ(client.body, R"({"error":"bad gateway"})");
}

TEST_F(Retold, WithoutAStreamTheAnswerIsOnePieceWithItsLength) {
  exchange(false);
  begin();
  write(kPiece);
  now += 10min;
  write(": still at it\n\n");
  EXPECT_EQ(client.status, 0);
  EXPECT_TRUE(run(retold->end(kEnd)));
  EXPECT_EQ(client.status, 200);
  EXPECT_EQ(client.headers.get("Content-Type"), "application/json; charset=utf-8");
  EXPECT_NE(client.body.find("Paris"), std::string::npos);
}

TEST_F(Retold, ALongSilenceIsBrokenByAnEmptyPiece) {
  exchange();
  begin();
  now += RetoldExchange::kQuiet - 1ms;
  write(": m is queued\n\n");
  EXPECT_EQ(client.status, 0);
  now += 1ms;
  write(": m is queued\n\n");
  EXPECT_EQ(client.status, 200);
  const std::size_t one = client.body.size();
  EXPECT_NE(client.body.find(R"("content":""},"done":false)"), std::string::npos);
  write(": m is queued\n\n");
  EXPECT_EQ(client.body.size(), one) << "not with every comment";
  now += RetoldExchange::kQuiet;
  write(": m is queued\n\n");
  EXPECT_EQ(client.body.size(), 2 * one);
  EXPECT_TRUE(run(retold->end(error_event(held(), "/v1/chat/completions"))));
  EXPECT_TRUE(client.body.ends_with("{\"error\":\"m is kept unloaded\"}\n"));
}

TEST_F(Retold, AnAnswerThatIsLeftInTheMiddleIsAnErrorAndNoSilence) {
  exchange(false);
  begin();
  write(kPiece);
  run(retold->close());
  EXPECT_EQ(client.status, 503);
  EXPECT_TRUE(retold->ended());
  run(retold->close());
}

TEST_F(Retold, NobodyIsToldAnythingAfterTheClientHasLeft) {
  exchange();
  begin();
  client.gone = true;
  const auto told = run(retold->write(kPiece));
  ASSERT_FALSE(told);
  EXPECT_EQ(told.error().reason, "client_gone");
  run(retold->close());
  EXPECT_EQ(client.body, "");
}

}  // namespace
}  // namespace lm::api
