// Servers that we start, played by tests/fake_vllm and by small shell scripts.
#include "backend/command.h"

#include <csignal>
#include <poll.h>

#include <boost/asio/io_context.hpp>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backend/caller.h"
#include "os/addresses.h"
#include "os/file.h"
#include "os/testing/run.h"

namespace lm::backend {
namespace {

using namespace std::chrono_literals;
using os::testing::run;
using os::testing::run_until;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class CommandServer : public ::testing::Test {
 protected:
  CommandOptions fake(std::vector<std::string> arguments) {
    CommandOptions options;
    options.command = {"python3", LM_FAKE_VLLM, "--model", "qwen"};
    options.command.insert(options.command.end(), arguments.begin(), arguments.end());
    return options;
  }
  CommandOptions shell(std::string script) {
    CommandOptions options;
    options.command = {"/bin/sh", "-c", std::move(script)};
    return options;
  }
  void open(CommandOptions options) {
    options.name = "mine";
    options.run_folder = folder.path();
    options.log = [this](std::string_view line) { lines.emplace_back(line); };
    options.changed = [this] { ++changes; };
    auto made = make_command(io.get_executor(), std::move(options));
    ASSERT_TRUE(made) << made.error().message;
    server = *made;
  }
  Result<void> load(Duration limit = 20s) { return run(io, server->load("qwen", limit)); }
  Result<void> yield(Duration limit = 10s) { return run(io, server->yield(limit)); }
  Sight look() { return run(io, server->look()).value(); }
  std::vector<std::string> records() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      names.push_back(entry.path().filename());
    return names;
  }
  // Through the connections that people's requests take.
  Result<Answer> ask(std::string target, std::string body) {
    const Caller caller(io.get_executor(), server->client(), {});
    return run(io, caller.post(server->api_prefix() + target, std::move(body), now() + 10s));
  }

