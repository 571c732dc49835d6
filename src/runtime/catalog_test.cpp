#include "runtime/catalog.h"

#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

Model model(std::string id, std::vector<std::string> aliases = {}) {
  Model m;
  m.id = ModelId(std::move(id));
  m.aliases = std::move(aliases);
  return m;
}

Catalog catalog() {
  return Catalog(
      {model("TinyLlama-1.1B", {"tiny", "demo"}), model("qwen3-0.6b"), model("minilm"), model("chat-like")},
      {{"chat", ModelId("TinyLlama-1.1B")},
       {"local_default", ModelId("chat-like")},
       {"translation", ModelId("qwen3-0.6b")},
       {"embedding", ModelId("minilm")}});
}

TEST(Catalog, RolesIdsAliasesAndDefaults) {
  const Catalog c = catalog();
  EXPECT_EQ(c.resolve("chat")->str(), "TinyLlama-1.1B");
  EXPECT_EQ(c.resolve("local_default")->str(), "chat-like");
  EXPECT_EQ(c.resolve("")->str(), "TinyLlama-1.1B");
  EXPECT_EQ(c.resolve("", ModelKind::kEmbedding)->str(), "minilm");
  EXPECT_EQ(c.resolve("translation")->str(), "qwen3-0.6b");
  EXPECT_EQ(c.resolve("tiny")->str(), "TinyLlama-1.1B");
  EXPECT_EQ(c.resolve("local/qwen3-0.6b")->str(), "qwen3-0.6b");
  EXPECT_EQ(c.resolve("QWEN3-0.6B")->str(), "qwen3-0.6b");
  EXPECT_EQ(c.roles_of(ModelId("qwen3-0.6b")), std::vector<std::string>{"translation"});
}

TEST(Catalog, AnUnknownNameNamesTheNearest) {
  const auto missing = catalog().resolve("qwen3-0.7b");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kNotFound);
  EXPECT_EQ(missing.error().reason, "model_not_found");
  EXPECT_NE(missing.error().message.find("qwen3-0.6b"), std::string::npos);
  EXPECT_EQ(catalog().resolve("gpt-4o-2099-something-else").error().message.find("did you mean"),
            std::string::npos);
}

TEST(Catalog, TheBeginningOfANameIsEnoughForAHint) {
  const Catalog c({model("tinyllama-1.1b-chat-iq2_xxs")}, {});
  EXPECT_NE(c.resolve("tinylama").error().message.find("did you mean tinyllama-1.1b-chat-iq2_xxs?"),
            std::string::npos);
  EXPECT_NE(c.resolve("llama").error().message.find("did you mean"), std::string::npos);
  EXPECT_EQ(c.resolve("zz").error().message.find("did you mean"), std::string::npos);
}

TEST(Catalog, AShortWordIsNearOnlyToANameThatBeginsWithIt) {
  const Catalog c({model("tinyllama-1.1b-chat-iq2_xxs"), model("hx")}, {});
  for (const char* word : {"hi", "x", "ma", "yes", "tin", "Hx1"}) {
    const bool begins = std::string_view(word) == "tin";
    EXPECT_EQ(c.resolve(word).error().message.find("did you mean") != std::string::npos, begins) << word;
  }
}

TEST(Catalog, SwappedLettersAndOtherDashesAreNear) {
  const Catalog c({model("qwen3-embedding"), model("qwen3-0.6b")}, {});
  EXPECT_EQ(c.resolve("qwen3_embeddign").error().fields.back(), Error::Field("nearest", "qwen3-embedding"));
}

TEST(Catalog, LocalPrefixLeavesRolesAside) {
  EXPECT_FALSE(catalog().resolve("local/chat"));  // a role, and no model has that name
}

TEST(Catalog, AnEmptyCatalogSaysWhatToDo) {
  const auto missing = Catalog().resolve("x");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("model folder"), std::string::npos);
}

TEST(Catalog, ALostRoleSaysWhatItWasToMean) {
  const Catalog c({model("alpha")}, {}, {},
                  {{"chat", Error{.code = ErrorCode::kNotFound,
                                  .message = "roles.chat: no model is named nope",
                                  .reason = "model_not_found",
                                  .fields = {},
                                  .retry_after = {}}}});
  for (const char* name : {"", "chat"}) {
    const auto missing = c.resolve(name);
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().message, "roles.chat: no model is named nope");
  }
  EXPECT_EQ(c.resolve("alpha")->str(), "alpha");
}

TEST(Catalog, NoAliasHidesAModel) {
  const Catalog c({model("a", {"b"}), model("b")}, {});
  EXPECT_EQ(c.resolve("b")->str(), "b");
}

// DESIGN §5: openai_NAME, ollama_NAME, PROVIDER/NAME, an Ollama tag, a local name.
TEST(Catalog, NamesOfUpstreamsComeInTheDesignsOrder) {
  const auto remote = [](const char* id, const char* upstream, Family family,
                         std::vector<std::string> aliases) {
    Model m;
    m.id = ModelId(id);
    m.family = family;
    m.aliases = std::move(aliases);
    m.remote = Remote{UpstreamId(upstream), id};
    return m;
  };
  Model local;
  local.id = ModelId("qwen:7b");
  local.aliases = {"phi"};
  const Catalog catalog({local, remote("ollama_qwen:7b", "ollama", Family::kOllama, {"qwen:7b", "qwen"}),
                         remote("alpha/gpt", "alpha", Family::kOpenai, {"openai_gpt"}),
                         remote("beta/gpt", "beta", Family::kOpenai, {"openai_gpt"}),
                         remote("ollama_phi:latest", "ollama", Family::kOllama, {"phi:latest", "phi"})},
                        {});
  EXPECT_EQ(catalog.resolve("openai_gpt").value(), ModelId("alpha/gpt"))
      << "the first provider that lists it";
  EXPECT_EQ(catalog.resolve("beta/gpt").value(), ModelId("beta/gpt"));
  EXPECT_EQ(catalog.resolve("ollama_qwen:7b").value(), ModelId("ollama_qwen:7b"));
  EXPECT_EQ(catalog.resolve("qwen:7b").value(), ModelId("ollama_qwen:7b"))
      << "an Ollama tag before a local name";
  EXPECT_EQ(catalog.resolve("local/qwen:7b").value(), ModelId("qwen:7b"));
  EXPECT_EQ(catalog.resolve("qwen").value(), ModelId("ollama_qwen:7b"));
  EXPECT_EQ(catalog.resolve("phi").value(), ModelId("qwen:7b"))
      << "without its tag it comes after local names";
  EXPECT_FALSE(catalog.resolve("local/openai_gpt")) << "local/ is for local models";
}

TEST(Catalog, WhyAnUpstreamWasNeverReachedIsTold) {
  const Catalog catalog(
      {}, {},
      {{.upstream = {.id = UpstreamId("far"), .family = Family::kOpenai, .url = "https://far/v1"},
        .why = "far cannot be reached: its certificate is not valid"}});
  const auto found = catalog.resolve("far/gpt");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().reason, "upstream_unreachable");
  EXPECT_NE(found.error().message.find("its certificate is not valid"), std::string::npos)
      << found.error().message;
  EXPECT_FALSE(catalog.resolve("openai_gpt"));
}

}  // namespace
}  // namespace lm::runtime
