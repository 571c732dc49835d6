// The child played by a shell script: "$1" is the command, "$2" the folder, "$3" the key; the source comes on
// its standard input.
#include "runtime/pulls.h"

#include <fstream>
#include <optional>
#include <sstream>
#include <sys/stat.h>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using os::testing::run_until;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kSecret = "https://host.example/a/model.gguf?token=SECRET";
constexpr const char* kShown = "https://host.example/a/model.gguf?…";

class PullsTest : public ::testing::Test {
 protected:
  PullsTest() {
    fs::create_directories(models());
    child(R"(cat > "$2/asked"; echo '{"kind":"done","files":[]}')");
    begin();
  }
  ~PullsTest() override {
    if (pulls) pulls->stop();
  }

  fs::path models() const { return folder.path() / "models"; }
  fs::path unfinished(const std::string& key) const { return models() / ".pull" / key; }

  void child(const std::string& script) {
    // Another file: the one before may still be run.
    program = folder.path() / ("child" + std::to_string(++programs));
    std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(program, fs::perms::owner_all);
  }
  // Another daemon in the place of the one before, which was killed.
  void begin() {
    pulls.reset();
    records.reset();
    records = Records::open(folder.path() / "data").value();
    pulls.emplace(
        PullsSeams{.executor = io.get_executor(),
                   .clock = clock,
                   .program = program,
                   .records = *records,
                   .publish = [this](const Pull& pull) { told.push_back(pull); },
                   .arrived = [](const std::vector<std::string>&) { return std::vector<ModelId>(); }});
    pulls->begin({models()});
  }
  std::uint64_t start(const std::string& source) { return pulls->start(source, models(), "ada").value(); }
  bool becomes(std::uint64_t id, PullState state) {
    return run_until(io, [&] { return pulls->find(id) != nullptr && pulls->find(id)->state == state; });
  }
  static std::string text_of(const fs::path& path) {
    std::ostringstream text;
    text << std::ifstream(path, std::ios::binary).rdbuf();
    return text.str();
  }
  // What lies unfinished, as a child would leave it behind.
  void leave(const std::string& key, const std::string& source) {
    fs::create_directories(unfinished(key));
    if (!source.empty()) std::ofstream(unfinished(key) / "source") << source << "\n";
    std::ofstream(unfinished(key) / "0123.part") << "half";
  }

  boost::asio::io_context io;
  SteadyClock clock;
  os::testing::TemporaryFolder folder;
  fs::path program;
  int programs = 0;
  std::unique_ptr<Records> records;
  std::optional<Pulls> pulls;
  std::vector<Pull> told;
};

TEST_F(PullsTest, AQueryIsToldToTheChildAndToNobodyElse) {
  const auto id = start(kSecret);
  ASSERT_TRUE(becomes(id, PullState::kDone));
  EXPECT_EQ(text_of(models() / "asked"), std::string(kSecret) + "\n");
  EXPECT_EQ(pulls->find(id)->source, kShown);
  for (const Pull& pull : told) EXPECT_THAT(pull.source, Not(HasSubstr("SECRET")));
  pulls.reset();
  records.reset();
  for (const auto& file : fs::directory_iterator(folder.path() / "data"))
    EXPECT_THAT(text_of(file.path()), Not(HasSubstr("SECRET"))) << file.path();
}

TEST_F(PullsTest, NoArgumentOfTheChildIsTheQuery) {
  child(R"(tr '\0' ' ' < /proc/$$/cmdline > "$2/arguments"; tr '\0' ' ' < /proc/$$/environ >> "$2/arguments"
cat > /dev/null; echo '{"kind":"done","files":[]}')");
  begin();
  ASSERT_TRUE(becomes(start(kSecret), PullState::kDone));
  EXPECT_THAT(text_of(models() / "arguments"), HasSubstr("__pull"));
  EXPECT_THAT(text_of(models() / "arguments"), Not(HasSubstr("SECRET")));
}

TEST_F(PullsTest, AfterARestartAPullWithAQueryWaitsForItsAddress) {
  child("cat > /dev/null; exec sleep 1000");
  begin();
  const auto id = start(kSecret);
  const auto other = start("hf:owner/repo");
  ASSERT_TRUE(becomes(id, PullState::kRunning) && becomes(other, PullState::kRunning));
  child(R"(cat > "$2/asked"; echo '{"kind":"done","files":[]}')");
  begin();
  // The one that needs nothing of anybody goes on by itself.
  EXPECT_TRUE(becomes(other, PullState::kDone));
  ASSERT_EQ(pulls->find(id)->state, PullState::kPaused);
  EXPECT_THAT(pulls->find(id)->note, HasSubstr("whole address"));
  EXPECT_EQ(pulls->resume(id).error().reason, "address_needed");
  // Another signature for the same file.
  EXPECT_EQ(start("https://host.example/a/model.gguf?token=OTHER"), id);
  EXPECT_TRUE(becomes(id, PullState::kDone));
  EXPECT_EQ(text_of(models() / "asked"), "https://host.example/a/model.gguf?token=OTHER\n");
}

