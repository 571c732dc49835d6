#include "runtime/state_keeper.h"

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include "os/file.h"
#include "runtime/state_sidecar.h"

namespace lm::runtime {
namespace {

using Occasion = backend::Conversations::Occasion;
using std::filesystem::path;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

class StateKeeperTest : public testing::Test {
 protected:
  StateKeeperTest() {
    std::string name = (std::filesystem::temp_directory_path() / "state-keeper-XXXXXX").string();
    root_ = ::mkdtemp(name.data());
  }
  ~StateKeeperTest() override { std::filesystem::remove_all(root_); }

  std::unique_ptr<StateKeeper> open(Bytes memory, Bytes disk) {
    auto keeper = std::make_unique<StateKeeper>(
        StateKeeper::Seams{.executor = io_.get_executor(),
                           .post =
                               [this](Event event) {
                                 if (const auto* kept = std::get_if<StatesKept>(&event)) told_ = kept->memory;
                               },
                           .engine = [this] { return engine_; },
                           .unix_ms = [this] { return now_ms_; }});
    keeper->open(
        {.memory = root_ / "memory", .disk = root_ / "disk", .memory_budget = memory, .disk_budget = disk});
    return keeper;
  }
  static backend::LoadOrder order(const std::string& model, std::uint64_t instance = 1) {
    backend::LoadOrder order{
        .instance = InstanceId(instance), .generation = Generation(1), .model = {}, .options = {}};
    order.model.id = ModelId(model);
    order.model.artifact.fingerprint = model;
    return order;
  }
  // One life of a model: loads, is used, writes down conversations of these sizes, ends. What it was given to
  // restore.
  std::vector<SlotState> live(StateKeeper& keeper, const std::string& model, std::vector<int> kib,
                              std::uint64_t instance = 1) {
    const auto o = order(model, instance);
    const auto given = keeper.restore(o);
    if (!given.empty()) {
      wire::Restored told;
      told.slots = static_cast<int>(given.size());
      keeper.restored(o, told);
    }
    keeper.used(o.instance);
    save(keeper, o, std::move(kib));
    keeper.ended(o);
    now_ms_ += 1000;
    io_.restart();
    io_.run();  // copies to disk come to their end
    return given;
  }
  void save(StateKeeper& keeper, const backend::LoadOrder& o, std::vector<int> kib) {
    const auto what = keeper.save(o, Occasion::kEnding);
    if (!what) return;
    wire::StatesSaved told;
    told.complete = true;
    told.prompt_rate = 100;
    for (const int size : kib) told.slots.push_back(write(*what, size));
    keeper.saved(o, *what, told);
  }
  SlotState write(const wire::SaveStates& what, int kib_size) {
    const path file = what.places.front().folder / (what.name + "-" + std::to_string(written_++) + ".slot");
    std::ofstream(file) << std::string(static_cast<std::size_t>(kib_size) * 1024, 'x');
    return {.file = file, .tokens = 1000, .token_sum = written_, .size = kib(kib_size), .sum = 7};
  }
  std::vector<path> files(const char* folder) {
    std::vector<path> found;
    for (const auto& entry : std::filesystem::directory_iterator(root_ / folder))
      found.push_back(entry.path());
    return found;
  }

  boost::asio::io_context io_;
  path root_;
  std::string engine_ = "v1";
  std::int64_t now_ms_ = 1'000'000;
  std::uint64_t written_ = 0;
  Bytes told_;
};

TEST_F(StateKeeperTest, WhatWasSavedIsGivenToTheNextLife) {
  const auto keeper = open(mib(10), Bytes());
  EXPECT_THAT(live(*keeper, "a", {100, 50}), IsEmpty());
  EXPECT_EQ(told_, kib(150));
  const auto given = keeper->restore(order("a", 2));
  ASSERT_THAT(given, SizeIs(2));
  EXPECT_EQ(given[0].size, kib(100)) << "the latest first";
  EXPECT_THAT(keeper->restore(order("b", 3)), IsEmpty());
}

TEST_F(StateKeeperTest, AnUnusedLifeIsNotSavedAgain) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100});
  EXPECT_FALSE(keeper->save(order("a", 2), Occasion::kEnding));
  keeper->used(InstanceId(2));
  EXPECT_TRUE(keeper->save(order("a", 2), Occasion::kEnding));
  EXPECT_FALSE(keeper->save(order("a", 2), Occasion::kEnding)) << "nothing new since";
}

TEST_F(StateKeeperTest, WhatWasBrokenOffIsSavedHoweverLittleItIs) {
  const auto keeper = open(mib(10), Bytes());
  keeper->used(InstanceId(1));
  EXPECT_EQ(keeper->save(order("a", 1), Occasion::kEnding)->least_tokens, 64);
  keeper->ended(order("a", 1));
  keeper->used(InstanceId(2));
  keeper->preempted(InstanceId(2));
  EXPECT_EQ(keeper->save(order("a", 2), Occasion::kEnding)->least_tokens, 1);
}

