#include "config/settings.h"

#include <algorithm>
#include <stdexcept>

#include <gtest/gtest.h>

namespace lm::config {
namespace {

const Setting& found(const std::vector<Setting>& all, std::string_view key) {
  const auto at = std::ranges::find(all, key, &Setting::key);
  if (at == all.end()) throw std::out_of_range(std::string(key));
  return *at;
}

Loaded written() {
  Loaded loaded;
  loaded.config.settings.residency.linger = std::chrono::minutes(1);
  loaded.positions["residency.linger"] = {.line = 7, .column = 3};
  loaded.config.models["llm"].load.context = 4096;
  loaded.positions["models.llm.max_length"] = {.line = 3, .column = 5};
  loaded.config.server.user_key.env = "USER_KEY";
  loaded.config.server.user_key.value = Secret("sk-nobody-may-see");
  return loaded;
}

TEST(Settings, SayWhatIsWrittenAndWhatIsMeantOtherwise) {
  const auto all = settings(written());
  const Setting& linger = found(all, "residency.linger");
  EXPECT_EQ(linger.value, "1min");
  EXPECT_EQ(linger.otherwise, "30s");
  EXPECT_EQ(linger.line, 7);
  EXPECT_FALSE(linger.meaning.empty());
  EXPECT_FALSE(linger.restart);
  const Setting& listen = found(all, "server.listen");
  EXPECT_EQ(listen.value, listen.otherwise);
  EXPECT_EQ(listen.line, 0);
  EXPECT_TRUE(listen.restart);
}

TEST(Settings, HaveThoseOfEachName) {
  const auto all = settings(written());
  EXPECT_EQ(found(all, "models.llm.max_length").value, "4096");
  EXPECT_EQ(found(all, "models.llm.max_length").line, 3);
  EXPECT_TRUE(found(all, "models.llm.max_length").otherwise.empty());
  EXPECT_TRUE(
      std::ranges::none_of(all, [](const Setting& one) { return one.key.find('*') != std::string::npos; }));
  EXPECT_TRUE(
      std::ranges::none_of(all, [](const Setting& one) { return one.key.starts_with("providers."); }));
}

TEST(Settings, TellNoKey) {
  for (const Setting& one : settings(written()))
    EXPECT_EQ(one.value.find("nobody"), std::string::npos) << one.key;
}

}  // namespace
}  // namespace lm::config
