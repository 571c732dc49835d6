#include "http/router.h"

#include <gtest/gtest.h>

#include "http/target.h"

namespace lm::http {
namespace {

Task<void> nothing(lm::http::Exchange&) {
  co_return;
}

Request request_for(Method method, std::string target) {
  Request request;
  request.method = method;
  request.method_text = to_string(method);
  request.target = std::move(target);
  EXPECT_TRUE(split_target(request)) << request.target;
  return request;
}

// The route that answers, named by the rights it needs (each route here has its own), and its parameters.
std::string found(const Router& router, Method method, std::string target) {
  Request request = request_for(method, std::move(target));
  const auto route = router.find(request);
  if (!route)
    return std::to_string(route.error().status) +
           std::string(route.error().headers.get("Allow").value_or(""));
  std::string text = (*route)->needs == Principal::kNone   ? "open"
                     : (*route)->needs == Principal::kUser ? "user"
                                                           : "admin";
  for (const auto& [name, value] : request.path_parameters) text += " " + name + "=" + value;
  return text;
}

TEST(Router, PrefersLiteralsThenSegmentsThenRest) {
  // In the worst order.
  Router router;
  router.add(Method::kGet, "/models/{name...}", {nothing, Principal::kNone});
  router.add(Method::kGet, "/models/{name}", {nothing, Principal::kUser});
  router.add(Method::kGet, "/models/all", {nothing, Principal::kAdmin});
  EXPECT_EQ(found(router, Method::kGet, "/models/all"), "admin");
  EXPECT_EQ(found(router, Method::kGet, "/models/tiny"), "user name=tiny");
  EXPECT_EQ(found(router, Method::kGet, "/models/org/tiny"), "open name=org/tiny");
  EXPECT_EQ(found(router, Method::kGet, "/models/org%2Ftiny"), "user name=org/tiny");
  EXPECT_EQ(found(router, Method::kGet, "/models/a%20b/c?x=1"), "open name=a b/c");
  EXPECT_EQ(found(router, Method::kGet, "/models/"), "404");
  EXPECT_EQ(found(router, Method::kGet, "/models"), "404");
  EXPECT_EQ(found(router, Method::kGet, "/models/all/"), "open name=all/");
}

TEST(Router, MethodsOfOnePath) {
  Router router;
  router.add(Method::kGet, "/", {nothing, Principal::kNone});
  router.add(Method::kGet, "/x", nothing);
  router.add(Method::kPost, "/x", {nothing, Principal::kAdmin});
  router.add(Method::kDelete, "/{any}", {nothing, Principal::kAdmin});
  EXPECT_EQ(found(router, Method::kGet, "/"), "open");
  EXPECT_EQ(found(router, Method::kHead, "/x"), "user");
  EXPECT_EQ(found(router, Method::kPost, "/x"), "admin");
  // A less literal pattern answers a method that the more literal one does not have.
  EXPECT_EQ(found(router, Method::kDelete, "/x"), "admin any=x");
  EXPECT_EQ(found(router, Method::kPut, "/x"), "405GET, HEAD, POST, DELETE");
  EXPECT_EQ(found(router, Method::kGet, "/y"), "405DELETE");
}

TEST(RouterDeathTest, TheSameRouteTwice) {
  Router router;
  router.add(Method::kGet, "/x/{a}", nothing);
  EXPECT_DEATH(router.add(Method::kGet, "/x/{b}", nothing), "one function");
}

TEST(Target, DecodesAndEncodes) {
  EXPECT_EQ(percent_decode("a%41%2f%2F+b"), "aA//+b");
  EXPECT_EQ(percent_decode("a+b", true), "a b");
  EXPECT_FALSE(percent_decode("%"));
  EXPECT_FALSE(percent_decode("%4"));
  EXPECT_FALSE(percent_decode("%4g"));
  EXPECT_FALSE(percent_decode("%00"));
  EXPECT_EQ(percent_encode("a b/ä~"), "a%20b%2F%C3%A4~");
  EXPECT_EQ(percent_encode("a/b", true), "a/b");
  for (int c = 1; c < 256; ++c) {
    const std::string one(1, static_cast<char>(c));
    EXPECT_EQ(percent_decode(percent_encode(one)), one);
  }
  EXPECT_EQ(raw_path("/a?b"), "/a");
  EXPECT_EQ(raw_path("http://host:1/a?b"), "/a");
  EXPECT_EQ(raw_path("http://host"), "/");
  EXPECT_EQ(raw_path("nonsense"), "");
  EXPECT_EQ(raw_path(""), "");
  EXPECT_EQ(authority_of("http://host:1/a"), "host:1");
  EXPECT_EQ(authority_of("/a?u=http://b"), "");
}

TEST(Headers, CompareWithoutCaseAndCannotBeSplit) {
  Headers headers{{"Connection", "keep-alive, Upgrade"}, {"X", "1"}, {"x", "2"}};
  EXPECT_EQ(headers.get("CONNECTION"), "keep-alive, Upgrade");
  EXPECT_TRUE(headers.has_token("connection", "upgrade"));
  EXPECT_FALSE(headers.has_token("connection", "up"));
  EXPECT_EQ(headers.count("X"), 2u);
  headers.set("X", "3\r\nEvil: 1");
  EXPECT_EQ(headers.count("x"), 1u);
  EXPECT_EQ(headers.get("x"), "3  Evil: 1");
  headers.erase("x");
  EXPECT_FALSE(headers.has("X"));
}

}  // namespace
}  // namespace lm::http
