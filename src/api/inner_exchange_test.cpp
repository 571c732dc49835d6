#include "api/inner_exchange.h"

#include <optional>
#include <utility>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/sse.h"

namespace lm::api {
namespace {

namespace asio = boost::asio;
using ::testing::ElementsAre;

class InnerExchangeTest : public ::testing::Test {
 protected:
  InnerExchange::Say hear() {
    return [this](InnerExchange::Piece piece) { return say(this, std::move(piece)); };
  }
  static Task<Result<void>> say(InnerExchangeTest* self, InnerExchange::Piece piece) {
    if (self->gone) co_return fail(ErrorCode::kCancelled, "left", "client_gone");
    self->heard.emplace_back(piece.is_thinking, piece.text);
    co_return Result<void>();
  }
  Result<void> run(Task<Result<void>> task) {
    std::optional<Result<void>> done;
    asio::co_spawn(context, std::move(task),
                   [&](std::exception_ptr, Result<void> result) { done = std::move(result); });
    context.restart();
    context.run();
    return *done;
  }
  static std::string delta(std::string_view member, std::string_view text) {
    return http::sse_event(R"({"choices":[{"delta":{")" + std::string(member) + R"(":")" + std::string(text) +
                           R"("},"finish_reason":null}]})");
  }

  asio::io_context context;
  std::vector<std::pair<bool, std::string>> heard;
  bool gone = false;
  InnerExchange exchange{context.get_executor(), R"({"model":"x"})", http::Principal::kUser, "page", hear()};
};

TEST_F(InnerExchangeTest, AsksAsAnyClientWould) {
  EXPECT_EQ(exchange.request().path, "/v1/chat/completions");
  EXPECT_EQ(exchange.request().body, R"({"model":"x"})");
  EXPECT_EQ(exchange.client(), "page");
  EXPECT_EQ(exchange.principal(), http::Principal::kUser);
}

TEST_F(InnerExchangeTest, TellsPiecesAsTheyCome) {
  const std::string end =
      http::sse_event(R"({"choices":[{"delta":{},"finish_reason":"stop"}]})") + http::sse_event("[DONE]");
  const std::string stream = http::sse_comment("loading") + delta("reasoning_content", "hm") +
                             delta("content", "Par") + delta("content", "is") + end;
  ASSERT_TRUE(exchange.begin(200, {{"Content-Type", "text/event-stream"}}));
  for (const char c : stream) ASSERT_TRUE(run(exchange.write({&c, 1})));
  ASSERT_TRUE(run(exchange.end()));
  EXPECT_THAT(heard, ElementsAre(std::pair(true, "hm"), std::pair(false, "Par"), std::pair(false, "is")));
  EXPECT_EQ(exchange.finish(), "stop");
  EXPECT_EQ(exchange.error(), std::nullopt);
  EXPECT_TRUE(exchange.ended());
}

TEST_F(InnerExchangeTest, AnErrorEndsTheAnswerWhereverItComes) {
  ASSERT_TRUE(exchange.begin(200, {}));
  ASSERT_TRUE(run(exchange.write(delta("content", "Par"))));
  ASSERT_TRUE(run(exchange.end(http::sse_event(
      R"({"error":{"message":"too long","code":"context_length_exceeded","status":"invalid_argument"}})"))));
  EXPECT_EQ(exchange.error()->reason, "context_length_exceeded");
  EXPECT_EQ(heard.size(), 1u);
}

TEST_F(InnerExchangeTest, ARefusalIsAnError) {
  ASSERT_TRUE(run(exchange.respond(
      {.status = 429, .headers = {}, .body = R"({"error":{"message":"full","code":"queue_full"}})"})));
  EXPECT_EQ(exchange.error()->reason, "queue_full");
  InnerExchange other(context.get_executor(), "{}", http::Principal::kUser, "", hear());
  ASSERT_TRUE(run(other.fail(404, fail(ErrorCode::kNotFound, "nobody", "model_not_found").error())));
  EXPECT_EQ(other.error()->reason, "model_not_found");
  EXPECT_TRUE(other.ended());
  InnerExchange third(context.get_executor(), "{}", http::Principal::kUser, "", hear());
  ASSERT_TRUE(third.begin(503, {}));
  ASSERT_TRUE(run(third.end("no JSON at all")));
  EXPECT_EQ(third.error()->reason, "bad_upstream");
}

TEST_F(InnerExchangeTest, AnAnswerThatIsCutIsNone) {
  ASSERT_TRUE(exchange.begin(200, {}));
  ASSERT_TRUE(run(exchange.write(delta("content", "Par"))));
  EXPECT_EQ(exchange.error()->reason, "bad_upstream");
}

TEST_F(InnerExchangeTest, WhoHasLeftIsToldNoMore) {
  ASSERT_TRUE(exchange.begin(200, {}));
  gone = true;
  const auto written = run(exchange.write(delta("content", "Par") + delta("content", "is")));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().reason, "client_gone");
  EXPECT_TRUE(exchange.client_gone());
  EXPECT_FALSE(run(exchange.write(delta("content", "!"))));
}

}  // namespace
}  // namespace lm::api
