#include "store/database.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <sys/stat.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "store/death_tally.h"
#include "store/decisions.h"
#include "store/desired.h"
#include "store/footprints.h"
#include "store/kinds.h"
#include "store/schema.h"
#include "store/switches.h"

namespace lm::store {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Store : public ::testing::Test {
 protected:
  Store() {
    std::string pattern = (fs::temp_directory_path() / "lm-store-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
  }
  ~Store() override {
    database_.reset();
    fs::remove_all(folder_);
  }

  Database& open() {
    database_.reset();
    auto opened = Database::open(folder_);
    EXPECT_TRUE(opened) << opened.error().message;
    warnings_ = opened->warnings;
    database_ = std::move(opened->database);
    return *database_;
  }
  void close() { database_.reset(); }

  void run(const std::string& sql) {
    auto statement = database_->prepare(sql);
    ASSERT_TRUE(statement) << statement.error().message;
    auto done = statement->run();
    ASSERT_TRUE(done) << done.error().message;
  }
  std::int64_t number(const std::string& sql) {
    auto statement = database_->prepare(sql);
    EXPECT_TRUE(statement && statement->step().value_or(false)) << sql;
    return statement->integer(0);
  }
  std::vector<std::string> files() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_))
      names.push_back(entry.path().filename().string());
    std::ranges::sort(names);
    return names;
  }

  fs::path folder_;
  std::unique_ptr<Database> database_;
  std::vector<std::string> warnings_;
};

DecisionRecord decision(std::int64_t at, std::string model, std::string kind = "evict") {
  return {.id = 0,
          .at_ms = at,
          .kind = std::move(kind),
          .model = std::move(model),
          .why = "because",
          .fields = R"({"bytes":5})"};
}