TEST_F(StateKeeperTest, ANewSaveReplacesTheOldOne) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100, 100});
  live(*keeper, "a", {60});
  EXPECT_EQ(told_, kib(60));
  EXPECT_THAT(files("memory"), SizeIs(2)) << "one state, one sidecar";
}

TEST_F(StateKeeperTest, AnotherFingerprintIsStale) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100});
  engine_ = "v2";
  EXPECT_THAT(keeper->restore(order("a", 2)), IsEmpty());
  EXPECT_THAT(files("memory"), IsEmpty());
  EXPECT_EQ(told_, Bytes());
}

TEST_F(StateKeeperTest, WhatDoesNotFitIntoMemoryGoesToDiskAndComesBackFromThere) {
  const auto keeper = open(kib(150), mib(10));
  live(*keeper, "a", {100});
  live(*keeper, "b", {100}, 2);
  EXPECT_EQ(keeper->figures().memory, kib(100));
  EXPECT_EQ(keeper->figures().disk, kib(100));
  EXPECT_EQ(told_, kib(100));
  const auto given = live(*keeper, "a", {}, 3);
  ASSERT_THAT(given, SizeIs(1));
  EXPECT_EQ(given[0].file.parent_path(), root_ / "disk");
}

TEST_F(StateKeeperTest, GivesBackForALoadTheOldestFirst) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100});
  live(*keeper, "b", {100}, 2);
  live(*keeper, "c", {100}, 3);
  keeper->give_back(kib(50), ModelId("a"));
  EXPECT_EQ(told_, kib(200));
  EXPECT_THAT(keeper->restore(order("b", 4)), IsEmpty());
  EXPECT_THAT(keeper->restore(order("a", 5)), SizeIs(1)) << "what the load is for goes last";
  keeper->give_back(mib(1), ModelId("d"));
  EXPECT_EQ(told_, kib(100)) << "what a worker reads now stays";
}

TEST_F(StateKeeperTest, GivesBackToTheDiskWhereThereIsOne) {
  const auto keeper = open(mib(10), mib(10));
  live(*keeper, "a", {100});
  keeper->give_back(kib(1), ModelId("b"));
  io_.restart();
  io_.run();
  EXPECT_EQ(told_, Bytes());
  EXPECT_THAT(keeper->restore(order("a", 2)), SizeIs(1));
}

TEST_F(StateKeeperTest, WithoutADiskTheOldestGo) {
  const auto keeper = open(kib(150), Bytes());
  live(*keeper, "a", {100});
  live(*keeper, "b", {100}, 2);
  EXPECT_EQ(keeper->figures().conversations, 1);
  EXPECT_THAT(keeper->restore(order("a", 3)), IsEmpty());
  EXPECT_THAT(keeper->restore(order("b", 4)), SizeIs(1));
}

TEST_F(StateKeeperTest, RefusedFilesAreNeverGivenAgain) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100, 50});
  const auto given = keeper->restore(order("a", 2));
  wire::Restored told;
  told.slots = 1;
  told.refused = {given[0].file};
  told.wrong = {"is damaged"};
  keeper->restored(order("a", 2), told);
  keeper->ended(order("a", 2));
  EXPECT_EQ(keeper->figures().restore_failures, 1u);
  const auto again = keeper->restore(order("a", 3));
  ASSERT_THAT(again, SizeIs(1));
  EXPECT_EQ(again[0], given[1]);
}

TEST_F(StateKeeperTest, AWorkerThatDiesOverThemIsGivenThemOnce) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100});
  ASSERT_THAT(keeper->restore(order("a", 2)), SizeIs(1));
  keeper->restored(order("a", 2), std::nullopt);
  keeper->ended(order("a", 2));
  EXPECT_THAT(keeper->restore(order("a", 3)), IsEmpty());
}

TEST_F(StateKeeperTest, AnIncompleteSaveLeavesTheOldOneWhole) {
  const auto keeper = open(mib(10), Bytes());
  live(*keeper, "a", {100});
  const auto o = order("a", 2);
  keeper->restore(o);
  keeper->used(o.instance);
  const auto what = keeper->save(o, Occasion::kEnding);
  ASSERT_TRUE(what);
  wire::StatesSaved told;
  told.slots = {write(*what, 30)};
  keeper->saved(o, *what, told);
  EXPECT_EQ(keeper->figures().memory, kib(100));
  EXPECT_THAT(files("memory"), SizeIs(2));
  EXPECT_TRUE(keeper->save(o, Occasion::kEnding)) << "it still has something to save";
}

TEST_F(StateKeeperTest, WhatAGivenUpSaveLeftIsRemovedAfterTheWorkersEnd) {
  const auto keeper = open(mib(10), Bytes());
  const auto o = order("a");
  keeper->restore(o);
  keeper->used(o.instance);
  const auto what = keeper->save(o, Occasion::kEnding);
  write(*what, 10);
  keeper->saved(o, *what, std::nullopt);
  EXPECT_EQ(keeper->figures().save_failures, 1u);
  keeper->ended(o);
  EXPECT_THAT(files("memory"), IsEmpty());
}

