// A recorded day is decided again as it was, and files of any kind are survived.
#include "runtime/event_log.h"

#include <fstream>
#include <sys/stat.h>

#include <gtest/gtest.h>

#include "core/arbiter_world.h"
#include "core/trace_text.h"
#include "wire/event_codec.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using core::testing::LoadFate;
using core::testing::minutes;
using core::testing::ms;
using core::testing::ReleaseFate;
using core::testing::sec;
using core::testing::World;

std::string told(const Command& command, TimePoint at) {
  return fmt::format("{} {}{}", at.time_since_epoch().count(), name_of(command), core::trace_text(command));
}

struct Recording : ::testing::Test {
  Recording() {
    std::string name = fs::path(::testing::TempDir()) / "lm-event-log-XXXXXX";
    folder = ::mkdtemp(name.data());
    file = folder / "day.jsonl";
  }
  ~Recording() override { fs::remove_all(folder); }

  // What a fresh arbiter commands.
  std::vector<std::string> replayed() {
    core::Arbiter arbiter;
    std::vector<std::string> commands;
    const auto read = read_recording(file, [&](const Event& event, TimePoint at) {
      for (const Command& command : arbiter.step(event, at)) commands.push_back(told(command, at));
    });
    EXPECT_TRUE(read) << read.error().message;
    return commands;
  }
  std::vector<std::string> names() {
    std::vector<std::string> all;
    const auto read =
        read_recording(file, [&](const Event& event, TimePoint) { all.emplace_back(name_of(event)); });
    if (!read) all.push_back(read.error().message);
    return all;
  }
  std::string text() const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& text) const { std::ofstream(file) << text; }

  fs::path folder, file;
};

// A day on which most of what can happen happens.
void live(World& world) {
  world.add_device("gpu", gib(10));
  world.add_model("a", gib(7)).policy.weight = 1.0 / 3;
  world.add_model("b", gib(6)).policy.keep_alive = sec(20);
  world.add_model("e", gib(1)).kind = ModelKind::kEmbedding;
  world.add_upstream("ollama", Family::kOllama);
  world.add_remote_model("ollama_q", "ollama", gib(5));
  world.add_upstream("far", Family::kOpenai, false);
  world.add_remote_model("openai_x", "far");
  world.configure();
  world.tell(DesiredRestored{{{ModelId("b"), "ada", 77}}, {ModelId("e")}});
  world.see("ollama");
  world.measure();
  world.run_for(sec(5));
  world.truth("a").fates = {LoadFate::kFails};
  world.request("a");
  world.run_for(sec(3));
  for (int i = 0; i < 6; ++i) world.request("a", ms(700 + 100 * i));
  world.request("b");  // it is held
  world.run_for(sec(2));
  world.crash("a");
  world.run_for(sec(4));
  world.load("b");
  const RequestId leaves = world.request("b", sec(60));
  world.run_for(sec(1));
  world.cancel(leaves);
  world.choose("ollama_q");
  world.run_for(sec(8));
  world.request("ollama_q", sec(1));
  world.run_for(sec(2));
  world.request("a", sec(1));
  world.run_for(sec(15));
  world.intrude("ollama", "ollama_q");
  world.run_for(sec(30));
  world.request("openai_x", sec(1));
  world.choose("openai_x");
  world.run_for(sec(10));
  world.pin("a");
  world.run_for(sec(5));
  world.truth("a").releases = {ReleaseFate::kClings};
  world.unload("", true);
  world.run_for(minutes(1));
  world.settings().residency.mode = ResidencyMode::kFit;
  world.model("b").load.context = 8192;
  world.configure();
  world.load("b");
  world.run_for(sec(5));
  world.shut_down(sec(5));
  world.run_for(sec(20));
  EXPECT_TRUE(world.shutdown_finished());
}

TEST_F(Recording, ReplaysToTheSameCommands) {
  Settings settings;  // exclusive: switches too
  World world(settings);
  auto log = EventLog::open(file);
  ASSERT_TRUE(log);
  std::vector<std::string> commands;
  std::set<std::string_view> kinds;
  world.on_event = [&](const Event& event, TimePoint at) {
    kinds.insert(name_of(event));
    log->record(event, at);
  };
  world.on_command = [&](const Command& command, TimePoint at) { commands.push_back(told(command, at)); };
  live(world);
  EXPECT_GT(commands.size(), 200U);
  for (const char* kind : {"SwitchWanted", "UpstreamSeen", "UpstreamYielded", "ReleaseMeasured",
                           "WorkerExited", "LoadFailed", "DesiredRestored", "ShutdownBegan"}) {
    EXPECT_TRUE(kinds.contains(kind)) << kind;
  }
  EXPECT_EQ(replayed(), commands);
}

TEST_F(Recording, BelongsToItsUserAndBeginsAnew) {
  write("what was here before\n");
  std::ofstream(beginning_of(file)) << "and before that\n";
  fs::remove(file);
  auto log = EventLog::open(file);
  ASSERT_TRUE(log);
  log->record(SettingsChanged{}, TimePoint());
  EXPECT_FALSE(fs::exists(beginning_of(file)));
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(names(), std::vector<std::string>{"SettingsChanged"});
  EXPECT_EQ(EventLog::open(folder / "not" / "there").error().code, ErrorCode::kNotFound);
}

TEST_F(Recording, IsContinuedOnceAndThenEnds) {
  constexpr std::size_t kLimit = 4096;
  auto log = EventLog::open(file, kLimit);
  ASSERT_TRUE(log);
  std::vector<std::string> recorded;
  const auto record = [&](Event event) {
    log->record(event, TimePoint(ms(1)));
    if (log->recording()) recorded.emplace_back(name_of(event));
  };
  record(SettingsChanged{});
  for (int i = 1; i < 400 && log->recording(); ++i) {
    record(LoadWanted{JobId(static_cast<std::uint64_t>(i)), ModelId("tiny"), "somebody", false});
  }
  EXPECT_FALSE(log->recording()) << "400 of them are more than both files hold";
  EXPECT_GT(recorded.size(), 50U);
  EXPECT_LE(fs::file_size(file), kLimit);
  EXPECT_LE(fs::file_size(beginning_of(file)), kLimit);
  EXPECT_EQ(names(), recorded) << "in order, from the beginning";

  fs::remove(beginning_of(file));
  const auto alone = read_recording(file, [](const Event&, TimePoint) { FAIL() << "nothing is told"; });
  ASSERT_FALSE(alone);
  EXPECT_EQ(alone.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_NE(alone.error().message.find("day.jsonl.1"), std::string::npos);
}

TEST_F(Recording, ALineThatWasCutShortIsLeftOut) {
  const std::string settings = wire::encode(SettingsChanged{}, TimePoint());
  const std::string timer = wire::encode(TimerFired{}, TimePoint());
  write(settings + timer.substr(0, timer.size() - 1));
  EXPECT_EQ(names(), std::vector<std::string>{"SettingsChanged"});
  write(settings + timer);
  EXPECT_EQ(names(), (std::vector<std::string>{"SettingsChanged", "TimerFired"}));
}

TEST_F(Recording, WhatIsNoRecordingIsNamedWithItsLine) {
  write(wire::encode(SettingsChanged{}, TimePoint()) + "hello\n");
  EXPECT_NE(names().back().find("day.jsonl:2: no recorded event"), std::string::npos) << names().back();
  fs::remove(file);
  EXPECT_NE(names().back().find("cannot be read"), std::string::npos);
}

}  // namespace
}  // namespace lm::runtime
