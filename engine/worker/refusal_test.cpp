#include "refusal.h"

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

namespace lm::worker {
namespace {

namespace json = boost::json;

constexpr const char* kEngines =
    R"({"error":{"code":400,"message":"too many","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}})";

TEST(Refusal, HasOpenaisNamesAndKeepsTheNumbers) {
  EXPECT_EQ(json::parse(refusal_for("/v1/chat/completions", kEngines)),
            json::parse(R"({"error":{"message":"too many","type":"invalid_request_error","param":null,
                            "code":"context_length_exceeded","n_prompt_tokens":9,"n_ctx":8}})"));
}

TEST(Refusal, HasNoNumberForACode) {
  EXPECT_EQ(json::parse(refusal_for("/v1/completions",
                                    R"({"error":{"code":500,"message":"m","type":"server_error"}})")),
            json::parse(R"({"error":{"code":null,"message":"m","type":"server_error","param":null}})"));
}

TEST(Refusal, HasAnthropicsShapeOnItsPath) {
  EXPECT_EQ(json::parse(refusal_for("/v1/messages", kEngines)),
            json::parse(R"({"type":"error","error":{"type":"invalid_request_error","message":"too many"}})"));
  EXPECT_EQ(json::parse(refusal_for("/v1/messages/count_tokens",
                                    R"({"error":{"code":503,"message":"m","type":"unavailable_error"}})")),
            json::parse(R"({"type":"error","error":{"type":"overloaded_error","message":"m"}})"));
}

TEST(Refusal, LeavesWhatItDoesNotKnow) {
  for (const char* other : {"", "no JSON", "[]", "{}", R"({"error":"text"})", R"({"error":{"message":1}})",
                            R"({"error":{"type":"server_error"}})"}) {
    EXPECT_EQ(refusal_for("/v1/chat/completions", other), other);
  }
}

TEST(Refusal, OfATextThatCannotFitTellsBothNumbers) {
  const auto error = json::parse(too_long_for("/v1/chat/completions", 8'000'000, 2048)).at("error");
  EXPECT_EQ(error.at("code"), "context_length_exceeded");
  EXPECT_EQ(error.at("n_ctx"), 2048);
  EXPECT_NE(error.at("message").as_string().find("8000000 bytes"), std::string::npos);
}

}  // namespace
}  // namespace lm::worker
