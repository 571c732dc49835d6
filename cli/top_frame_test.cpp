#include "cli/top_frame.h"

#include <algorithm>

#include <boost/json/array.hpp>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/display_width.h"
#include "cli/json_view.h"

namespace lm::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::string_view kAddress = "http://127.0.0.1:11435";

TopAnswers answers() {
  return {.health = *parse_json(
              R"({"version":"0.1.0","uptime_s":11520,"waiting":2,"oldest_waiting_s":2.5,"troubles":[]})"),
          .devices = *parse_json(R"({"devices":[
        {"id":"host","capacity":17179869184,"free":8589934592,"used":2147483648,"external":4294967296},
        {"id":"cuda0","capacity":25769803776,"free":257698037,"used":21474836480,"external":0,"utilization":97,
         "celsius":71,"watts":318.4},
        {"id":"rpc0","capacity":1073741824,"free":null,"used":0,"external":0}]})"),
          .models = *parse_json(R"({"models":[
        {"id":"tiny","state":"ready","instance":{"id":1,"slots":4,"active":2,"waiting":0,"held_bytes":{"cuda0":371000000}}},
        {"id":"big","state":"loading","progress":{"stage":"weights","fraction":0.52},"instance":{"id":2,"waiting":2}},
        {"id":"idle","state":"unloaded"}]})"),
          .decisions = *parse_json(R"({"decisions":[
        {"at_ms":1700000001000,"kind":"load","model":"big","why":"2 requests wait"},
        {"at_ms":1700000000000,"kind":"evict","model":"old","why":"big needs room"}]})")};
}

class TopFrame : public ::testing::Test {
 protected:
  std::string frame(const TopAnswers& of, int rows = 100, int columns = 120) {
    std::string ignored;
    Stream stream = text_stream(ignored);
    stream.columns = [columns] { return columns; };
    return top_frame(of, std::string(kAddress), 1'700'000'002'000, stream, rows);
  }
};

TEST_F(TopFrame, TellsWhoWaitsDevicesModelsAndDecisions) {
  const std::string text = frame(answers());
  EXPECT_THAT(text, StartsWith("llm-manager 0.1.0  2 requests wait, the oldest for 2.50 s  "
                               "http://127.0.0.1:11435, up 3 h 12 min\n"));
  EXPECT_THAT(text, HasSubstr("host"));
  EXPECT_THAT(text, HasSubstr("97 %"));
  EXPECT_THAT(text, HasSubstr("71 °C"));
  EXPECT_THAT(text, HasSubstr("318 W"));
  EXPECT_THAT(text, HasSubstr("loading weights 52 %"));
  EXPECT_THAT(text, Not(HasSubstr("idle ")));
  EXPECT_LT(text.find("2 requests wait\n"), text.find("big needs room\n"));
}

TEST_F(TopFrame, ADeviceThatIsNotMeasuredHasNoBar) {
  const std::string text = frame(answers());
  const std::size_t at = text.find("rpc0");
  const std::string line = text.substr(at, text.find('\n', at) - at);
  EXPECT_THAT(line, Not(HasSubstr("·")));
  EXPECT_THAT(line, HasSubstr("1.00 GB"));
}

TEST_F(TopFrame, NobodyWaits) {
  TopAnswers calm = answers();
  calm.health = *parse_json(R"({"version":"0.1.0","uptime_s":1,"waiting":0,"oldest_waiting_s":null})");
  EXPECT_THAT(frame(calm), HasSubstr("  nobody waits  http"));
}

TEST_F(TopFrame, TroublesStandAtTheTop) {
  TopAnswers troubled = answers();
  troubled.health.as_object()["troubles"] = boost::json::array{"ollama keeps 5.1 GB"};
  const std::string text = frame(troubled);
  EXPECT_LT(text.find("ollama keeps"), text.find("DEVICE"));
}

TEST_F(TopFrame, FitsTheScreen) {
  for (const int rows : {1, 2, 5, 9, 12, 13, 14, 40}) {
    for (const int columns : {20, 40, 60, 80, 200}) {
      const std::string text = frame(answers(), rows, columns);
      EXPECT_LE(std::ranges::count(text, '\n'), rows);
      std::string_view left = text;
      while (!left.empty()) {
        const std::size_t end = left.find('\n');
        EXPECT_LE(display_width(left.substr(0, end)), columns) << rows << " rows: " << left.substr(0, end);
        left.remove_prefix(end + 1);
      }
    }
  }
}

TEST_F(TopFrame, TheOldestDecisionsAreLeftOutFirst) {
  const std::string whole = frame(answers());
  const auto rows = static_cast<int>(std::ranges::count(whole, '\n'));
  EXPECT_THAT(frame(answers(), rows - 1), HasSubstr("2 requests wait\n"));
  EXPECT_THAT(frame(answers(), rows - 1), Not(HasSubstr("big needs room")));
  EXPECT_THAT(frame(answers(), rows - 2), Not(HasSubstr("load  big")));
}

TEST_F(TopFrame, AnswersWithoutAnythingAreNoTrouble) {
  EXPECT_THAT(frame({}), StartsWith("llm-manager   nobody waits  http://127.0.0.1:11435\n"));
}

}  // namespace
}  // namespace lm::cli
