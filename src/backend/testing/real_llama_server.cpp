// llama-server itself, with real (tiny) models: as a router that is asked to yield, and as a command of ours.
// Its place and the models' come from LLM_MANAGER_LLAMA_SERVER and LLM_MANAGER_TEST_MODELS.
#include <cstdlib>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/caller.h"
#include "backend/command.h"
#include "backend/openai.h"
#include "os/testing/run.h"

namespace lm::backend {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using os::testing::run_until;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;
using ::testing::UnorderedElementsAreArray;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) throw std::runtime_error(std::string(name) + " is not set");
  return value;
}

class RealLlamaServer : public ::testing::Test {
 protected:
  void start(std::vector<std::string> arguments) {
    CommandOptions options;
    options.name = "llama";
    options.command = {variable("LLM_MANAGER_LLAMA_SERVER"),
                       "--host",
                       "127.0.0.1",
                       "--port",
                       "${port}",
                       "--offline",
                       "-c",
                       "512"};
    options.command.insert(options.command.end(), arguments.begin(), arguments.end());
    options.run_folder = folder.path();
    options.log = [this](std::string_view line) { log.append(line).append("\n"); };
    auto made = make_command(io.get_executor(), std::move(options));
    ASSERT_TRUE(made) << made.error().message;
    command = *made;
    const auto loaded = run(io, command->load("", 60s), 90s);
    ASSERT_TRUE(loaded) << loaded.error().message << "\n" << log;
  }
  // The same server as if somebody else had started it.
  void open() {
    auto made = make_openai(io.get_executor(),
                            {.name = "lab", .base_url = command->client()->endpoint().text() + "/v1"});
    ASSERT_TRUE(made) << made.error().message;
    upstream = *made;
  }
  std::vector<std::string> residents() {
    const auto sight = run(io, upstream->look());
    EXPECT_TRUE(sight) << sight.error().message;
    EXPECT_TRUE(sight && sight->tells_residents);
    std::vector<std::string> names;
    for (const Resident& one : sight->residents) names.push_back(one.name);
    return names;
  }
  Result<Answer> chat(const std::string& model) {
    const Caller caller(io.get_executor(), command->client(), {});
    return run(io, caller.post("/v1/chat/completions",
                               R"({"model":")" + model +
                                   R"(","max_tokens":3,"messages":[{"role":"user","content":"hi"}]})",
                               now() + 30s));
  }
  // Those who have a model; llama-server's children stay in its group.
  std::size_t processes() { return command->processes().size(); }

  boost::asio::io_context io;
  const os::testing::TemporaryFolder folder;
  std::string log;
  std::shared_ptr<UpstreamServer> command, upstream;
};

class RealRouter : public RealLlamaServer {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(start({"--models-dir", variable("LLM_MANAGER_TEST_MODELS")}));
    ASSERT_NO_FATAL_FAILURE(open());
  }
};

TEST_F(RealRouter, GivesUpWhatItWasToldToLoad) {
  const auto sight = run(io, upstream->look());
  ASSERT_TRUE(sight) << sight.error().message;
  EXPECT_TRUE(sight->tells_residents);
  EXPECT_THAT(sight->residents, IsEmpty());
  std::vector<std::string> ids;
  for (const Model& model : sight->models) ids.push_back(model.id.str());
  EXPECT_THAT(ids, Contains("lab/tiny-chat"));
  EXPECT_EQ(processes(), 1u);
  EXPECT_EQ(upstream->processes(), command->processes()) << "found by its port";

  for (int round = 0; round < 3; ++round) {
    const auto loaded = run(io, upstream->load("tiny-chat", 30s));
    ASSERT_TRUE(loaded) << loaded.error().message << "\n" << log;
    const auto answer = chat("tiny-chat-2");  // which the router loads by itself
    ASSERT_TRUE(answer) << answer.error().message;
    EXPECT_EQ(answer->status, 200) << answer->body;
    EXPECT_THAT(residents(), UnorderedElementsAre("tiny-chat", "tiny-chat-2"));
    EXPECT_EQ(processes(), 3u);
    EXPECT_THAT(upstream->processes(), UnorderedElementsAreArray(command->processes()));

    const auto yielded = run(io, upstream->yield(20s));
    ASSERT_TRUE(yielded) << yielded.error().message << "\n" << log;
    EXPECT_THAT(residents(), IsEmpty());
    EXPECT_EQ(processes(), 1u) << "whoever had a model is gone";
  }
}

TEST_F(RealRouter, GivesUpWhatItIsLoading) {
  // 640 MB are not loaded in that time.
  EXPECT_EQ(run(io, upstream->load("switch-a", 20ms)).error().code, ErrorCode::kDeadlineExceeded);
  const auto yielded = run(io, upstream->yield(20s));
  ASSERT_TRUE(yielded) << yielded.error().message << "\n" << log;
  EXPECT_EQ(processes(), 1u);
}

TEST_F(RealRouter, EndsWithItsChildrenAsACommand) {
  ASSERT_TRUE(run(io, upstream->load("tiny-chat", 30s)));
  const auto group = command->processes();
  ASSERT_THAT(group, SizeIs(2));
  const auto yielded = run(io, command->yield(20s));
  ASSERT_TRUE(yielded) << yielded.error().message;
  EXPECT_THAT(os::group_members(group.front().pid), IsEmpty());
}

TEST_F(RealLlamaServer, OfOneModelCannotYieldButEnds) {
  ASSERT_NO_FATAL_FAILURE(start({"-m", variable("LLM_MANAGER_TEST_MODELS") + "/tiny-chat.gguf"}));
  ASSERT_NO_FATAL_FAILURE(open());
  ASSERT_TRUE(run(io, upstream->look()));
  EXPECT_EQ(run(io, upstream->yield(5s)).error().reason, "cannot_yield");
  const auto answer = chat("whatever");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->status, 200) << answer->body;
  EXPECT_TRUE(run(io, command->yield(20s)));
}

}  // namespace
}  // namespace lm::backend
