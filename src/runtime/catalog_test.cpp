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
       {"translation", ModelId("qwen3-0.6b")},
       {"embedding", ModelId("minilm")}});
}

TEST(Catalog, RolesIdsAliasesAndDefaults) {
  const Catalog c = catalog();
  EXPECT_EQ(c.resolve("chat")->str(), "TinyLlama-1.1B");
  EXPECT_EQ(c.resolve("local_default")->str(), "TinyLlama-1.1B");
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

TEST(Catalog, LocalPrefixLeavesRolesAside) {
  EXPECT_FALSE(catalog().resolve("local/chat"));  // a role, and no model has that name
}

TEST(Catalog, AnEmptyCatalogSaysWhatToDo) {
  const auto missing = Catalog().resolve("x");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message.find("model folder"), std::string::npos);
}

TEST(Catalog, NoAliasHidesAModel) {
  const Catalog c({model("a", {"b"}), model("b")}, {});
  EXPECT_EQ(c.resolve("b")->str(), "b");
}

}  // namespace
}  // namespace lm::runtime