TEST_F(PullsTest, WhatNoRecordKnowsIsListedAndGoesOn) {
  child("cat > /dev/null; exec sleep 1000");
  begin();
  const auto lost = start("hf:owner/repo");
  ASSERT_TRUE(becomes(lost, PullState::kRunning));
  const std::string key = [&] {
    for (const store::PullRecord& record : records->pulls()) return record.key;
    return std::string();
  }();
  leave(key, "hf:owner/repo@main");
  // A daemon whose records are lost.
  pulls.reset();
  records.reset();
  fs::remove_all(folder.path() / "data");
  child(R"(cat > "$2/asked"; echo '{"kind":"done","files":[]}')");
  begin();
  ASSERT_EQ(pulls->all().size(), 1u);
  const Pull found = pulls->all().front();
  EXPECT_EQ(found.source, "hf:owner/repo@main");
  EXPECT_EQ(found.state, PullState::kPaused);
  EXPECT_TRUE(fs::exists(unfinished(key) / "0123.part"));
  // Once, however often a daemon begins.
  begin();
  ASSERT_EQ(pulls->all().size(), 1u);
  ASSERT_TRUE(pulls->resume(found.id));
  EXPECT_TRUE(becomes(found.id, PullState::kDone));
  EXPECT_EQ(text_of(models() / "asked"), "hf:owner/repo@main\n");
}

TEST_F(PullsTest, WhatWasToBeRemovedIsAfterARestart) {
  child(R"(case "$1" in __discard-pull) rm -r "$2/.pull/$3";; *) cat > /dev/null; exec sleep 1000;; esac)");
  begin();
  const auto id = start("hf:owner/repo");
  ASSERT_TRUE(becomes(id, PullState::kRunning));
  const std::string key = records->pulls().front().key;
  leave(key, "hf:owner/repo@main");
  leave("removed.1", "");
  leave("ffff", "");
  leave("eeee", "");
  fs::last_write_time(unfinished("eeee"), fs::file_time_type::clock::now() - std::chrono::days(8));
  ASSERT_TRUE(pulls->cancel(id));
  begin();  // before anything of it was removed
  EXPECT_TRUE(run_until(io, [&] {
    return !fs::exists(unfinished(key)) && !fs::exists(unfinished("removed.1")) &&
           !fs::exists(unfinished("eeee"));
  }));
  EXPECT_TRUE(fs::exists(unfinished("ffff"))) << "nobody knows what it is, and it is new";
}

TEST_F(PullsTest, ASecondRemovalIsNotLostWhileTheFirstStillEmpties) {
  // Each ends only once it is told to, so that both are under way together.
  child(R"(while [ ! -e "$2/go" ]; do sleep 0.01; done; rm -r "$2/.pull/$3")");
  begin();
  std::vector<Aside> asides;
  for (int i = 0; i < 2; ++i) {
    asides.push_back(make_aside(models()).value());
    std::ofstream(models() / "model.gguf") << "x";
    ASSERT_TRUE(move_aside(asides.back(), models() / "model.gguf"));
    pulls->discard(asides.back());
  }
  // What was put there after its child had begun is removed too.
  pulls->discard(asides.back());
  std::ofstream(models() / "go").close();
  const auto gone = [&] {
    return !fs::exists(unfinished("removed.1")) && !fs::exists(unfinished("removed.2"));
  };
  EXPECT_TRUE(run_until(io, gone));
}

TEST_F(PullsTest, WhatIsPutInTheFolderOfOneThatIsJustDoneIsRemovedToo) {
  const fs::path said = folder.path() / "said";
  ASSERT_EQ(::mkfifo(said.c_str(), 0600), 0);
  child("rm -r \"$2/.pull/$3\"; echo > " + said.string());
  begin();
  const Aside first = make_aside(models()).value();
  pulls->discard(first);
  // Its child has removed it, and nobody here has noticed yet.
  EXPECT_EQ(text_of(said), "\n");
  const Aside second = make_aside(models()).value();
  ASSERT_EQ(first, second);
  pulls->discard(second);
  EXPECT_TRUE(run_until(io, [&] { return !fs::exists(unfinished(second.key)); }));
}

}  // namespace
}  // namespace lm::runtime
