#include "runtime/roles.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

Catalog names() {
  Model local;
  local.id = ModelId("alpha");
  Model theirs;
  theirs.id = ModelId("ollama_qwen:7b");
  theirs.family = Family::kOllama;
  theirs.aliases = {"qwen:7b"};
  theirs.remote = Remote{.upstream = UpstreamId("ollama"), .name = "qwen:7b"};
  return Catalog({local, theirs}, {});
}

TEST(Roles, MeanModelsOfUpstreamsWhereNoneOfOursHasThem) {
  const auto assigned = assign_roles(
      {{"chat", ModelId("alpha")}},
      {.chat = "alpha", .knowledge = "", .translation = "qwen:7b", .embedding = ""}, names(), true);
  EXPECT_THAT(assigned.models, UnorderedElementsAre(Pair("chat", ModelId("alpha")),
                                                    Pair("translation", ModelId("ollama_qwen:7b"))));
  EXPECT_THAT(assigned.lost, IsEmpty());
  EXPECT_THAT(assigned.warnings, IsEmpty());
}

TEST(Roles, OneThatNobodyHasIsLostAndSaysSo) {
  const auto assigned =
      assign_roles({}, {.chat = "nope", .knowledge = "", .translation = "", .embedding = ""}, names(), true);
  EXPECT_THAT(assigned.models, IsEmpty());
  ASSERT_THAT(assigned.warnings, ElementsAre(testing::StartsWith("roles.chat: no model is named nope")));
  EXPECT_EQ(assigned.lost.at("chat").message, assigned.warnings.front());
  EXPECT_EQ(assigned.lost.at("chat").reason, "model_not_found");
}

TEST(Roles, OneThatAnUpstreamMayHaveIsNoWarningBeforeItWasListed) {
  const config::Roles wished{.chat = "lab/big", .knowledge = "", .translation = "", .embedding = ""};
  EXPECT_THAT(assign_roles({}, wished, names(), false).warnings, IsEmpty());
  EXPECT_THAT(assign_roles({}, wished, names(), false).lost, testing::SizeIs(1));
  EXPECT_THAT(assign_roles({}, wished, names(), true).warnings, testing::SizeIs(1));
}

}  // namespace
}  // namespace lm::runtime