TEST_F(Store, IsPrivateAndHasTheNewestSchema) {
  ::umask(0);
  open();
  EXPECT_EQ(number("PRAGMA user_version"), static_cast<std::int64_t>(state_layout().steps.size()));
  EXPECT_EQ(number("PRAGMA foreign_keys"), 1);
  EXPECT_EQ(number("PRAGMA synchronous"), 1);
  Desired(*database_).hold({.model = ModelId("m"), .who = "w", .since_ms = 1}).value();
  for (const auto& name : files()) {
    struct stat status{};
    ASSERT_EQ(::stat((folder_ / name).c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << name;
  }
  close();
  EXPECT_THAT(files(), ElementsAre("state.db")) << "a clean close leaves nothing beside it";
  ::umask(022);
}

TEST_F(Store, MakesItsFolder) {
  folder_ /= "a/b";
  open();
  struct stat status{};
  ASSERT_EQ(::stat(folder_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0700U);
}

TEST_F(Store, ANewerSchemaIsRefusedAndLeftAlone) {
  open();
  run("PRAGMA user_version = 99");
  close();
  auto refused = Database::open(folder_);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kFailedPrecondition);
  EXPECT_EQ(refused.error().reason, "newer_schema");
  EXPECT_EQ(refused.error().number("schema"), 99);
  EXPECT_THAT(refused.error().message, HasSubstr("--data"));
  EXPECT_THAT(files(), ElementsAre("state.db"));
}

TEST_F(Store, AMigrationThatFailsLeavesNothingBehind) {
  open();
  run("PRAGMA user_version = 0");  // its tables are there already, so the first step fails in its middle
  close();
  auto refused = Database::open(folder_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("already exists"));
  EXPECT_THAT(files(), ElementsAre("state.db"));
}

TEST_F(Store, GarbageIsMovedAsideWithAWarning) {
  std::ofstream(folder_ / "state.db") << std::string(10'000, 'x');
  open();
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_THAT(warnings_[0], HasSubstr("state.db.corrupt-"));
  EXPECT_TRUE(Decisions(*database_).append(decision(1, "m")));
  close();
  ASSERT_THAT(files(), SizeIs(2));
  EXPECT_TRUE(files()[1].starts_with("state.db.corrupt-"));
  open();
  EXPECT_THAT(warnings_, IsEmpty()) << "once";
}

TEST_F(Store, ATruncatedFileIsMovedAside) {
  open();
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(Decisions(*database_).append(decision(i, "m")));
  close();
  fs::resize_file(folder_ / "state.db", 5000);
  // Depending on what was cut it shows at once or when it is read; then it is marked and found by the next
  // start.
  open();
  if (warnings_.empty()) {
    auto rows = Decisions(*database_).find({});
    ASSERT_FALSE(rows);
    EXPECT_EQ(rows.error().reason, "database_corrupt");
    EXPECT_TRUE(database_->damaged());
    open();
  }
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_TRUE(Decisions(*database_).find({})->empty());
}

TEST_F(Store, DamageInTheMiddleIsFoundMarkedAndMovedAside) {
  open();
  for (int i = 0; i < 2000; ++i)
    ASSERT_TRUE(Decisions(*database_).append(decision(i, "model " + std::to_string(i))));
  close();
  {
    std::fstream file(folder_ / "state.db", std::ios::in | std::ios::out | std::ios::binary);
    const auto size = static_cast<std::streamoff>(fs::file_size(folder_ / "state.db"));
    for (std::streamoff at = std::streamoff{16} * 4096; at + 4096 <= size; at += 4096) {
      file.seekp(at);
      file << std::string(200, '\xA5');
    }
  }
  open();
  EXPECT_THAT(warnings_, IsEmpty()) << "the head is whole, a start does not read all";
  auto rows = Decisions(*database_).find({.model = {}, .since_ms = {}, .before_id = {}, .most = 2000});
  ASSERT_FALSE(rows);
  EXPECT_EQ(rows.error().reason, "database_corrupt");
  EXPECT_TRUE(fs::exists(folder_ / "state.db.damaged"));
  open();
  ASSERT_THAT(warnings_, SizeIs(1));
  EXPECT_FALSE(fs::exists(folder_ / "state.db.damaged"));
  EXPECT_TRUE(Decisions(*database_).find({})->empty());
}

TEST_F(Store, AMarkOnAWholeFileCostsNothing) {
  open();
  ASSERT_TRUE(Decisions(*database_).append(decision(1, "m")));
  close();
  std::ofstream(folder_ / "state.db.damaged") << "x";
  open();
  EXPECT_THAT(warnings_, IsEmpty());
  EXPECT_THAT(*Decisions(*database_).find({}), SizeIs(1));
}

TEST_F(Store, AReaderLooksOnWhileWeWrite) {
  EXPECT_EQ(Database::open_read_only(folder_).error().code, ErrorCode::kNotFound);
  open();
  auto reader = Database::open_read_only(folder_);
  ASSERT_TRUE(reader) << reader.error().message;
  Decisions writing(*database_), reading(**reader);
  for (int i = 1; i <= 50; ++i) {
    ASSERT_TRUE(writing.append(decision(i, "m")));
    auto seen = reading.find({});
    ASSERT_TRUE(seen);
    ASSERT_EQ(seen->size(), static_cast<std::size_t>(i));
  }
  // A reader in the middle of its rows does not hold us up.
  auto rows = (*reader)->prepare("SELECT id FROM decisions");
  ASSERT_TRUE(rows && rows->step().value_or(false));
  EXPECT_TRUE(writing.append(decision(51, "m")));
  EXPECT_FALSE(reading.append(decision(52, "m"))) << "it only reads";
}

TEST_F(Store, ALinkInThePlaceOfTheFileIsRefused) {
  std::ofstream(folder_ / "other") << "precious";
  fs::create_symlink(folder_ / "other", folder_ / "state.db");
  EXPECT_FALSE(Database::open(folder_));
  std::ifstream other(folder_ / "other");
  std::string text;
  other >> text;
  EXPECT_EQ(text, "precious");
}

TEST_F(Store, TheSameStatementTwiceAtOnce) {
  open();
  for (int i = 1; i <= 3; ++i) ASSERT_TRUE(Decisions(*database_).append(decision(i, "m")));
  auto outer = database_->prepare("SELECT id FROM decisions ORDER BY id");
  int pairs = 0;
  while (outer->step().value_or(false)) {
    auto inner = database_->prepare("SELECT id FROM decisions ORDER BY id");
    while (inner->step().value_or(false)) ++pairs;
  }
  EXPECT_EQ(pairs, 9);
}

TEST_F(Store, WhatIsNotCommittedIsTakenBack) {
  open();
  {
    auto transaction = Transaction::begin(*database_);
    ASSERT_TRUE(transaction);
    ASSERT_TRUE(Decisions(*database_).append(decision(1, "m")));
  }
  EXPECT_THAT(*Decisions(*database_).find({}), IsEmpty());
  ASSERT_TRUE(Decisions(*database_).append(decision(2, "m")));
  EXPECT_THAT(*Decisions(*database_).find({}), SizeIs(1));
}

TEST_F(Store, FootprintsAreLearned) {
  open();
  Footprints footprints(*database_);
  EXPECT_EQ(footprints.get("k")->has_value(), false);
  const DeviceBytes first = {{DeviceId("cuda0"), gib(2)}, {DeviceId("host"), mib(300)}};
  ASSERT_TRUE(footprints.put("k", first, mib(700), std::chrono::seconds(2), 1000));
  auto learned = **footprints.get("k");
  EXPECT_EQ(learned.bytes, first);
  EXPECT_EQ(learned.reclaimable, mib(700));
  EXPECT_EQ(learned.load_took, std::chrono::seconds(2));
  EXPECT_EQ(learned.loads, 1);
  EXPECT_EQ(learned.updated_ms, 1000);

  const DeviceBytes second = {{DeviceId("cuda1"), gib(1)}};
  ASSERT_TRUE(footprints.put("k", second, Bytes(0), std::chrono::seconds(1), 2000));
  ASSERT_TRUE(footprints.put("k", second, Bytes(0), std::nullopt, 3000));
  learned = **footprints.get("k");
  EXPECT_EQ(learned.bytes, second) << "the newest measurement counts";
  EXPECT_EQ(learned.reclaimable, Bytes(0));
  EXPECT_NEAR(seconds(*learned.load_took), 1.7, 1e-6);
  EXPECT_EQ(learned.loads, 3);

  ASSERT_TRUE(footprints.put("other", first, Bytes(0), std::nullopt, 1));
  EXPECT_EQ((**footprints.get("other")).load_took, std::nullopt);
  open();
  Footprints again(*database_);
  EXPECT_EQ((**again.get("k")).bytes, second);
  EXPECT_EQ(*again.forget("k"), true);
  EXPECT_EQ(*again.forget("k"), false);
  EXPECT_EQ(again.get("k")->has_value(), false);
  EXPECT_EQ(number("SELECT count(*) FROM footprint_bytes WHERE key = 'k'"), 0);
  EXPECT_EQ((**again.get("other")).bytes, first);
}

TEST_F(Store, KindsAreKept) {
  open();
  ASSERT_TRUE(Kinds(*database_).put("f", ModelKind::kEmbedding));
  ASSERT_TRUE(Kinds(*database_).put("g", ModelKind::kGeneration));
  ASSERT_TRUE(Kinds(*database_).put("g", ModelKind::kRerank));
  open();
  Kinds again(*database_);
  EXPECT_EQ(*again.get("f"), ModelKind::kEmbedding);
  EXPECT_EQ(*again.get("g"), ModelKind::kRerank) << "the last look counts";
  EXPECT_EQ(*again.get("h"), std::nullopt);
  run("UPDATE kinds SET kind = 'of a later version'");
  EXPECT_EQ(*again.get("f"), std::nullopt);
}

TEST_F(Store, DeathsAreTallied) {
  open();
  DeathTally tally(*database_, 3);
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(tally.record(
        {.artifact = "a", .at_ms = i, .cause = "crashed", .how = "signal " + std::to_string(i)}));
  }
  const Death other{.artifact = "b", .at_ms = 9, .cause = "load_failed", .how = "insufficient_memory: 5 GB"};
  ASSERT_TRUE(tally.record(other));
  auto of_a = tally.of("a");
  ASSERT_THAT(*of_a, SizeIs(3));
  EXPECT_EQ(of_a->front().how, "signal 5");
  EXPECT_EQ(of_a->back().how, "signal 3");
  EXPECT_THAT(*tally.of("b"), ElementsAre(other));
  EXPECT_THAT(*tally.of("c"), IsEmpty());
  EXPECT_THAT(*tally.since(5), SizeIs(2));
  EXPECT_THAT(*tally.since(0, 1), ElementsAre(other));
  EXPECT_EQ(*tally.forget("a"), 3);
  EXPECT_THAT(*tally.since(0), ElementsAre(other));
}

TEST_F(Store, DecisionsAreFoundByModelAndTimeInPages) {
  open();
  Decisions decisions(*database_);
  for (int i = 1; i <= 10; ++i)
    ASSERT_EQ(*decisions.append(decision(std::int64_t{100} * i, i % 2 == 0 ? "even" : "odd")), i);
  auto all = decisions.find({.model = {}, .since_ms = {}, .before_id = {}, .most = 3});
  ASSERT_THAT(*all, SizeIs(3));
  DecisionRecord newest = decision(1000, "even");
  newest.id = 10;
  EXPECT_EQ(all->front(), newest);
  auto next = decisions.find({.model = {}, .since_ms = {}, .before_id = all->back().id, .most = 3});
  EXPECT_EQ(next->front().id, 7);
  auto even = decisions.find({.model = "even", .since_ms = 400, .before_id = {}});
  ASSERT_THAT(*even, SizeIs(4));
  EXPECT_EQ(even->back().id, 4);
  EXPECT_THAT(*decisions.find({.model = "nobody", .since_ms = {}, .before_id = {}}), IsEmpty());
}

TEST_F(Store, TextsComeBackAsTheyWere) {
  open();
  Decisions decisions(*database_);
  DecisionRecord odd = decision(1, "名前'; DROP TABLE decisions; --");
  odd.why = "";
  odd.fields = std::string("zero\0inside", 11);
  odd.id = *decisions.append(odd);
  EXPECT_THAT(*decisions.find({}), ElementsAre(odd));
}

TEST_F(Store, DecisionsAreBounded) {
  open();
  Decisions decisions(*database_, 100, 16);
  for (int i = 1; i <= 1000; ++i) {
    ASSERT_TRUE(decisions.append(decision(i, "m")));
    if (i % 97 == 0) ASSERT_LE(number("SELECT count(*) FROM decisions"), 116);
  }
  const auto count = number("SELECT count(*) FROM decisions");
  EXPECT_GE(count, 100);
  EXPECT_LT(count, 116);
  EXPECT_EQ(number("SELECT max(id) FROM decisions"), 1000);
  EXPECT_EQ(number("SELECT min(id) FROM decisions"), 1000 - count + 1);
}

TEST_F(Store, HoldsAndPinsSurviveARestart) {
  open();
  {
    Desired desired(*database_);
    const Wish wish{.model = ModelId("b"), .who = "discord:42", .since_ms = 7};
    EXPECT_TRUE(*desired.hold(wish));
    EXPECT_FALSE(*desired.hold({.model = ModelId("b"), .who = "somebody else", .since_ms = 8}));
    EXPECT_TRUE(*desired.hold({.model = ModelId("a"), .who = "command line", .since_ms = 9}));
    EXPECT_TRUE(*desired.pin({.model = ModelId("p"), .who = "command line", .since_ms = 10}));
  }
  open();
  Desired desired(*database_);
  const auto holds = *desired.holds();
  ASSERT_THAT(holds, SizeIs(2));
  EXPECT_EQ(holds[0].model, ModelId("a"));
  EXPECT_EQ(holds[1], (Wish{.model = ModelId("b"), .who = "discord:42", .since_ms = 7}))
      << "the first who asked";
  EXPECT_THAT(*desired.pins(), SizeIs(1));
  EXPECT_TRUE(*desired.end_hold(ModelId("b")));
  EXPECT_FALSE(*desired.end_hold(ModelId("b")));
  EXPECT_TRUE(*desired.unpin(ModelId("p")));
  EXPECT_THAT(*desired.holds(), SizeIs(1));
  EXPECT_THAT(*desired.pins(), IsEmpty());
}

TEST_F(Store, SwitchReportsAreBounded) {
  open();
  Switches switches(*database_, 10);
  for (int i = 1; i <= 25; ++i) {
    ASSERT_TRUE(switches.put({.id = i, .at_ms = 0, .kind = "switch", .report = "{}"}));
    ASSERT_TRUE(
        switches.put({.id = i, .at_ms = i, .kind = "switch", .report = "{\"n\":" + std::to_string(i) + "}"}));
  }
  const auto newest = *switches.newest(100);
  ASSERT_THAT(newest, SizeIs(10));
  EXPECT_EQ(newest.front(), (SwitchRecord{.id = 25, .at_ms = 25, .kind = "switch", .report = "{\"n\":25}"}));
  EXPECT_EQ(newest.back().at_ms, 16);
  EXPECT_THAT(*switches.newest(3), SizeIs(3));
}

}  // namespace
}  // namespace lm::store
