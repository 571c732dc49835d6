#include "api/request_scan.h"

#include <random>

#include <gtest/gtest.h>

namespace lm::api {
namespace {

TEST(RequestScan, FindsModelAndStreamAtTheTopOnly) {
  const auto scan = scan_request(
      R"({"messages":[{"model":"inner","stream":true}],"tools":{"stream":true},"model":"a\u0062c"})");
  ASSERT_TRUE(scan);
  EXPECT_EQ(scan->model, "abc");
  EXPECT_FALSE(scan->stream);
}

TEST(RequestScan, StreamIsABooleanOrNothing) {
  EXPECT_TRUE(scan_request(R"({"stream":true})")->stream);
  EXPECT_FALSE(scan_request(R"({"stream":false})")->stream);
  EXPECT_FALSE(scan_request(R"({"stream":null,"other":true})")->stream);
  EXPECT_FALSE(scan_request(R"({"stream":[true]})")->stream);
}

TEST(RequestScan, OfAMemberThatIsThereTwiceTheLastOneCounts) {
  EXPECT_EQ(scan_request(R"({"model":"a","model":"b"})")->model, "b");
  EXPECT_EQ(scan_request(R"({"model":"a","model":null})")->model, std::nullopt);
  EXPECT_FALSE(scan_request(R"({"stream":true,"stream":1})")->stream);
}

TEST(RequestScan, TellsWhetherAnythingIsAsked) {
  EXPECT_TRUE(scan_request(R"({"model":"a","messages":[]})", "messages")->asks);
  EXPECT_FALSE(scan_request(R"({"model":"a","x":{"messages":[]}})", "messages")->asks);
  EXPECT_FALSE(scan_request(R"({"model":"a","prompt":"hi"})", "messages")->asks);
}

TEST(RequestScan, NoModelIsNoModel) {
  EXPECT_EQ(scan_request("{}")->model, std::nullopt);
  EXPECT_EQ(scan_request(R"({"model":null})")->model, std::nullopt);
}

TEST(RequestScan, RefusesWhatIsNoObject) {
  for (const char* body : {"", "[]", "1", "\"model\"", "{", R"({"model":"x"} trailing)", R"({"model":"x"}{})",
                           "{\"model\":\"\xff\"}", "nul"}) {
    const auto scan = scan_request(body);
    ASSERT_FALSE(scan) << body;
    EXPECT_EQ(scan.error().reason, "invalid_json") << body;
  }
}

TEST(RequestScan, RefusesAModelThatIsNoName) {
  for (const char* body : {R"({"model":1})", R"({"model":["x"]})", R"({"model":{"a":"x"}})",
                           R"({"model":true})", R"({"model":1.5})"}) {
    const auto scan = scan_request(body);
    ASSERT_FALSE(scan) << body;
    EXPECT_EQ(scan.error().reason, "invalid_model") << body;
  }
}

TEST(RequestScan, RefusesBottomlessNesting) {
  EXPECT_FALSE(scan_request(R"({"a":)" + std::string(100000, '[') + std::string(100000, ']') + "}"));
  EXPECT_TRUE(scan_request(R"({"a":)" + std::string(60, '[') + std::string(60, ']') + "}"));
}

TEST(RequestScan, LongModelNamesComeWhole) {
  const std::string name(100000, 'm');
  EXPECT_EQ(scan_request(R"({"model":")" + name + R"("})")->model, name);
}

// Whatever the bytes are, it answers.
TEST(RequestScan, MutationsNeverCrash) {
  const std::string base =
      R"({"model":"tiny","messages":[{"role":"user","content":"h\u00e9llo"}],"stream":true,"n":1.5e3})";
  std::mt19937 random(7);
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string body = base;
    for (int k = 0; k < 1 + static_cast<int>(random() % 3); ++k)
      body[random() % body.size()] = static_cast<char>(random());
    accepted += scan_request(body).has_value() ? 1 : 0;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 20000);
}

TEST(RequestScan, KnowsWhatCannotBeContinued) {
  for (const char* body :
       {R"({"tools":[{}]})", R"({"response_format":{"type":"json_object"}})", R"({"grammar":"root ::= x"})",
        R"({"logprobs":true})", R"({"logprobs":5})", R"({"n":2})", R"({"best_of":3})",
        R"({"prompt":["a","b"]})", R"({"prompt":[1,2]})", R"({"echo":true})", R"({"json_schema":{}})"}) {
    EXPECT_FALSE(scan_request(body)->continuable) << body;
  }
  for (const char* body : {R"({"messages":[{"role":"user","content":"x","tools":[1]}],"max_tokens":3})",
                           R"({"n":1,"prompt":"a"})",
                           R"({"tools":null,"logprobs":false,"n":null,"echo":false,"top_logprobs":0})",
                           R"({"temperature":0.5})"}) {
    EXPECT_TRUE(scan_request(body)->continuable) << body;
  }
}

}  // namespace
}  // namespace lm::api