  boost::asio::io_context io;
  const os::testing::TemporaryFolder folder;
  std::vector<std::string> lines;
  int changes = 0;
  std::shared_ptr<UpstreamServer> server;
};

std::vector<std::string> names(const std::vector<Resident>& residents) {
  std::vector<std::string> out;
  for (const Resident& resident : residents) out.push_back(resident.name);
  return out;
}

TEST_F(CommandServer, IsStartedServesAndIsEnded) {
  open(fake({"--port", "${port}", "--memory", "8", "--start-takes", "0.3"}));
  EXPECT_TRUE(server->description().shares_devices);
  EXPECT_EQ(server->description().family, Family::kOpenai);
  EXPECT_THAT(look().residents, IsEmpty());
  EXPECT_TRUE(look().tells_residents);
  EXPECT_EQ(server->client(), nullptr);
  EXPECT_THAT(server->processes(), IsEmpty());

  const auto loaded = load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Sight sight = look();
  ASSERT_THAT(sight.models, SizeIs(1));
  EXPECT_EQ(sight.models[0].id, ModelId("mine/qwen"));
  EXPECT_EQ(sight.models[0].origin, "commands.mine");
  EXPECT_THAT(names(sight.residents), ElementsAre("qwen"));
  const auto processes = server->processes();
  EXPECT_THAT(processes, SizeIs(2)) << "the server, and the child that has its memory";
  EXPECT_THAT(records(), ElementsAre(fmt::format("{}.run", processes.front().pid)));
  const auto answer = ask("/chat/completions", R"({"model":"qwen"})");
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_THAT(answer->body, HasSubstr("word0 word1"));
  ASSERT_TRUE(load()) << "it runs already";
  EXPECT_EQ(server->processes(), processes);

  EXPECT_EQ(changes, 0);
  ASSERT_TRUE(yield());
  EXPECT_EQ(changes, 1);
  EXPECT_THAT(os::group_members(processes.front().pid), IsEmpty());
  EXPECT_THAT(records(), IsEmpty());
  EXPECT_THAT(look().residents, IsEmpty());
  EXPECT_THAT(look().models, SizeIs(1)) << "what it has listed is still offered";
  EXPECT_EQ(server->client(), nullptr);
  EXPECT_THAT(lines, Contains("command mine: exited with code 0, as asked"));
  EXPECT_TRUE(yield()) << "there is nothing to give up";
}

TEST_F(CommandServer, ListensOnASocket) {
  open(fake({"--socket", "${socket}"}));
  const auto loaded = load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_THAT(server->description().url, AllOf(HasSubstr("unix:"), HasSubstr("command-mine.sock")));
  EXPECT_THAT(look().residents, SizeIs(1));
  EXPECT_THAT(records(), SizeIs(2));
  ASSERT_TRUE(yield());
  EXPECT_THAT(records(), IsEmpty());
  // What somebody left there is not in the next one's way.
  ASSERT_TRUE(os::replace_file(folder.path() / "command-mine.sock", ""));
  EXPECT_TRUE(load());
}

TEST_F(CommandServer, APortThatIsGivenIsUsed) {
  auto options = fake({"--port", "${port}"});
  const auto port = os::free_loopback_port().value();
  options.base_url = fmt::format("http://127.0.0.1:{}/v1", port);
  open(options);
  ASSERT_TRUE(load());
  EXPECT_EQ(server->client()->endpoint().port, port);
}

TEST_F(CommandServer, AnEarlyDeathIsToldAtOnceWithItsLastWords) {
  open(fake({"--port", "${port}", "--start-takes", "100", "--dies-after", "0.2"}));
  const auto began = std::chrono::steady_clock::now();
  const auto loaded = load();
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(loaded.error().reason, "command_died");
  EXPECT_THAT(loaded.error().message,
              AllOf(HasSubstr("exited with code 7"), HasSubstr("the engine has died")));
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
  EXPECT_THAT(look().residents, IsEmpty());
}

TEST_F(CommandServer, OneThatIsNotReadyInTimeIsEnded) {
  open(fake({"--port", "${port}", "--start-takes", "100"}));
  const auto loaded = load(700ms);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(loaded.error().reason, "load_timeout");
  EXPECT_THAT(server->processes(), IsEmpty());
}

TEST_F(CommandServer, ItsOwnStartLimitCountsToo) {
  auto options = shell("sleep 100");
  options.start_limit = 300ms;
  open(options);
  EXPECT_EQ(load().error().reason, "load_timeout");
}

TEST_F(CommandServer, HoldsMemoryBeforeItIsReady) {
  open(fake({"--port", "${port}", "--start-takes", "100"}));
  std::vector<std::string> seen;
  boost::asio::co_spawn(io, server->load("qwen", 3s),
                        [&](std::exception_ptr, const Result<void>&) { seen.emplace_back("loaded"); });
  ASSERT_TRUE(run_until(io, [&] { return !server->processes().empty(); }));
  EXPECT_THAT(names(look().residents), ElementsAre("mine"));
  ASSERT_TRUE(yield());
  ASSERT_TRUE(run_until(io, [&] { return !seen.empty(); })) << "who waits for it is told";
}

TEST_F(CommandServer, ADeafOneIsKilledAfterItsGrace) {
  auto options = fake({"--port", "${port}", "--deaf", "--memory", "8"});
  options.stop_grace = 200ms;
  open(options);
  ASSERT_TRUE(load());
  const auto processes = server->processes();
  ASSERT_TRUE(yield());
  EXPECT_THAT(os::group_members(processes.front().pid), IsEmpty());
  EXPECT_THAT(lines, Contains("command mine: killed by SIGKILL, as asked"));
}

TEST_F(CommandServer, IsToldByItsOwnSignal) {
  auto options = shell("trap 'echo interrupted; exit 5' INT; while :; do sleep 0.02; done");
  options.stop_signal = SIGINT;
  options.start_limit = 500ms;
  open(options);
  EXPECT_THAT(load().error().message, HasSubstr("start_timeout"));
  EXPECT_THAT(lines, AllOf(Contains("command mine: interrupted"),
                           Contains("command mine: exited with code 5, as asked")));
}

TEST_F(CommandServer, ADeathIsNoticedAndTheNextLoadStartsItAnew) {
  open(fake({"--port", "${port}"}));
  ASSERT_TRUE(load());
  const pid_t pid = server->processes().front().pid;
  ::kill(pid, SIGKILL);
  ASSERT_TRUE(run_until(io, [&] { return changes == 1; }));
  EXPECT_THAT(look().residents, IsEmpty());
  EXPECT_THAT(records(), IsEmpty());
  EXPECT_THAT(lines, Contains("command mine: killed by SIGKILL"));
  ASSERT_TRUE(load());
  EXPECT_NE(server->processes().front().pid, pid);
}

TEST_F(CommandServer, AStartWaitsForTheEndOfTheLastOne) {
  auto options = fake({"--port", "${port}", "--deaf"});
  options.base_url = fmt::format("http://127.0.0.1:{}", os::free_loopback_port().value());
  options.stop_grace = 300ms;
  open(options);
  ASSERT_TRUE(load());
  const pid_t first = server->processes().front().pid;
  bool ended = false;
  boost::asio::co_spawn(io, server->yield(5s),
                        [&](std::exception_ptr, const Result<void>&) { ended = true; });
  io.restart();
  io.poll();
  ASSERT_FALSE(ended);
  const auto loaded = load();
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_TRUE(ended);
  EXPECT_NE(server->processes().front().pid, first);
}

TEST_F(CommandServer, ChildrenThatLeftItsGroupAreItsToo) {
  auto options = shell("setsid sleep 100 & sleep 100");
  options.start_limit = 20s;
  open(options);
  bool ended = false;
  boost::asio::co_spawn(io, server->load("qwen", 20s),
                        [&](std::exception_ptr, const Result<void>&) { ended = true; });
  ASSERT_TRUE(run_until(io, [&] { return server->processes().size() == 3; }));
  const auto processes = server->processes();
  ASSERT_TRUE(yield());
  ASSERT_TRUE(run_until(io, [&] { return ended; }));
  // The one that has left lives on; nobody but this test ends it.
  for (const auto& process : processes) {
    if (os::identify(process.pid) == process) ::kill(process.pid, SIGKILL);
  }
}

TEST_F(CommandServer, WithoutHealthItsListTells) {
  open(fake({"--port", "${port}", "--no-health"}));
  EXPECT_TRUE(load());
}

TEST_F(CommandServer, HealthIsAskedWhereItIsConfigured) {
  auto options = fake({"--port", "${port}"});
  options.health = "/nowhere";
  open(options);
  EXPECT_EQ(load(500ms).error().reason, "load_timeout");
  options.health = "/version";
  open(options);
  EXPECT_TRUE(load());
}

TEST_F(CommandServer, GetsItsEnvironmentAndNotOurKeys) {
  ::setenv("LM_TEST_API_KEY", "sk-secret", 1);
  auto options = shell("env; pwd; exit 1");
  options.environment = {{"WHERE", "at ${port}/${socket}"}, {"LANG", "xx"}};
  options.working_folder = "/usr";
  open(options);
  EXPECT_EQ(load().error().reason, "command_died");
  ::unsetenv("LM_TEST_API_KEY");
  EXPECT_THAT(lines, Contains("command mine: LANG=xx").Times(1));
  EXPECT_THAT(lines, Contains(HasSubstr("PATH=")));
  EXPECT_THAT(lines, Contains("command mine: /usr"));
  EXPECT_THAT(lines,
              Contains(AllOf(HasSubstr("WHERE=at "), HasSubstr("command-mine.sock"), Not(HasSubstr("$")))));
  EXPECT_THAT(lines, Not(Contains(HasSubstr("secret"))));
}

TEST_F(CommandServer, ConfiguredModelsAreOfferedBeforeItRuns) {
  auto options = fake({"--port", "${port}"});
  options.models = {"qwen", "qwen-lora"};
  open(options);
  EXPECT_THAT(look().models, SizeIs(2));
}

// Of the server, not of its model: that is configured.
TEST_F(CommandServer, AProgramThatIsNotThereIsAnError) {
  CommandOptions options;
  options.command = {"/nowhere/vllm"};
  open(options);
  const Error error = load().error();
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_EQ(error.reason, "command_not_started");
  EXPECT_THAT(error.message, HasSubstr("/nowhere/vllm"));
  EXPECT_THAT(records(), IsEmpty());
}

TEST_F(CommandServer, EndsWithItsOwner) {
  open(fake({"--port", "${port}", "--memory", "8"}));
  ASSERT_TRUE(load());
  std::vector<os::UniqueFd> pidfds;
  for (const auto& process : server->processes()) pidfds.push_back(os::open_pidfd(process.pid).value());
  ASSERT_THAT(pidfds, SizeIs(2));
  server.reset();
  for (const os::UniqueFd& pidfd : pidfds) {
    pollfd ended{.fd = pidfd.get(), .events = POLLIN, .revents = 0};
    EXPECT_EQ(::poll(&ended, 1, 20'000), 1);
  }
  EXPECT_THAT(records(), IsEmpty());
}

TEST(Command, RefusesWhatCannotWork) {
  boost::asio::io_context io;
  const auto refused = [&](CommandOptions options) {
    options.name = "c";
    const auto made = make_command(io.get_executor(), std::move(options));
    return made ? "" : made.error().message;
  };
  EXPECT_THAT(refused({}), HasSubstr("no program"));
  EXPECT_THAT(refused({.command = {"x"}, .base_url = "nonsense"}), HasSubstr("no address of a server"));
  EXPECT_THAT(refused({.command = {"x", "${socket}"}, .run_folder = "/" + std::string(200, 'x')}),
              HasSubstr("too long for a socket's path"));
  EXPECT_EQ(refused({.command = {"x"}}), "");
}

}  // namespace
}  // namespace lm::backend
