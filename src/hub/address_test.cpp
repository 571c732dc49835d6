#include "hub/address.h"

#include <map>

#include <gtest/gtest.h>

#include "hub/surroundings.h"

namespace lm::hub {
namespace {

std::string redirected(std::string_view from, std::string_view to) {
  const auto next = Address::parse(from)->redirected(to);
  return next ? next->endpoint.text() + next->target : "wrong: " + next.error().reason;
}

TEST(Address, FollowsRedirections) {
  EXPECT_EQ(redirected("https://a.org/x/y?q=1", "/z"), "https://a.org:443/z");
  EXPECT_EQ(redirected("https://a.org/x/y", "z?s=%2F"), "https://a.org:443/x/z?s=%2F");
  EXPECT_EQ(redirected("https://a.org/x", "https://b.org/y?sig=a|b"), "https://b.org:443/y?sig=a|b");
  EXPECT_EQ(redirected("http://a.org:81/x", "//b.org/y"), "http://b.org:80/y");
}

TEST(Address, RefusesBadRedirections) {
  for (const std::string_view bad :
       {"", "http://a.org/x", "ftp://a.org/x", "https://u:p@b.org/", "https://b.org/a b"})
    EXPECT_EQ(redirected("https://a.org/x", bad), "wrong: bad_upstream") << bad;
}

TEST(Address, KnowsItsOrigin) {
  const auto a = Address::parse("https://A.org/x"), b = Address::parse("https://a.org:443/y?z");
  EXPECT_TRUE(a->same_origin(*b));
  EXPECT_FALSE(a->same_origin(*Address::parse("http://a.org/x")));
  EXPECT_FALSE(a->same_origin(*Address::parse("https://a.org:444/x")));
  EXPECT_FALSE(a->same_origin(*Address::parse("https://cdn.a.org/x")));
  EXPECT_EQ(Address::parse("https://a.org/x?signature=1")->text(), "https://a.org:443/x");
}

Surroundings with(std::map<std::string, std::string> variables) {
  return Surroundings::read([&](const char* name) -> std::optional<std::string> {
    const auto it = variables.find(name);
    return it == variables.end() ? std::nullopt : std::optional(it->second);
  });
}

std::string proxy(const Surroundings& surroundings, std::string_view url) {
  const auto found = surroundings.proxy_for(*http::Endpoint::parse(url));
  if (!found) return "wrong";
  return *found ? (*found)->endpoint.text() + " " + (*found)->authorization : "none";
}

TEST(Surroundings, ReadsTheUsualVariables) {
  EXPECT_EQ(with({}).npm_url, "");
  EXPECT_FALSE(with({}).hub_url.empty());
  const Surroundings set = with({{"HF_ENDPOINT", "https://mirror.example/"},
                                 {"HUGGING_FACE_HUB_TOKEN", "old"},
                                 {"HF_TOKEN", "new"},
                                 {"npm_config_registry", "https://npm.example/"},
                                 {"LLM_MANAGER_PULL_TUNING", "chunk=4096 streams=2 nonsense=1 attempts=-3"}});
  EXPECT_EQ(set.hub_url, "https://mirror.example");
  EXPECT_EQ(set.hub_token, "new");
  EXPECT_EQ(set.npm_url, "https://npm.example");
  EXPECT_EQ(set.tuning.chunk, Bytes(4096));
  EXPECT_EQ(set.tuning.streams, 2);
  EXPECT_EQ(set.tuning.attempts, Tuning().attempts);
}

TEST(Surroundings, FindsTheProxy) {
  const Surroundings set = with({{"HTTPS_PROXY", "http://me:p%40ss@proxy.example:3128"},
                                 {"http_proxy", "plain.example:8080"},
                                 {"NO_PROXY", "localhost, .inner.example,10.0.0.1:80"}});
  EXPECT_EQ(proxy(set, "https://a.org"), "http://proxy.example:3128 Basic bWU6cEBzcw==");
  EXPECT_EQ(proxy(set, "http://a.org"), "http://plain.example:8080 ");
  EXPECT_EQ(proxy(set, "https://localhost"), "none");
  EXPECT_EQ(proxy(set, "https://x.inner.example"), "none");
  EXPECT_EQ(proxy(set, "https://inner.example"), "none");
  EXPECT_EQ(proxy(set, "https://notinner.example"), "http://proxy.example:3128 Basic bWU6cEBzcw==");
  EXPECT_EQ(proxy(set, "http://10.0.0.1"), "none");
  EXPECT_EQ(proxy(with({{"https_proxy", "socks5://x:1"}}), "https://a.org"), "wrong");
  EXPECT_EQ(proxy(with({{"https_proxy", "x:1"}, {"no_proxy", "*"}}), "https://a.org"), "none");
}

}  // namespace
}  // namespace lm::hub
