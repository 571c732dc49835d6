#include "http/parser.h"

#include <gtest/gtest.h>

namespace lm::http {
namespace {

// Feeds a byte at a time; true where the request is whole at the end of the text.
bool is_whole_byte_by_byte(RequestParser& parser, std::string_view text) {
  std::string pending;
  for (const char c : text) {
    pending += c;
    for (;;) {
      const auto taken = parser.feed(pending);
      if (!taken) return false;
      pending.erase(0, *taken);
      if (*taken == 0 || parser.done()) break;
    }
  }
  return parser.done();
}

TEST(RequestParser, ALastChunkMayComeByteByByte) {
  RequestParser parser({});
  EXPECT_TRUE(is_whole_byte_by_byte(
      parser, "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
  EXPECT_EQ(parser.request().body, "");
}

TEST(RequestParser, SoMayAllChunksAndTheirTrailer) {
  RequestParser parser({});
  EXPECT_TRUE(is_whole_byte_by_byte(parser,
                                    "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                                    "5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-T: 1\r\n\r\n"));
  EXPECT_EQ(parser.request().body, "hello!");
  EXPECT_FALSE(parser.request().headers.has("X-T"));
}

TEST(RequestParser, ATrailerThatIsNoneIsRefused) {
  RequestParser parser({});
  EXPECT_FALSE(is_whole_byte_by_byte(
      parser,
      "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nhello\r\n3;a=b\r\n\r\n"));
}

TEST(ResponseParser, ALastChunkMayComeByteByByte) {
  ResponseParser parser({}, false);
  std::string pending, body;
  for (const char c : std::string_view("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) {
    pending += c;
    const auto taken = parser.feed(pending, body);
    ASSERT_TRUE(taken) << taken.error().message;
    pending.erase(0, *taken);
  }
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(body, "");
}

}  // namespace
}  // namespace lm::http
