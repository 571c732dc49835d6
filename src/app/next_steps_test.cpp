#include "app/next_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lm::app {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

runtime::Catalog catalog(std::map<std::string, ModelId> roles) {
  std::vector<Model> models;
  for (const auto& [role, id] : roles) models.emplace_back().id = id;
  return runtime::Catalog(std::move(models), std::move(roles));
}

TEST(NextSteps, NameThisDaemon) {
  const auto all = catalog({{"chat", ModelId("m")}, {"embedding", ModelId("e")}});
  const std::string usual = next_steps("http://127.0.0.1:11435", all);
  EXPECT_THAT(usual,
              HasSubstr("  curl http://127.0.0.1:11435/v1/chat/completions -d '{\"model\": \"chat\","));
  EXPECT_THAT(usual, HasSubstr("  curl http://127.0.0.1:11435/v1/embeddings -d '{\"model\": \"embedding\","));
  EXPECT_THAT(usual, Not(HasSubstr("LLM_MANAGER_URL"))) << "the command line looks there by itself";
  const std::string elsewhere = next_steps("http://127.0.0.1:8080", all);
  EXPECT_THAT(elsewhere, HasSubstr("  export LLM_MANAGER_URL=http://127.0.0.1:8080\n"));
  EXPECT_THAT(elsewhere, Not(HasSubstr("11435")));
}

TEST(NextSteps, AskNoModelThatIsNotThere) {
  const std::string chats = next_steps("http://127.0.0.1:11435", catalog({{"chat", ModelId("m")}}));
  EXPECT_THAT(chats, HasSubstr("llm-manager chat"));
  EXPECT_THAT(chats, Not(HasSubstr("embedding")));
  const std::string none = next_steps("http://127.0.0.1:11435", catalog({}));
  EXPECT_THAT(none, HasSubstr("llm-manager pull hf:"));
  EXPECT_THAT(none, Not(HasSubstr("curl")));
}

}  // namespace
}  // namespace lm::app