TEST_F(StateKeeperTest, ARestoreThatWasReadAgainIsCounted) {
  const auto keeper = open(mib(10), Bytes());
  const auto o = order("a");
  keeper->used(o.instance);
  const auto what = keeper->save(o, Occasion::kEnding);
  wire::StatesSaved told;
  told.complete = true;
  told.resumptions = {{.restored = 900, .shared = 800, .reused = 799},
                      {.restored = 900, .shared = 800, .reused = 0},
                      {.restored = 900, .shared = 10, .reused = 0}};  // another conversation took the slot
  keeper->saved(o, *what, told);
  EXPECT_EQ(keeper->figures().mismatches, 1u);
  EXPECT_EQ(keeper->figures().tokens_reused, 799u);
}

TEST_F(StateKeeperTest, TheNextDaemonFindsThemAndNothingElse) {
  live(*open(mib(10), mib(10)), "a", {100});
  std::ofstream(root_ / "memory" / "foreign.slot") << "who am I";
  std::ofstream(root_ / "memory" / "foreign.state") << "llm-manager conversation 1\nmodel a\n";
  std::ofstream(root_ / "disk" / "half.slot.partial") << "cut";
  const auto keeper = open(mib(10), mib(10));
  EXPECT_THAT(files("memory"), SizeIs(2));
  EXPECT_THAT(files("disk"), IsEmpty());
  EXPECT_EQ(told_, kib(100));
  EXPECT_THAT(keeper->restore(order("a")), SizeIs(1));
}

// Whoever finds a conversation read again can find out why.
TEST_F(StateKeeperTest, WhatWasCutOrChangedMeanwhileIsDroppedWithALine) {
  live(*open(Bytes(), mib(10)), "a", {100, 100, 100});
  std::vector<path> slots = files("disk");
  ASSERT_THAT(slots, SizeIs(6));
  std::erase_if(slots, [](const path& file) { return file.extension() != ".slot"; });
  std::filesystem::resize_file(slots.at(0), 10);
  const path sidecar = sidecar_of(slots.at(1));
  std::filesystem::resize_file(sidecar, std::filesystem::file_size(sidecar) - 5);
  std::filesystem::remove(slots.at(2));
  std::ostringstream lines;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_st>(lines)));
  const auto keeper = open(Bytes(), mib(10));
  spdlog::set_default_logger(before);
  EXPECT_THAT(keeper->restore(order("a")), IsEmpty());
  EXPECT_THAT(files("disk"), IsEmpty());
  EXPECT_THAT(lines.str(), HasSubstr(slots.at(0).string() + " has 10 bytes"));
  EXPECT_THAT(lines.str(), HasSubstr(sidecar.string() + " was changed or cut"));
  EXPECT_THAT(lines.str(), HasSubstr(slots.at(2).string() + ": No such file"));
}

TEST_F(StateKeeperTest, AtTheEndMemoryIsGivenBackAndTheDiskKeepsWhatItMay) {
  auto keeper = open(mib(10), mib(10));
  live(*keeper, "a", {100});
  io_.restart();
  boost::asio::co_spawn(io_, keeper->close(std::chrono::seconds(10)), boost::asio::detached);
  io_.run();
  EXPECT_FALSE(std::filesystem::exists(root_ / "memory"));
  keeper.reset();
  keeper = open(mib(10), mib(10));
  EXPECT_THAT(keeper->restore(order("a")), SizeIs(1));
}

TEST_F(StateKeeperTest, AFolderOfAnothersIsNotUsed) {
  std::filesystem::create_directory(root_ / "elsewhere");
  std::filesystem::create_directory_symlink(root_ / "elsewhere", root_ / "memory");
  const auto keeper = open(mib(10), Bytes());
  keeper->used(InstanceId(1));
  EXPECT_FALSE(keeper->save(order("a"), Occasion::kEnding)) << "nowhere to save to";
}

TEST(StateSidecar, ComesBackAsItWasWritten) {
  const StateSidecar about{.model = ModelId("a model"),
                           .fingerprint = "abc|x=y|",
                           .saved_ms = 123'456,
                           .reread = std::chrono::milliseconds(4400),
                           .state = {.file = "/f/x-1.slot",
                                     .tokens = 1007,
                                     .token_sum = 0xffffffffffffffff,
                                     .size = mib(110),
                                     .sum = 0}};
  const std::string text = to_text(about);
  const auto back = read_sidecar(text, "/f/x-1.state");
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, about);
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_FALSE(read_sidecar(damaged, "/f/x-1.state")) << "at " << i;
    EXPECT_FALSE(read_sidecar(text.substr(0, i), "/f/x-1.state")) << "cut at " << i;
  }
}

}  // namespace
}  // namespace lm::runtime
