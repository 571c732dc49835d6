#include "cli/pull_text.h"

#include <gtest/gtest.h>

#include "cli/arguments.h"
#include "cli/display_width.h"
#include "cli/json_view.h"

namespace lm::cli {
namespace {

boost::json::value pull(std::string_view more) {
  return parse_json(std::string(R"({"id": 3, "source": "hf:owner/tiny@main", "done": 2576980378,
    "total": 5046586573, )") +
                    std::string(more) + "}")
      .value();
}

TEST(PullText, TheLineFits) {
  const auto loading =
      pull(R"("state": "running", "stage": "downloading", "bytes_per_s": 36909875.2, "left_s": 64.5)");
  EXPECT_EQ(pull_line(loading, 90),
            "hf:owner/tiny@main  █████████▋·········   51 %  2.40 of 4.70 GB  35.2 MB/s  1 min 5 s left");
  for (int columns = 1; columns < 120; ++columns)
    EXPECT_LE(display_width(pull_line(loading, columns)), columns) << columns;
  const auto checking = pull(R"("state": "running", "stage": "verifying", "bytes_per_s": 1e9)");
  EXPECT_NE(pull_line(checking, 100).find("checking the hash"), std::string::npos);
  EXPECT_EQ(pull_line(pull(R"("state": "waiting", "stage": "")"), 80),
            "hf:owner/tiny@main  waiting for other pulls");
}

TEST(PullText, TheEndSaysWhatToDo) {
  EXPECT_EQ(pull_end_text(pull(R"("state": "done", "models": ["tiny"], "files": ["/x/tiny.gguf"])")),
            "hf:owner/tiny@main is here: 4.70 GB\n  llm-manager chat tiny\n");
  EXPECT_NE(pull_end_text(pull(R"("state": "paused")")).find("llm-manager pulls resume 3"),
            std::string::npos);
  EXPECT_NE(pull_end_text(pull(R"("state": "failed", "error": {"message": "no \u001b[31mroom"})"))
                .find("no �[31mroom"),
            std::string::npos);
  const std::string checkpoint =
      pull_end_text(pull(R"("state": "done", "models": [], "files": ["/x/config.json"])"));
  EXPECT_NE(checkpoint.find("/x/config.json"), std::string::npos);
  EXPECT_NE(checkpoint.find("imported"), std::string::npos);
}

TEST(PullArguments, AreUnderstood) {
  const auto parsed = parse_arguments({"pull", "hf:a/b", "--detach"});
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(std::get<PullOptions>(parsed->command).detach);
  EXPECT_EQ(std::get<PullsOptions>(parse_arguments({"pulls"})->command).change, "");
  const auto pause = parse_arguments({"pulls", "pause", "3"});
  ASSERT_TRUE(pause);
  EXPECT_EQ(std::get<PullsOptions>(pause->command).change, "pause");
  EXPECT_EQ(std::get<PullsOptions>(pause->command).id, 3U);
  for (const std::vector<std::string>& wrong : {std::vector<std::string>{"pull"},
                                                {"pulls", "pause"},
                                                {"pulls", "stop", "3"},
                                                {"pulls", "pause", "x"},
                                                {"rm"}})
    EXPECT_FALSE(parse_arguments(wrong)) << wrong.back();
}

}  // namespace
}  // namespace lm::cli
