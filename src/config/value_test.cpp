#include "config/value.h"

#include <limits>
#include <string>

#include <gtest/gtest.h>

namespace lm::config {
namespace {

using namespace std::chrono_literals;

Node scalar(std::string text) {
  return {.kind = Node::Kind::kScalar, .at = {1, 1}, .text = std::move(text)};
}

TEST(DurationValue, ReadsWhatPeopleWrite) {
  EXPECT_EQ(parse_duration("30s"), 30s);
  EXPECT_EQ(parse_duration("30"), 30s);
  EXPECT_EQ(parse_duration("0"), 0s);
  EXPECT_EQ(parse_duration("1.5s"), 1500ms);
  EXPECT_EQ(parse_duration("0.1s"), 100ms);
  EXPECT_EQ(parse_duration("250ms"), 250ms);
  EXPECT_EQ(parse_duration("10 min"), 10min);
  EXPECT_EQ(parse_duration("5m"), 5min);
  EXPECT_EQ(parse_duration("1h30min"), 90min);
  EXPECT_EQ(parse_duration("1h 30m 5s"), 90min + 5s);
  EXPECT_EQ(parse_duration("2 Days"), 48h);
}

TEST(DurationValue, RefusesTheRest) {
  for (const char* text : {"", "s", "soon", "-5s", "-0", "1h30", "5 parsecs", "1e3s", "nan", "inf", "10s,",
                           "999999999999h", "1:30"}) {
    EXPECT_FALSE(parse_duration(text)) << text;
  }
}

TEST(DurationValue, PrintsInTheLargestUnit) {
  EXPECT_EQ(print_duration(30s), "30s");
  EXPECT_EQ(print_duration(60s), "1min");
  EXPECT_EQ(print_duration(90s), "90s");
  EXPECT_EQ(print_duration(0s), "0s");
  EXPECT_EQ(print_duration(1500ms), "1500ms");
  EXPECT_EQ(print_duration(48h), "2d");
  EXPECT_EQ(print_duration(Duration(-1)), "forever");
  EXPECT_EQ(print_duration(std::chrono::microseconds(1500)), "1.5ms");
}

TEST(BytesValue, PrintsExactly) {
  EXPECT_EQ(print_bytes(gib(2)), "2GB");
  EXPECT_EQ(print_bytes(mib(1536)), "1536MB");
  EXPECT_EQ(print_bytes(Bytes(1000)), "1000");
  EXPECT_EQ(print_bytes(Bytes(0)), "0");
}

TEST(Values, PrintedAndReadAgainTheyAreTheSame) {
  for (const Duration d : {Duration(0s), Duration(1ms), Duration(90s), Duration(48h), Duration(1501ms)}) {
    EXPECT_EQ(parse_duration(print_duration(d)), d);
  }
  for (const Bytes b : {Bytes(0), Bytes(1), kib(3), mib(1536), gib(17), Bytes(1234567)})
    EXPECT_EQ(parse_bytes(print_bytes(b)), b);
  for (const std::string text :
       {"plain",    "a b",  "12",           "true", "no",          "~",   "null",
        "- x",      "a: b", "quote\"and\\", "線",   "line\nbreak", "#no", "http://h:1/v1",
        "{x",       "[x",   "*x",           "&x",   "!x",          "%x",  "@x",
        "`x",       "x:",   ":x",           "-",    ".",           "1e3", "0x1F",
        "~/models", "y"}) {
    const auto tree = parse_yaml("k: " + print_text(text) + "\n", "f");
    ASSERT_TRUE(tree) << text << " " << to_string(tree.error());
    ASSERT_EQ(tree->find("k")->kind, Node::Kind::kScalar) << text;
    EXPECT_EQ(tree->find("k")->text, text);
  }
}

TEST(Values, NumbersHaveRanges) {
  EXPECT_EQ(integer_type(1, 10).read(scalar("7")), 7);
  EXPECT_EQ(integer_type(1, 100'000).read(scalar("32_768")), 32768);
  for (const char* text : {"0", "11", "1.5", "x", "", "99999999999999999999", "0x5", "5 "}) {
    EXPECT_FALSE(integer_type(1, 10).read(scalar(text))) << text;
  }
  EXPECT_EQ(integer_type(1, 10).read(scalar("11")).error(),
            "expected a whole number from 1 to 10, found \"11\"");
  EXPECT_EQ(integer_type(1, std::numeric_limits<int>::max()).read(scalar("0")).error(),
            "expected a whole number of at least 1, found \"0\"");
  EXPECT_EQ(integer_type(1, std::numeric_limits<int>::max()).read(scalar("99999999999")).error(),
            "expected a whole number from 1 to 2147483647, found \"99999999999\"");
  EXPECT_DOUBLE_EQ(number_type(0, 5).read(scalar("0.7")).value(), 0.7);
  for (const char* text : {"-0.1", "5.1", "nan", "inf", ".inf", "hot"})
    EXPECT_FALSE(number_type(0, 5).read(scalar(text))) << text;
  EXPECT_FALSE(integer_type(1, 10).read(Node{.kind = Node::Kind::kList}));
}

TEST(Values, BooleansInYamlsWords) {
  for (const char* text : {"true", "True", "YES", "on"}) EXPECT_EQ(boolean_type().read(scalar(text)), true);
  for (const char* text : {"false", "no", "Off"}) EXPECT_EQ(boolean_type().read(scalar(text)), false);
  EXPECT_EQ(boolean_type().read(scalar("maybe")).error(), "expected true or false, found \"maybe\"");
}

TEST(Values, ChoicesSayWhatWasMeant) {
  const auto type =
      choice_type<ResidencyMode>({{"exclusive", ResidencyMode::kExclusive}, {"fit", ResidencyMode::kFit}});
  EXPECT_EQ(type.read(scalar("Fit")), ResidencyMode::kFit);
  EXPECT_EQ(type.read(scalar("exclusiv")).error(),
            "expected one of exclusive, fit, found \"exclusiv\"; did you mean exclusive?");
  EXPECT_EQ(type.read(scalar("banana")).error(), "expected one of exclusive, fit, found \"banana\"");
}

TEST(Values, KeepAliveMayBeForever) {
  const auto type = keep_alive_type();
  EXPECT_EQ(type.read(scalar("forever")), Duration(-1));
  EXPECT_EQ(type.read(scalar("-1")), Duration(-1));
  EXPECT_EQ(type.read(scalar("-1m")), Duration(-1));
  EXPECT_FALSE(type.read(scalar("-5s"))) << "a slip rather than a wish";
  EXPECT_EQ(type.read(scalar("0")), Duration(0));
  EXPECT_EQ(type.read(scalar("5m")), Duration(5min));
  EXPECT_FALSE(type.read(scalar("-")));
  EXPECT_FALSE(type.read(scalar("later")));
}

TEST(Values, DevicesAsDifferentPeopleWriteThem) {
  EXPECT_EQ(device_type().read(scalar("cuda:0")), "cuda0");
  EXPECT_EQ(device_type().read(scalar("CUDA")), "cuda");
  EXPECT_EQ(device_type().read(scalar("cpu")), "host");
  EXPECT_FALSE(device_type().read(scalar("the big one")));
  EXPECT_FALSE(device_type().read(scalar("")));
}

TEST(Values, Addresses) {
  EXPECT_EQ(url_type().read(scalar("http://h:1/v1/")), "http://h:1/v1");
  EXPECT_EQ(url_type().read(scalar("HTTPS://h")), "HTTPS://h");
  for (const char* text : {"", "h:11434", "ftp://h", "http://", "http:///x", "http://a b"}) {
    EXPECT_FALSE(url_type().read(scalar(text))) << text;
  }
}

TEST(Values, LongTextsAreCutBetweenLetters) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "線";
  const std::string sentence = unexpected_value("a number", scalar(text));
  EXPECT_LT(sentence.size(), 120U);
  EXPECT_TRUE(parse_yaml("k: '" + sentence + "'", "f")) << "not UTF-8";
}

TEST(Nearest, CountsAndSuggests) {
  EXPECT_EQ(edit_distance("linger", "linger"), 0);
  EXPECT_EQ(edit_distance("lingre", "linger"), 1);  // neighbours swapped
  EXPECT_EQ(edit_distance("max-loaded", "max_loaded"), 0);
  EXPECT_EQ(edit_distance("", "abc"), 3);
  const std::vector<std::string> words = {"mode", "linger", "max_loaded"};
  EXPECT_EQ(nearest("lnger", words), "linger");
  EXPECT_EQ(nearest("zebra", words), std::nullopt);
  EXPECT_EQ(suggestion("lnger", words), ", did you mean linger?");
  EXPECT_EQ(suggestion("zebra", words), ", it may be one of mode, linger, max_loaded");
  EXPECT_EQ(edit_distance(std::string(1'000'000, 'a'), "b"), 64);  // bounded work
}

}  // namespace
}  // namespace lm::config
