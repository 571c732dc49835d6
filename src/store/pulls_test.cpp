#include "store/pulls.h"

#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::store {
namespace {

PullRecord record(const std::string& source, const std::string& state) {
  return {.id = 0,
          .source = source,
          .folder = "/models",
          .key = "k",
          .state = state,
          .who = "ada",
          .asked_ms = 5,
          .done = 1,
          .total = 2,
          .error = ""};
}

TEST(Pulls, SurviveARestart) {
  const os::testing::TemporaryFolder folder;
  PullRecord first = record("hf:a/b@main", "running");
  {
    auto opened = Database::open(folder.path());
    ASSERT_TRUE(opened);
    Pulls pulls(*opened->database);
    first.id = pulls.add(first).value();
    first.state = "failed";
    first.error = "no room";
    ASSERT_TRUE(pulls.update(first));
    ASSERT_TRUE(
        pulls.add_file({.path = "/models/x", .source = "hf:a/b@main", .hash = "sha256:1", .size = 3}));
    ASSERT_TRUE(pulls.add_file({.path = "/models/x", .source = "hf:a/c@main", .hash = "", .size = 4}));
  }
  auto opened = Database::open(folder.path());
  Pulls pulls(*opened->database);
  EXPECT_EQ(pulls.all().value(), std::vector<PullRecord>{first});
  EXPECT_TRUE(pulls.has_file("/models/x").value());
  EXPECT_EQ(pulls.files_named("x").value(), std::vector<std::string>{"/models/x"});
  EXPECT_TRUE(pulls.files_named("s/x").value().empty());
  ASSERT_TRUE(pulls.forget_file("/models/x"));
  EXPECT_FALSE(pulls.has_file("/models/x").value());
}

TEST(Pulls, ForgetTheOldestThatHaveEnded) {
  const os::testing::TemporaryFolder folder;
  auto opened = Database::open(folder.path());
  ASSERT_TRUE(opened);
  Pulls pulls(*opened->database);
  const std::int64_t paused = pulls.add(record("hf:a/paused@main", "paused")).value();
  for (int i = 0; i < Pulls::kKept + 10; ++i) ASSERT_TRUE(pulls.add(record("hf:a/b@main", "done")));
  const auto all = pulls.all().value();
  EXPECT_EQ(all.size(), static_cast<std::size_t>(Pulls::kKept) + 1);
  EXPECT_EQ(all.front().id, paused);
  EXPECT_EQ(all.back().id, paused + Pulls::kKept + 10);
}

}  // namespace
}  // namespace lm::store
