#include "runtime/fetches.h"

#include <boost/asio/io_context.hpp>
#include <gtest/gtest.h>

#include "base/gate.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

using os::testing::run_until;

Error error(const std::string& reason) {
  return {
      .code = ErrorCode::kUnavailable, .message = reason, .reason = reason, .fields = {}, .retry_after = {}};
}

class FetchesTest : public ::testing::Test {
 protected:
  FetchesTest() {
    model.id = ModelId("llm");
    model.problem = error("not_fetched");
    fetches.list({{model.id, "hf:owner/repo"}}, {});
    pull.id = 7;
    pull.state = PullState::kRunning;
  }
  ~FetchesTest() override {
    stopping = true;
    tell();
    io.restart();
    io.run();
  }
  void tell() { hub.publish(pull); }
  void provide() {
    fetches.provide(
        model.id, "ada", [this] { return given_up; },
        [this](std::optional<Error> why) {
          ++ended;
          outcome = std::move(why);
        });
  }
  std::string came_to() {
    if (!run_until(io, [this] { return ended == 1; })) return "nothing";
    return outcome ? outcome->reason : "loadable";
  }
  bool pulled() {
    return run_until(io, [this] { return !asked.empty(); });
  }

  boost::asio::io_context io;
  ManualClock clock;
  EventHub hub{io.get_executor()};
  Gate gate{io.get_executor()};
  Model model;
  Pull pull;
  std::vector<std::string> asked;
  bool stopping = false, given_up = false;
  int ended = 0, looked = 0;
  std::optional<Error> outcome;
  Fetches fetches{
      {.hub = hub,
       .clock = clock,
       .run = [this](Task<> task) { gate.start(std::move(task)); },
       .is_stopping = [this] { return stopping; },
       .model = [this](const ModelId& id) { return id == model.id ? &model : nullptr; },
       .pull = [this](const std::string& source, const std::string& who) -> Result<std::uint64_t> {
         asked.push_back(source + " for " + who);
         return pull.id;
       },
       .find = [this](std::uint64_t id) { return id == pull.id ? &pull : nullptr; },
       .look_again = [this] { ++looked; },
       .import =
           [this](const ModelId& id) {
             asked.push_back("import " + id.str());
             model.problem = error("importing");
             fetches.list({}, {});
           }}};
};

TEST_F(FetchesTest, FetchesThenWaitsForTheImport) {
  EXPECT_TRUE(fetches.must_wait(model.id));
  provide();
  ASSERT_TRUE(pulled());
  EXPECT_EQ(asked, std::vector<std::string>{"hf:owner/repo for ada"});
  EXPECT_EQ(fetches.pull_of(model.id), 7u);
  pull.state = PullState::kDone;
  fetches.list({}, {});
  model.problem = error("importing");
  EXPECT_TRUE(fetches.must_wait(model.id));
  tell();
  io.poll();
  EXPECT_EQ(ended, 0);
  model.problem.reset();
  tell();
  EXPECT_EQ(came_to(), "loadable");
  EXPECT_FALSE(fetches.must_wait(model.id));
}

TEST_F(FetchesTest, AFailureIsToldAndRequestsDoNotTryAgain) {
  fetches.asked(model.id);
  fetches.asked(model.id);
  ASSERT_TRUE(pulled());
  pull.state = PullState::kFailed;
  pull.error = error("not_found");
  tell();
  ASSERT_TRUE(run_until(io, [this] { return fetches.failure(model.id) != nullptr; }));
  EXPECT_EQ(fetches.failure(model.id)->reason, "not_found");
  EXPECT_EQ(looked, 1);
  clock.advance(Fetches::kPause - std::chrono::seconds(1));
  fetches.asked(model.id);
  io.poll();
  EXPECT_EQ(asked.size(), 1u);
  clock.advance(std::chrono::seconds(1));
  fetches.asked(model.id);
  ASSERT_TRUE(run_until(io, [this] { return asked.size() == 2; })) << "after a while they do";
  tell();
  ASSERT_TRUE(run_until(io, [this] { return looked == 2; }));
  // A wish does at once.
  pull.state = PullState::kRunning;
  provide();
  ASSERT_TRUE(run_until(io, [this] { return asked.size() == 3; }));
  pull.state = PullState::kDone;
  pull.error.reset();
  tell();
  EXPECT_EQ(came_to(), "nothing_fetched");
}

TEST_F(FetchesTest, AnImportThatFailsEndsTheWait) {
  fetches.list({}, {});
  model.problem = error("importing");
  provide();
  io.poll();
  model.problem = error("unsupported_model");
  tell();
  EXPECT_EQ(came_to(), "unsupported_model");
}

TEST_F(FetchesTest, ACheckpointIsImportedOnceItIsAskedFor) {
  const auto find_one = [this] {
    model.problem = error("not_imported");
    fetches.list({}, {model.id});
  };
  find_one();
  EXPECT_TRUE(fetches.must_wait(model.id));
  fetches.asked(model.id);
  EXPECT_EQ(asked, std::vector<std::string>{"import llm"});
  fetches.asked(model.id);
  EXPECT_EQ(asked.size(), 1u);
  find_one();
  provide();
  io.poll();
  EXPECT_EQ(asked.size(), 2u);
  EXPECT_EQ(ended, 0);
  model.problem.reset();
  tell();
  EXPECT_EQ(came_to(), "loadable");
}

TEST_F(FetchesTest, WhoeverGaveUpIsToldNothing) {
  provide();
  ASSERT_TRUE(pulled());
  given_up = true;
  tell();
  io.restart();
  io.run();
  EXPECT_EQ(ended, 0);
}

}  // namespace
}  // namespace lm::runtime
