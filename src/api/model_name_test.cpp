#include "api/model_name.h"

#include <random>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <gtest/gtest.h>

#include "api/request_scan.h"

namespace lm::api {
namespace {

namespace json = boost::json;

TEST(WithModel, ReplacesTheValueAndNothingElse) {
  EXPECT_EQ(*with_model(R"({ "messages" : [ ], "model" : "ollama_qwen:7b" , "x":1.50 })", "qwen:7b"),
            R"({ "messages" : [ ], "model" : "qwen:7b" , "x":1.50 })");
  EXPECT_EQ(*with_model("\n{\"model\":\"\"}\n", "a"), "\n{\"model\":\"a\"}\n");
  EXPECT_EQ(*with_model(R"({"model":null,"n":1})", "a"), R"({"model":"a","n":1})");
}

TEST(WithModel, LeavesOtherModelsAlone) {
  EXPECT_EQ(*with_model(R"({"a":{"model":"in"},"b":[{"model":"in"},"model"],"c":"model","model":"x"})", "y"),
            R"({"a":{"model":"in"},"b":[{"model":"in"},"model"],"c":"model","model":"y"})");
  EXPECT_EQ(*with_model(R"({"Model":"x","models":"x","mode":"x","":1})", "y"),
            R"({"model":"y","Model":"x","models":"x","mode":"x","":1})");
}

TEST(WithModel, PutsItInFrontWhereItIsMissing) {
  EXPECT_EQ(*with_model("{}", "y"), R"({"model":"y"})");
  EXPECT_EQ(*with_model("{ }", "y"), R"({"model":"y" })");
  EXPECT_EQ(*with_model(R"(  { "stream":true})", "y"), R"(  {"model":"y", "stream":true})");
}

TEST(WithModel, EscapedNamesAndKeysAreFollowed) {
  EXPECT_EQ(*with_model(R"({"a\"model":1,"model":"x\"},{\\","z":"\\"})", "y"),
            R"({"a\"model":1,"model":"y","z":"\\"})");
  EXPECT_EQ(*with_model(R"({"m\u006Fdel":"x","\u006dodel2":1})", "y"),
            R"({"m\u006Fdel":"y","\u006dodel2":1})");
  EXPECT_EQ(*with_model(R"({"model":"x"})", "a\"b\\c\nd"), R"({"model":"a\"b\\c\u000ad"})");
}

TEST(WithModel, BothOfTwoAreReplaced) {
  EXPECT_EQ(*with_model(R"({"model":"a","x":2,"model":"bc"})", "y"), R"({"model":"y","x":2,"model":"y"})");
}

TEST(WithModel, RefusesWhatIsNoObject) {
  for (const char* body :
       {"", "[]", "1", "{", R"({"model")", R"({"model":)", R"({"model":})", R"({"model":"x)",
        R"({"model":"x\)", R"({"model":[})", R"({"model":"x",})", "{1:2}"}) {
    const auto replaced = with_model(body, "y");
    ASSERT_FALSE(replaced) << body;
    EXPECT_EQ(replaced.error().reason, "invalid_json") << body;
  }
}

// Whatever the parser accepts, this understands as it does, and the parser finds the new name and nothing
// else changed.
TEST(WithModel, AgreesWithTheParserOnWhateverItAccepts) {
  const std::string base =
      R"({"model":"tiny","messages":[{"role":"user","model":"h\u00e9\"llo"}],"stream":true,"model":"b","n":-1.5e3})";
  std::mt19937 random(11);
  const std::string_view letters = "{}[]\",:\\ \nmodel0u1t";
  int accepted = 0;
  for (int i = 0; i < 200000; ++i) {
    std::string body = base;
    for (int k = 0; k < 1 + static_cast<int>(random() % 3); ++k) {
      const std::size_t at = random() % body.size();
      const char c = letters[random() % letters.size()];
      if (random() % 2 == 0) {
        body[at] = c;
      } else {
        body.insert(at, 1, c);
      }
    }
    const auto replaced = with_model(body, "new/name");
    if (!scan_request(body)) continue;
    ++accepted;
    ASSERT_TRUE(replaced) << body;
    json::value expected = json::parse(body);
    expected.as_object()["model"] = "new/name";
    ASSERT_EQ(json::parse(*replaced), expected) << body << "\n" << *replaced;
  }
  EXPECT_GT(accepted, 1000);
}

}  // namespace
}  // namespace lm::api
