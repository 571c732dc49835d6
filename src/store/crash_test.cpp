// A writer that is killed at any moment: the file opens again, and what the writer was told is written, is
// there.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <random>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "store/database.h"
#include "store/decisions.h"
#include "store/desired.h"
#include "store/footprints.h"

namespace lm::store {
namespace {

namespace fs = std::filesystem;

std::string why_of(std::int64_t id) {
  return "number " + std::to_string(id) + std::string(static_cast<std::size_t>(id % 500), 'y');
}

// Writes until it is killed, and tells each finished write. Exits only when something is wrong.
[[noreturn]] void write_for_ever(const fs::path& folder, int acknowledge) {
  auto opened = Database::open(folder);
  if (!opened || !opened->warnings.empty()) ::_exit(3);
  Database& database = *opened->database;
  // Small, so that trimming is hit as well.
  Decisions decisions(database, 2000, 16);
  Footprints footprints(database);
  Desired desired(database);
  auto newest = decisions.find({.model = {}, .since_ms = {}, .before_id = {}, .most = 1});
  if (!newest) ::_exit(4);
  std::int64_t next = newest->empty() ? 1 : newest->front().id + 1;
  while (true) {
    auto id = decisions.append({.id = 0,
                                .at_ms = next,
                                .kind = "load",
                                .model = "m",
                                .why = why_of(next),
                                .fields = std::to_string(next)});
    if (!id || *id != next) ::_exit(5);
    // Two devices in one transaction: never one of them.
    const DeviceBytes bytes = {{DeviceId("cuda0"), Bytes(next)}, {DeviceId("cuda1"), Bytes(next)}};
    if (!footprints.put("k" + std::to_string(next % 7), bytes, Bytes(next), std::nullopt, next)) ::_exit(6);
    const auto model = ModelId("m" + std::to_string(next));
    if (!desired.hold({.model = model, .who = "w", .since_ms = next})) ::_exit(7);
    if (!desired.end_hold(ModelId("m" + std::to_string(next - 5)))) ::_exit(8);
    if (::write(acknowledge, &next, sizeof next) != static_cast<ssize_t>(sizeof next)) ::_exit(9);
    ++next;
  }
}

// The last write that was told before the end of the pipe; `enough` writes on it sends SIGKILL and reads on.
std::int64_t read_until_dead(int pipe, pid_t writer, int enough, int linger) {
  std::int64_t last = 0;
  int seen = 0;
  bool killed = false;
  const auto kill_now = [&] {
    for (volatile int i = 0; i < linger; i = i + 1) {
    }
    ::kill(writer, SIGKILL);
    killed = true;
  };
  if (enough == 0) kill_now();
  std::int64_t number = 0;
  while (::read(pipe, &number, sizeof number) == static_cast<ssize_t>(sizeof number)) {
    last = number;
    if (++seen >= enough && !killed) kill_now();
  }
  return last;
}

TEST(Crash, EveryAcknowledgedRowSurvivesFiftyKills) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  const auto pick = [&random](int most) { return std::uniform_int_distribution<int>(0, most)(random); };
  std::string pattern = (fs::temp_directory_path() / "lm-crash-XXXXXX").string();
  const fs::path root = ::mkdtemp(pattern.data());

  std::int64_t total = 0;
  for (int round = 0; round < 50; ++round) {
    // A fresh file now and then: killed while it is made.
    const fs::path folder = root / std::to_string(round / 10);
    std::int64_t before = 0;
    if (fs::exists(folder / "state.db")) {
      auto opened = Database::open(folder);
      ASSERT_TRUE(opened) << opened.error().message;
      const auto newest =
          Decisions(*opened->database).find({.model = {}, .since_ms = {}, .before_id = {}, .most = 1});
      ASSERT_TRUE(newest);
      before = newest->empty() ? 0 : newest->front().id;
    }
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t writer = ::fork();
    ASSERT_GE(writer, 0);
    if (writer == 0) {
      ::close(ends[0]);
      write_for_ever(folder, ends[1]);
    }
    ::close(ends[1]);
    const int enough = round % 10 == 0 ? pick(1) : pick(150);
    const std::int64_t told = std::max(before, read_until_dead(ends[0], writer, enough, pick(2'000'000)));
    ::close(ends[0]);
    int status = 0;
    ASSERT_EQ(::waitpid(writer, &status, 0), writer);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the writer ended by itself: " << WEXITSTATUS(status);

    auto opened = Database::open(folder);
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_TRUE(opened->warnings.empty()) << opened->warnings[0];
    Database& database = *opened->database;
    const auto rows = Decisions(database).find({.model = {}, .since_ms = {}, .before_id = {}, .most = 2000});
    ASSERT_TRUE(rows) << rows.error().message;
    const std::int64_t newest = rows->empty() ? 0 : rows->front().id;
    ASSERT_GE(newest, told) << "acknowledged and lost";
    ASSERT_LE(newest, told + 1) << "at most the one that was being told";
    ASSERT_GE(rows->size(), static_cast<std::size_t>(std::min<std::int64_t>(newest, 2000)));
    std::int64_t expected = newest;
    for (const DecisionRecord& row : *rows) {
      ASSERT_EQ(row.id, expected);
      ASSERT_EQ(row.why, why_of(row.id));
      --expected;
    }
    for (int key = 0; key < 7; ++key) {
      const auto footprint = Footprints(database).get("k" + std::to_string(key));
      ASSERT_TRUE(footprint);
      if (!*footprint) continue;
      const Bytes amount = (*footprint)->reclaimable;
      ASSERT_EQ((*footprint)->bytes.on(DeviceId("cuda0")), amount) << "half a transaction";
      ASSERT_EQ((*footprint)->bytes.on(DeviceId("cuda1")), amount) << "half a transaction";
    }
    if (told > before) {
      const auto holds = Desired(database).holds();
      ASSERT_TRUE(holds);
      const ModelId last("m" + std::to_string(told));
      ASSERT_TRUE(std::ranges::any_of(*holds, [&](const Wish& wish) { return wish.model == last; }));
    }
    auto check = database.prepare("PRAGMA integrity_check");
    ASSERT_TRUE(check && check->step().value_or(false));
    ASSERT_EQ(check->text(0), "ok");
    total += newest - before;
  }
  RecordProperty("rows", static_cast<int>(total));
  EXPECT_GT(total, 50);
  fs::remove_all(root);
}

}  // namespace
}  // namespace lm::store
