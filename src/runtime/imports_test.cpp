// The importer played by a shell script: "$1" is the folder, "$2" the file.
#include "runtime/imports.h"

#include <fstream>

#include <boost/asio/io_context.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "os/testing/run.h"

namespace lm::runtime {
namespace {

namespace fs = std::filesystem;
using os::testing::run_until;
using testing::ElementsAre;
using testing::HasSubstr;

class ImportsTest : public testing::Test {
 protected:
  void importer(const std::string& script) {
    const auto program = folder.path() / "importer";
    std::ofstream(program) << "#!/bin/sh\n" << script << "\n";
    fs::permissions(program, fs::perms::owner_all);
    imports.emplace(Imports::Seams{
        .executor = io.get_executor(),
        .program = program,
        .began = [this](const Import& import) { told.push_back("began " + import.model.str()); },
        .progressed = [this](const Import&, double fraction) { fractions.push_back(fraction); },
        .ended =
            [this](const Import& import, Result<std::vector<std::string>> outcome) {
              told.push_back("ended " + import.model.str());
              outcomes.push_back(std::move(outcome));
              if (on_end) on_end();
            }});
  }
  Import import(const std::string& name, std::string quantize = {}) {
    return {.model = ModelId(name),
            .folder = folder.path() / name,
            .file = folder.path() / "imported" / (name + ".gguf"),
            .quantize = std::move(quantize)};
  }
  bool ended(std::size_t count) {
    return run_until(io, [&] { return outcomes.size() >= count; });
  }

  boost::asio::io_context io;
  os::testing::TemporaryFolder folder;
  std::optional<Imports> imports;
  std::vector<std::string> told;
  std::vector<double> fractions;
  std::vector<Result<std::vector<std::string>>> outcomes;
  std::function<void()> on_end;
};

TEST_F(ImportsTest, OneAfterTheOtherWithWhatTheImporterSays) {
  importer(R"(echo '{"kind":"progress","done":1,"total":4}'
echo '{"kind":"written","architecture":"bert","quantization":"Q8_0","size":4,"notices":["mind: '"$3 $4"'"]}'
echo 'nonsense'
: > "$2")");
  imports->want({import("a", "4bit"), import("b"), import("a", "4bit")});
  ASSERT_TRUE(ended(2));
  EXPECT_THAT(told, ElementsAre("began a", "ended a", "began b", "ended b"));
  EXPECT_THAT(fractions, ElementsAre(0.25, 0.25));
  EXPECT_THAT(outcomes[0].value(), ElementsAre("mind: --quantize 4bit"));
  EXPECT_THAT(outcomes[1].value(), ElementsAre("mind:  "));
  EXPECT_TRUE(fs::exists(import("a").file));
}

TEST_F(ImportsTest, AFailureIsRememberedUntilItIsForgotten) {
  importer(
      R"(echo '{"kind":"failed","code":"unimplemented","reason":"unsupported_model","message":"no"}'; exit 1)");
  // Whoever is told looks again, and wants it still.
  on_end = [this] { imports->want({import("a")}); };
  imports->want({import("a")});
  ASSERT_TRUE(ended(1));
  io.poll();
  EXPECT_EQ(outcomes.size(), 1u);
  ASSERT_NE(imports->failure(import("a").file), nullptr);
  EXPECT_EQ(imports->failure(import("a").file)->reason, "unsupported_model");
  imports->forget_failures();
  imports->want({import("a")});
  EXPECT_TRUE(ended(2));
}

TEST_F(ImportsTest, AnImporterThatSaysNothingIsToldOfByItsEnd) {
  importer("kill -SEGV $$");
  imports->want({import("a")});
  ASSERT_TRUE(ended(1));
  EXPECT_THAT(outcomes[0].error().message, HasSubstr("SIGSEGV"));
  // Its word does not count where its exit status says otherwise, nor where there is no file.
  importer(R"(echo '{"kind":"imported"}'; exit 3)");
  imports->want({import("a")});
  ASSERT_TRUE(ended(2));
  EXPECT_THAT(outcomes[1].error().message, HasSubstr("code 3"));
  importer(R"(echo '{"kind":"imported"}')");
  imports->want({import("a")});
  ASSERT_TRUE(ended(3));
  EXPECT_THAT(outcomes[2].error().message, HasSubstr("no file"));
}

TEST_F(ImportsTest, AProgramThatIsNotThereIsAFailure) {
  importer("");
  fs::remove(folder.path() / "importer");
  imports->want({import("a")});
  ASSERT_TRUE(ended(1));
  EXPECT_THAT(outcomes[0].error().message, HasSubstr("importer"));
}

TEST_F(ImportsTest, OneThatIsNotWantedAnyMoreIsEndedAndTheNextBegins) {
  importer(
      R"(case "$2" in *a.gguf) echo '{"kind":"progress","done":1,"total":2}'; exec sleep 1000;; esac; : > "$2")");
  imports->want({import("a")});
  ASSERT_TRUE(run_until(io, [&] { return !fractions.empty(); }));
  imports->want({import("b")});
  ASSERT_TRUE(ended(2));
  EXPECT_EQ(outcomes[0].error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(outcomes[1]);
  EXPECT_EQ(imports->failure(import("a").file), nullptr);
}

TEST_F(ImportsTest, StopEndsWhatIsUnderWay) {
  importer(R"(echo '{"kind":"progress","done":1,"total":2}'; exec sleep 1000)");
  imports->want({import("a"), import("b")});
  ASSERT_TRUE(run_until(io, [&] { return !fractions.empty(); }));
  imports->stop();
  io.restart();
  io.poll();
  EXPECT_THAT(told, ElementsAre("began a"));
}

}  // namespace
}  // namespace lm::runtime
