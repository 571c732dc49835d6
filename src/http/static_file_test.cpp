#include "http/static_file.h"

#include <string>
#include <vector>
#include <zlib.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "http/test_peers.h"

namespace lm::http {
namespace {

using ::testing::HasSubstr;
using testing::RawSocket;
using testing::TestServer;

const std::string kText = "<!doctype html><p>" + std::string(5000, 'a') + "</p>";

std::string pack(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  std::string text_copy = text;
  stream.next_in = reinterpret_cast<Bytef*>(text_copy.data());
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

const std::string& packed_text() {
  static const std::string packed = pack(kText);
  return packed;
}

const std::vector<StaticFile>& files() {
  static const std::vector<StaticFile> all = {
      {.path = "/", .content_type = "text/html; charset=utf-8", .hash = "a1", .packed = packed_text()},
      {.path = "/assets/app-b2.js",
       .content_type = "text/javascript; charset=utf-8",
       .hash = "b2",
       .is_forever = true,
       .packed = packed_text()}};
  return all;
}

Router routes() {
  Router router;
  add_files(router, files());
  return router;
}

std::string get(std::string_view path, std::string_view fields = {}, std::string_view method = "GET") {
  return std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: localhost\r\n" +
         std::string(fields) + "\r\n";
}

TEST(StaticFile, IsSentPackedToWhoTakesIt) {
  TestServer server(routes());
  auto client = RawSocket::tcp(server.port);
  const auto answer = client.ask(get("/", "Accept-Encoding: br, gzip;q=0.8\r\n"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(answer.body, packed_text());
  EXPECT_THAT(answer.head, HasSubstr("Content-Encoding: gzip\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("Vary: Accept-Encoding\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("Cache-Control: no-cache\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("X-Content-Type-Options: nosniff\r\n"));
  EXPECT_THAT(answer.head, HasSubstr("Content-Security-Policy: default-src 'none'; script-src 'self';"));
  EXPECT_THAT(answer.head, HasSubstr("frame-ancestors 'none'"));
}

TEST(StaticFile, IsSentUnpackedToAllOthers) {
  TestServer server(routes());
  auto client = RawSocket::tcp(server.port);
  for (const std::string_view fields : {"", "Accept-Encoding: br\r\n", "Accept-Encoding: gzip;q=0\r\n",
                                        "Accept-Encoding: gzip; q=0.00\r\n"}) {
    const auto answer = client.ask(get("/", fields));
    EXPECT_EQ(answer.status, 200);
    EXPECT_EQ(answer.body, kText) << fields;
    EXPECT_FALSE(answer.has("Content-Encoding")) << fields;
  }
}

TEST(StaticFile, WhoHasItIsNotSentItAgain) {
  TestServer server(routes());
  auto client = RawSocket::tcp(server.port);
  const std::string packed = "Accept-Encoding: gzip\r\n";
  const auto again = client.ask(get("/", packed + "If-None-Match: \"x\", W/\"a1-gzip\"\r\n"));
  EXPECT_EQ(again.status, 304);
  EXPECT_THAT(again.head, HasSubstr("ETag: \"a1-gzip\"\r\n"));
  // The packed form is another thing than the unpacked one.
  EXPECT_EQ(client.ask(get("/", packed + "If-None-Match: \"a1\"\r\n")).status, 200);
  EXPECT_EQ(client.ask(get("/", "If-None-Match: \"a1\"\r\n")).status, 304);
  EXPECT_EQ(client.ask(get("/", packed + "If-None-Match: \"a0-gzip\"\r\n")).status, 200);
}

TEST(StaticFile, WhatItsNameTellsIsKeptForever) {
  TestServer server(routes());
  auto client = RawSocket::tcp(server.port);
  const auto answer = client.ask(get("/assets/app-b2.js", "Accept-Encoding: gzip\r\n"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_THAT(answer.head, HasSubstr("Cache-Control: public, max-age=31536000, immutable\r\n"));
  EXPECT_FALSE(answer.has("Content-Security-Policy"));
  EXPECT_EQ(client.ask(get("/assets/app-b3.js")).status, 404);
}

TEST(StaticFile, HeadHasNoBody) {
  TestServer server(routes());
  auto client = RawSocket::tcp(server.port);
  const auto head = client.ask(get("/", "Accept-Encoding: gzip\r\n", "HEAD"));
  EXPECT_EQ(head.status, 200);
  EXPECT_THAT(head.head, HasSubstr("Content-Length: " + std::to_string(packed_text().size()) + "\r\n"));
  // The connection is where it was: nothing of a body came.
  EXPECT_EQ(client.ask(get("/")).body, kText);
}

TEST(StaticFile, TakesGzipAsTheStandardSays) {
  EXPECT_FALSE(takes_gzip({}));
  EXPECT_TRUE(takes_gzip({{"Accept-Encoding", "gzip"}}));
  EXPECT_TRUE(takes_gzip({{"Accept-Encoding", "deflate, GZIP ; q=0.001, br"}}));
  EXPECT_TRUE(takes_gzip({{"Accept-Encoding", "*"}}));
  EXPECT_FALSE(takes_gzip({{"Accept-Encoding", "*;q=0"}}));
  EXPECT_FALSE(takes_gzip({{"Accept-Encoding", "gzip;q=0, *"}}));
  EXPECT_TRUE(takes_gzip({{"Accept-Encoding", "*;q=0, gzip"}}));
  EXPECT_FALSE(takes_gzip({{"Accept-Encoding", "xgzip, identity"}}));
}

TEST(StaticFile, UnpackingHasAnEnd) {
  EXPECT_EQ(unpack_gzip(packed_text(), 1 << 20).value(), kText);
  EXPECT_EQ(unpack_gzip(packed_text(), kText.size() - 1).error().reason, "not_gzip");
  const std::string cut = packed_text().substr(0, packed_text().size() / 2);
  EXPECT_EQ(unpack_gzip(cut, 1 << 20).error().reason, "not_gzip");
  EXPECT_EQ(unpack_gzip(std::string_view("no gzip at all"), 1 << 20).error().reason, "not_gzip");
  EXPECT_EQ(unpack_gzip({}, 1 << 20).error().reason, "not_gzip");
}

}  // namespace
}  // namespace lm::http
