// The stand-in for vLLM, as a process with memory of its own: what sleeping gives back, and that a 200 proves
// nothing.
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/caller.h"
#include "backend/command.h"
#include "backend/openai.h"
#include "os/file.h"
#include "os/testing/run.h"

namespace lm::backend {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class FakeVllm : public ::testing::Test {
 protected:
  void start(std::vector<std::string> arguments = {}) {
    CommandOptions options;
    options.name = "command";
    options.command = {"python3", LM_FAKE_VLLM, "--port", "${port}", "--memory", "64"};
    options.command.insert(options.command.end(), arguments.begin(), arguments.end());
    options.run_folder = folder.path();
    command = make_command(io.get_executor(), std::move(options)).value();
    const auto loaded = run(io, command->load("", 20s));
    ASSERT_TRUE(loaded) << loaded.error().message;
    // As if somebody else had started it.
    const std::string url = command->client()->endpoint().text() + "/v1";
    upstream = make_openai(io.get_executor(), {.name = "lab", .base_url = url}).value();
  }
  Sight look() { return run(io, upstream->look()).value(); }
  // Resident, of all of its processes.
  Bytes held() {
    std::int64_t pages = 0;
    for (const auto& process : upstream->processes()) {
      const auto text = os::read_file(fmt::format("/proc/{}/statm", process.pid));
      if (text) pages += std::stoll(text->substr(text->find(' ')));
    }
    return Bytes(pages * ::sysconf(_SC_PAGESIZE));
  }
  Result<Answer> chat(std::string body) {
    const Caller caller(io.get_executor(), upstream->client(), {});
    return run(io, caller.post(upstream->api_prefix() + "/chat/completions", std::move(body), now() + 10s));
  }

  boost::asio::io_context io;
  const os::testing::TemporaryFolder folder;
  std::shared_ptr<UpstreamServer> command, upstream;
};

TEST_F(FakeVllm, SleepsForItsMemoryAndWakesForItsModel) {
  ASSERT_NO_FATAL_FAILURE(start({"--sleep-takes", "0.2"}));
  EXPECT_THAT(look().residents, SizeIs(1));
  const Bytes awake = held();
  EXPECT_GT(awake, mib(64));

  ASSERT_TRUE(run(io, upstream->yield(10s)));
  EXPECT_THAT(look().residents, IsEmpty());
  EXPECT_LT(held(), awake - mib(64));
  EXPECT_EQ(chat(R"({"model":"fake-vllm"})")->status, 503);

  ASSERT_TRUE(run(io, upstream->load("fake-vllm", 10s)));
  EXPECT_GT(held(), mib(64));
  EXPECT_EQ(chat(R"({"model":"fake-vllm"})")->status, 200);
  EXPECT_THAT(chat(R"({"model":"fake-vllm","stream":true})")->body, HasSubstr("data: [DONE]"));
}

TEST_F(FakeVllm, TheWordOfALiarIsBelievedHereAndRefutedByTheMeasurement) {
  ASSERT_NO_FATAL_FAILURE(start({"--liar"}));
  ASSERT_TRUE(run(io, upstream->yield(10s)));
  EXPECT_THAT(look().residents, IsEmpty());
  EXPECT_GT(held(), mib(64));
}

TEST_F(FakeVllm, OneThatHangsInSleepingIsGivenUpInTime) {
  ASSERT_NO_FATAL_FAILURE(start({"--sleep-takes", "100"}));
  const auto began = std::chrono::steady_clock::now();
  const auto yielded = run(io, upstream->yield(2s));
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().reason, "still_resident");
  EXPECT_THAT(yielded.error().message, HasSubstr("fake-vllm"));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
}

TEST_F(FakeVllm, OneThatDiesMeanwhileIsUnavailable) {
  ASSERT_NO_FATAL_FAILURE(start({"--sleep-kills"}));
  const auto yielded = run(io, upstream->yield(15s));
  ASSERT_FALSE(yielded);
  EXPECT_EQ(yielded.error().code, ErrorCode::kUnavailable) << yielded.error().message;
  EXPECT_THAT(upstream->processes(), IsEmpty());
}

}  // namespace
}  // namespace lm::backend
