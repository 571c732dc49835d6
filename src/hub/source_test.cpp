#include "hub/source.h"

#include <gtest/gtest.h>

namespace lm::hub {
namespace {

std::string full(std::string_view text) {
  const auto source = parse_source(text);
  return source ? source->text() : "wrong: " + source.error().reason;
}

TEST(Source, KnowsEveryForm) {
  EXPECT_EQ(full("hf:Qwen/Qwen3-8B-GGUF"), "hf:Qwen/Qwen3-8B-GGUF@main");
  EXPECT_EQ(full("hf:Qwen/Qwen3-8B-GGUF:Q4_K_M@refs/pr/3"), "hf:Qwen/Qwen3-8B-GGUF:Q4_K_M@refs/pr/3");
  EXPECT_EQ(full("hf:a/b:Q8_0/part-00001-of-00002.gguf"), "hf:a/b:Q8_0/part-00001-of-00002.gguf@main");
  EXPECT_EQ(full("ollama:llama3.2"), "ollama:library/llama3.2:latest");
  EXPECT_EQ(full("ollama:someone/model:7b"), "ollama:someone/model:7b");
  EXPECT_EQ(full("ollama:reg.example:5000/someone/model:7b"), "ollama:reg.example:5000/someone/model:7b");
  EXPECT_EQ(full("npm:thing@1.2.3"), "npm:thing@1.2.3");
  EXPECT_EQ(full("npm:@scope/thing@1.2.3-rc.1"), "npm:@scope/thing@1.2.3-rc.1");
  EXPECT_EQ(full("https://example.org/a/b.gguf?x=1"), "https://example.org/a/b.gguf?…");
  EXPECT_EQ(full("https://example.org/a/b.gguf"), "https://example.org/a/b.gguf");
}

TEST(Source, AModelsPathIsOneWhereItCanBeNothingElse) {
  const auto named = [](std::string_view text) {
    const auto source = named_source(text);
    return source ? source->text() : "a path";
  };
  EXPECT_EQ(named("Qwen/Qwen3-0.6B"), "hf:Qwen/Qwen3-0.6B@main");
  EXPECT_EQ(named("hf:Qwen/Qwen3-8B-GGUF:Q8_0"), "hf:Qwen/Qwen3-8B-GGUF:Q8_0@main");
  EXPECT_EQ(named("ollama:llama3.2:1b"), "ollama:library/llama3.2:1b");
  for (const std::string_view path : {"", "model.gguf", "models/a.gguf", "/models/a", "./a/b", "../b",
                                      "~/models", "a/b/c", "tinyllama", "a/b:c", "hf:nobody", "a /b"})
    EXPECT_EQ(named(path), "a path") << path;
}

TEST(Source, AQueryIsForTheServerOnly) {
  const auto source = parse_source("https://example.org/a/b.gguf?token=SECRET");
  ASSERT_TRUE(source);
  EXPECT_EQ(source->secret_text(), "https://example.org/a/b.gguf?token=SECRET");
  EXPECT_EQ(without_query(source->text()), "https://example.org/a/b.gguf");
  EXPECT_EQ(without_query("hf:a/b@main"), "hf:a/b@main");
  for (const std::string_view wrong : {"https://example.org/a#b?token=SECRET",
                                       "https://me@example.org/a?token=SECRET", "ftp://x/y?token=SECRET"})
    EXPECT_EQ(parse_source(wrong).error().message.find("SECRET"), std::string::npos) << wrong;
}

TEST(Source, RefusesWhatIsNone) {
  for (const std::string_view text : {"",
                                      "hf:",
                                      "hf:alone",
                                      "hf:a/b/c",
                                      "hf:a/b:",
                                      "hf:a/b@",
                                      "hf:a/b:../x.gguf",
                                      "hf:../b",
                                      "hf:a b/c",
                                      "ollama:",
                                      "ollama:a/b/c/d",
                                      "ollama:x:",
                                      "npm:thing",
                                      "npm:@1.0",
                                      "npm:@scope@1",
                                      "https://",
                                      "ftp://x/y",
                                      "https://user:pass@host/x.gguf",
                                      "https://host/x#y",
                                      "qwen3",
                                      "hf:a/b\n"}) {
    EXPECT_EQ(full(text), "wrong: bad_source") << text;
  }
  EXPECT_NE(parse_source("Qwen/Qwen3-8B-GGUF").error().message.find("hf:Qwen/Qwen3-8B-GGUF"),
            std::string::npos);
}

TEST(Source, PathsStayInside) {
  for (const std::string_view good : {"a.gguf", "a/b/c d.gguf", "模型.gguf"})
    EXPECT_TRUE(is_safe_path(good)) << good;
  for (const std::string_view bad :
       {"", "/a", "a//b", "../a", "a/../b", "a/.b", ".", "a\\b", "a\nb", "a/", "1/2/3/4/5/6/7/8/9"})
    EXPECT_FALSE(is_safe_path(bad)) << bad;
  EXPECT_FALSE(is_safe_path(std::string(201, 'a')));
}

}  // namespace
}  // namespace lm::hub
