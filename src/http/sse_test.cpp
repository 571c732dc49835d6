#include "http/sse.h"

#include <vector>

#include <gtest/gtest.h>

namespace lm::http {

void PrintTo(const SseEvent& event, std::ostream* out) {
  *out << "{" << event.event << "|" << event.data << "|" << event.id << "}";
}

namespace {

std::vector<SseEvent> parse(const std::vector<std::string_view>& pieces) {
  std::vector<SseEvent> events;
  SseParser parser([&](SseEvent event) { events.push_back(std::move(event)); });
  for (const std::string_view piece : pieces) EXPECT_TRUE(parser.feed(piece));
  return events;
}

TEST(Sse, Writes) {
  EXPECT_EQ(sse_event("x"), "data: x\n\n");
  EXPECT_EQ(sse_event("a\nb\r\nc\rd", "tick", "7"),
            "event: tick\nid: 7\ndata: a\ndata: b\ndata: c\ndata: d\n\n");
  EXPECT_EQ(sse_event(""), "data: \n\n");
  EXPECT_EQ(sse_event("x", "a\nevil: b"), "event: a evil: b\ndata: x\n\n");
  EXPECT_EQ(sse_comment("ping\nx"), ": ping x\n\n");
}

TEST(Sse, EverySplitGivesTheSameEvents) {
  const std::string stream =
      "\xEF\xBB\xBF: comment\r\n"
      "event: first\r\ndata: one\r\ndata:two\r\nid: 1\r\n\r\n"
      "data\n\n"
      "data: {\"a\": \"b:c\"}\nretry: 10\nunknown: x\n\n"
      "event: no data\n\n"
      "data: last\rid\r\r"
      "data: [DONE]\r\n\r\n"
      "data: never finished\n";
  const std::vector<SseEvent> expected = {{"first", "one\ntwo", "1"},
                                          {"", "", "1"},
                                          {"", "{\"a\": \"b:c\"}", "1"},
                                          {"", "last", ""},
                                          {"", "[DONE]", ""}};
  EXPECT_EQ(parse({stream}), expected);
  const std::string_view all = stream;
  for (std::size_t i = 0; i <= all.size(); ++i) {
    for (std::size_t j = i; j <= all.size(); ++j) {
      ASSERT_EQ(parse({all.substr(0, i), all.substr(i, j - i), all.substr(j)}), expected) << i << " " << j;
    }
  }
  std::vector<std::string_view> bytes;
  for (std::size_t i = 0; i < all.size(); ++i) bytes.push_back(all.substr(i, 1));
  EXPECT_EQ(parse(bytes), expected);
}

TEST(Sse, ReadsWhatItWrites) {
  const std::string stream = sse_event("a\nb", "x", "9") + sse_comment("ping") + sse_event("");
  EXPECT_EQ(parse({stream}), (std::vector<SseEvent>{{"x", "a\nb", "9"}, {"", "", "9"}}));
}

TEST(Sse, UnfinishedEventIsForgotten) {
  int events = 0;
  SseParser parser([&](const SseEvent&) { ++events; });
  ASSERT_TRUE(parser.feed("data: half"));
  EXPECT_TRUE(parser.finish());
  EXPECT_FALSE(parser.finish());
  EXPECT_EQ(events, 0);
}

TEST(Sse, EndlessEventsAreRefused) {
  SseParser line([](const SseEvent&) {}, 100);
  EXPECT_FALSE(line.feed("data: " + std::string(200, 'x')));
  SseParser lines([](const SseEvent&) {}, 100);
  Result<void> got;
  for (int i = 0; i < 20 && got; ++i) got = lines.feed("data: 0123456789\n");
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().reason, "bad_upstream");
}

}  // namespace
}  // namespace lm::http
