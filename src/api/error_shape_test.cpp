#include "api/error_shape.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include "base/result.h"

namespace lm::api {
namespace {

Error held() {
  return {.code = ErrorCode::kUnavailable,
          .message = "x is kept unloaded",
          .reason = "model_held",
          .fields = {{"held_by", "owner"}, {"held_since_ms", 5}, {"param", "model"}},
          .retry_after = std::chrono::milliseconds(1500)};
}

TEST(ErrorShape, OpenaiHasItsFourFieldsAndOurDetails) {
  const auto error = error_json(held()).at("error").as_object();
  EXPECT_EQ(error.at("message"), "x is kept unloaded");
  EXPECT_EQ(error.at("code"), "model_held");
  EXPECT_EQ(error.at("type"), "unavailable_error");
  EXPECT_EQ(error.at("param"), "model");
  EXPECT_EQ(error.at("status"), "unavailable");
  EXPECT_EQ(error.at("details").at("held_by"), "owner");
  EXPECT_EQ(error.at("details").at("held_since_ms"), 5);
  EXPECT_EQ(error.at("retry_after_s"), 1.5);
}

TEST(ErrorShape, ThePathChoosesTheShape) {
  http::Request request;
  request.path = "/v1/messages";
  auto body = boost::json::parse(error_body(held(), request).text).as_object();
  EXPECT_EQ(body.at("type"), "error");
  EXPECT_EQ(body.at("error").at("type"), "overloaded_error");
  request.path = "/api/chat";
  body = boost::json::parse(error_body(held(), request).text).as_object();
  EXPECT_EQ(body.at("error"), "x is kept unloaded");
  request.path = "/api/v1/models";
  body = boost::json::parse(error_body(held(), request).text).as_object();
  EXPECT_EQ(body.at("error").at("code"), "model_held");
}

TEST(ErrorShape, EveryCodeHasAStatusOfItsKind) {
  for (int i = 0; i < kErrorCodeCount; ++i) {
    const Error error{
        .code = static_cast<ErrorCode>(i), .message = "m", .reason = {}, .fields = {}, .retry_after = {}};
    EXPECT_GE(http_status(error), 400) << i;
    EXPECT_LT(http_status(error), 600) << i;
    EXPECT_FALSE(openai_type(error).empty());
  }
  EXPECT_EQ(http_status({.code = ErrorCode::kResourceExhausted,
                         .message = "",
                         .reason = "insufficient_memory",
                         .fields = {},
                         .retry_after = {}}),
            507);
  const Error kept{.code = ErrorCode::kResourceExhausted,
                   .message = "",
                   .reason = "upstream_not_released",
                   .fields = {},
                   .retry_after = {}};
  EXPECT_EQ(http_status(kept), 507);
  EXPECT_EQ(openai_type(kept), "insufficient_memory_error");
  EXPECT_EQ(http_status({.code = ErrorCode::kResourceExhausted,
                         .message = "",
                         .reason = "queue_full",
                         .fields = {},
                         .retry_after = {}}),
            429);
  EXPECT_EQ(http_status({.code = ErrorCode::kCancelled,
                         .message = "",
                         .reason = "client_gone",
                         .fields = {},
                         .retry_after = {}}),
            499);
  EXPECT_EQ(http_status({.code = ErrorCode::kCancelled,
                         .message = "",
                         .reason = "model_unloaded",
                         .fields = {},
                         .retry_after = {}}),
            503);
}

TEST(ErrorShape, AnEventIsOneWholeEvent) {
  const std::string event = error_event(held(), "/v1/chat/completions");
  EXPECT_TRUE(event.starts_with("data: {\"error\":"));
  EXPECT_TRUE(event.ends_with("\n\n"));
  EXPECT_TRUE(error_event(held(), "/v1/messages").starts_with("event: error\n"));
}

TEST(ErrorShape, WhatWasToldIsUnderstoodAgain) {
  const auto told = error_in(error_json(held()));
  ASSERT_TRUE(told);
  EXPECT_EQ(told->message, held().message);
  EXPECT_EQ(told->reason, "model_held");
  EXPECT_EQ(told->retry_after, held().retry_after);
  EXPECT_EQ(http_status(*told), http_status(held()));
  const auto plain = error_in(error_json(fail(ErrorCode::kNotFound, "gone").error()));
  EXPECT_EQ(plain->reason, "") << "the word for the code is no reason";
  EXPECT_EQ(http_status(*plain), 404);
}

TEST(ErrorShape, ErrorsOfOthersAreUnderstoodAsFarAsTheyGo) {
  const auto in = [](std::string_view text) { return error_in(boost::json::parse(text).as_object()); };
  EXPECT_FALSE(in("{}"));
  EXPECT_FALSE(in(R"({"error": null})"));
  EXPECT_EQ(in(R"({"error": "model 'x' not found"})")->message, "model 'x' not found");
  const auto engine =
      in(R"({"error": {"code": 400, "message": "too long", "type": "exceed_context_size_error"}})");
  EXPECT_EQ(engine->message, "too long");
  EXPECT_EQ(http_status(*engine), 400);
  EXPECT_EQ(http_status(*in(R"({"error": {"code": 503, "message": "busy"}})")), 503);
  const auto provider =
      in(R"({"error": {"message": "no credit", "type": "billing", "code": "insufficient_quota"}})");
  EXPECT_EQ(provider->reason, "insufficient_quota");
  EXPECT_EQ(in(R"({"error": {"what": 1}})")->message, R"({"what":1})");
  EXPECT_EQ(in(R"({"error": 7})")->message, "7");
}

}  // namespace
}  // namespace lm::api
