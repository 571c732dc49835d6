// What is shown to people, on fixed values: widths, tables, bars, reports.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cli/display_width.h"
#include "cli/event_text.h"
#include "cli/json_view.h"
#include "cli/model_tables.h"
#include "cli/plan_text.h"
#include "cli/progress.h"
#include "cli/release_report.h"
#include "cli/span_text.h"
#include "cli/table.h"

namespace lm::cli {
namespace {

// A stream of so many columns; nothing is written to it.
Stream screen(int columns, bool colours = false) {
  Stream stream;
  stream.write = [](std::string_view) {};
  stream.columns = [columns] { return columns; };
  stream.has_colours = colours;
  return stream;
}

boost::json::value json(std::string_view text) {
  auto value = parse_json(text);
  EXPECT_TRUE(value.has_value()) << text;
  return value.value_or(nullptr);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(text.substr(begin, end - begin));
  }
  return lines;
}

TEST(DisplayWidth, ChineseIsTwoColumnsMarksNoneAndColoursNothing) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("模型"), 4);
  EXPECT_EQ(display_width("한국어"), 6);
  EXPECT_EQ(display_width("ｆｕｌｌ"), 8);
  EXPECT_EQ(display_width("e\xCC\x81"), 1);  // e and a combining acute
  EXPECT_EQ(display_width("🦙"), 2);
  EXPECT_EQ(display_width("\x1b[31mred\x1b[0m"), 3);
  EXPECT_EQ(display_width("█▌·…–⏎"), 6);
  EXPECT_EQ(display_width("\xFF\xC3"), 2);  // no UTF-8: a column a byte
}

TEST(DisplayWidth, FitCutsAtCharactersAndNeverOverflows) {
  EXPECT_EQ(fit("tinyllama", 9), "tinyllama");
  EXPECT_EQ(fit("tinyllama", 5), "tiny…");
  EXPECT_EQ(fit("语言模型", 8), "语言模型");
  EXPECT_EQ(fit("语言模型", 7), "语言模…");
  EXPECT_EQ(fit("语言模型", 6), "语言…");  // half a character is none
  EXPECT_EQ(fit("语言模型", 1), "…");
  EXPECT_EQ(fit("x", 0), "");
  EXPECT_EQ(fit("\x1b[31mabcdef\x1b[0m", 4), "\x1b[31mabc…\x1b[0m");
  for (int columns = 0; columns < 20; ++columns)
    EXPECT_LE(display_width(fit("a语b言c模d型e🦙f", columns)), columns);
}

TEST(DisplayWidth, PadCountsColumns) {
  EXPECT_EQ(pad_right("模", 4), "模  ");
  EXPECT_EQ(pad_left("模", 4), "  模");
  EXPECT_EQ(pad_right("模型", 3), "模型");
}

TEST(DisplayWidth, NothingFromOutsideSteersTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb"), "a\xEF\xBF\xBD[2Jb");
  EXPECT_EQ(printable("a\rb\bc"),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD"
            "c");
  EXPECT_EQ(printable("a\nb\tc 模 é"), "a\nb\tc 模 é");
  EXPECT_EQ(printable("\xC2\x9B"
                      "31m"),
            "\xEF\xBF\xBD"
            "31m");  // CSI as one C1 character
  EXPECT_EQ(printable("\xFF"), "\xEF\xBF\xBD");
}

TEST(Table, ColumnsAlignAlsoWithWideCharacters) {
  Table table({{.title = "NAME"}, {.title = "SIZE", .right = true}, {.title = "STATE"}});
  table.add({{"通义千问"}, {"1.2 GB"}, {"ready"}});
  table.add({{"tiny"}, {"307.6 MB"}, {"unloaded"}});
  EXPECT_EQ(table.text(screen(80)),
            "NAME          SIZE  STATE\n"
            "通义千问    1.2 GB  ready\n"
            "tiny      307.6 MB  unloaded\n");
}

TEST(Table, ANarrowTerminalCutsNamesThenLeavesColumnsOut) {
  Table table({{.title = "NAME", .shrinks = true}, {.title = "KIND", .give_up = 2}, {.title = "STATE"}});
  table.add({{"a-very-long-name-of-a-model"}, {"generation"}, {"ready"}});
  EXPECT_EQ(table.text(screen(30)),
            "NAME         KIND        STATE\n"
            "a-very-lon…  generation  ready\n");
  EXPECT_EQ(table.text(screen(20)),
            "NAME      STATE\n"
            "a-very-…  ready\n");
  for (int columns = 1; columns < 60; ++columns) {
    for (const std::string& line : lines_of(table.text(screen(columns, true))))
      EXPECT_LE(display_width(line), columns) << line;
  }
}

TEST(Table, AnEmptyFirstCellKeepsItsPlace) {
  Table table({{.title = "A"}, {.title = "B"}});
  table.add({{""}, {"x"}});
  EXPECT_EQ(table.text(screen(80)), "A  B\n   x\n");
}

TEST(Table, ColoursOnlyWhereTheStreamHasThem) {
  Table table({{.title = "A"}});
  table.add({{.text = "x", .colour = Colour::kGreen}});
  EXPECT_EQ(table.text(screen(80)), "A\nx\n");
  EXPECT_EQ(table.text(screen(80, true)), "\x1b[1mA\x1b[0m\n\x1b[32mx\x1b[0m\n");
}

TEST(Bar, IsExactlyAsWideAsAsked) {
  EXPECT_EQ(bar(0.0, 4), "····");
  EXPECT_EQ(bar(0.5, 4), "██··");
  EXPECT_EQ(bar(0.625, 4), "██▌·");
  EXPECT_EQ(bar(1.0, 4), "████");
  EXPECT_EQ(bar(7.0, 4), "████");
  EXPECT_EQ(bar(-1.0, 4), "····");
  EXPECT_EQ(bar(std::numeric_limits<double>::quiet_NaN(), 4), "····");
  EXPECT_EQ(bar(0.5, 0), "");
  for (int i = 0; i <= 100; ++i) EXPECT_EQ(display_width(bar(i / 100.0, 17)), 17);
}

TEST(ProgressLine, ShowsStageBarPercentAndSeconds) {
  const LoadProgress weights{.model = "tiny", .stage = "weights", .detail = "loading", .fraction = 0.5};
  EXPECT_EQ(progress_line(weights, 1.2, 60), "tiny  reading the weights  █████████·········   50 %  1.20 s");
  EXPECT_EQ(progress_line(weights, 1.2, 40), "tiny  reading the weights   50 %  1.20 s");
  const LoadProgress queued{.model = "tiny", .stage = "", .detail = "queued", .fraction = std::nullopt};
  EXPECT_EQ(progress_line(queued, 75, 60), "tiny  waiting for its turn  1 min 15 s");
}

TEST(ProgressLine, NeverWrapsAlsoWithChineseNames) {
  const LoadProgress weights{
      .model = "通义千问大语言模型", .stage = "weights", .detail = "", .fraction = 0.333};
  for (int columns = 1; columns < 100; ++columns)
    EXPECT_LE(display_width(progress_line(weights, 3.3, columns)), columns) << columns;
}

TEST(ProgressDisplay, WithoutATerminalOneLineAStage) {
  std::string text;
  const Stream stream = text_stream(text);
  ProgressDisplay display(stream);
  display.show({.model = "tiny", .stage = "weights", .detail = "loading", .fraction = 0.1}, 0.1);
  display.show({.model = "tiny", .stage = "weights", .detail = "loading", .fraction = 0.9}, 0.2);
  display.tick(0.3);
  display.show({.model = "tiny", .stage = "", .detail = "loading", .fraction = std::nullopt}, 0.3);
  display.show({.model = "tiny", .stage = "context", .detail = "loading", .fraction = 0.0}, 0.4);
  display.clear();
  EXPECT_EQ(text, "tiny: reading the weights\ntiny: making the context\n");
}

TEST(ProgressDisplay, OnATerminalOneLineIsRedrawnAndClearedAtTheEnd) {
  std::string text;
  Stream stream = text_stream(text);
  stream.can_redraw = true;
  stream.columns = [] { return 50; };
  {
    ProgressDisplay display(stream);
    display.tick(0.0);
    EXPECT_EQ(text, "");
    display.show({.model = "tiny", .stage = "weights", .detail = "", .fraction = 0.5}, 1.0);
    display.tick(2.0);
  }
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(text.find("2.00 s\x1b[K"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\x1b[K"));
}

TEST(SpanText, ReadsWell) {
  EXPECT_EQ(span_text(0.0), "0.00 s");
  EXPECT_EQ(span_text(0.417), "0.42 s");
  EXPECT_EQ(span_text(12.49), "12.5 s");
  EXPECT_EQ(span_text(59.99), "1 min 0 s");
  EXPECT_EQ(span_text(287), "4 min 47 s");
  EXPECT_EQ(span_text(3 * 3600 + 120), "3 h 2 min");
  EXPECT_EQ(span_text(53.0 * 3600), "2 d 5 h");
  EXPECT_EQ(span_text(-3), "0.00 s");
}

TEST(MomentText, SaysTheDayOnlyWhereItIsAnother) {
  const std::int64_t noon = 1'700'000'000'000;
  EXPECT_EQ(moment_text(noon, noon).size(), 8u);
  EXPECT_EQ(moment_text(noon, noon + 86'400'000LL * 3).size(), 19u);
}

constexpr std::string_view kRelease = R"({"changed": true, "release": {
  "devices": [{"device": "host", "before": 1288490188, "after": 0, "freed": 1288490188, "expected": 1288490188, "residual": 0}],
  "before": 1288490188, "after": 0, "freed": 1288490188, "expected": 1288490188, "residual": 0, "reclaimable": 322591712,
  "holders": [], "proved": true, "method": "process", "took_s": 0.021}})";

TEST(ReleaseReport, OneDeviceAllBack) {
  EXPECT_EQ(
      release_report(json(kRelease), "tiny", screen(80)),
      "tiny is unloaded: 1.20 GB freed in 0.02 s\n"
      "\n"
      "DEVICE   BEFORE  AFTER    FREED  EXPECTED  RESIDUAL\n"
      "host    1.20 GB    0 B  1.20 GB   1.20 GB       0 B\n"
      "\n"
      "307.6 MB of the file's pages stay in the page cache; the system gives them to whoever needs memory\n"
      "proved: measured on its own processes\n");
}

TEST(ReleaseReport, SeveralDevicesAndWhoHoldsTheRest) {
  const auto value = json(R"({"changed": true, "release": {
    "devices": [{"device": "host", "before": 1048576, "after": 0, "freed": 1048576, "expected": 1048576, "residual": 0},
                {"device": "cuda0", "before": 4194304, "after": 1048576, "freed": 3145728, "expected": 4194304, "residual": 1048576}],
    "before": 5242880, "after": 1048576, "freed": 4194304, "expected": 5242880, "residual": 1048576, "reclaimable": 0,
    "holders": [{"pid": 4711, "name": "python3\u001b[2J", "bytes": 1048576}], "proved": false, "method": "", "took_s": 5.0}})");
  const std::string text = release_report(value, "all models", screen(80));
  EXPECT_TRUE(text.starts_with("all models are unloaded: 4.0 MB freed in 5.00 s\n")) << text;
  EXPECT_NE(text.find("host    1.0 MB     0 B  1.0 MB    1.0 MB       0 B\n"), std::string::npos) << text;
  EXPECT_NE(text.find("cuda0   4.0 MB  1.0 MB  3.0 MB    4.0 MB    1.0 MB\n"), std::string::npos) << text;
  EXPECT_NE(text.find("total   5.0 MB  1.0 MB  4.0 MB    5.0 MB    1.0 MB\n"), std::string::npos) << text;
  EXPECT_NE(text.find("the rest is held by:\n  python3\xEF\xBF\xBD[2J (process 4711): 1.0 MB\n"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("not proved: "), std::string::npos) << text;
  EXPECT_EQ(text.find("page cache"), std::string::npos) << text;
}

TEST(ReleaseReport, WhatCouldNotBeMeasuredIsSaidSo) {
  const std::string text = release_report(
      json(R"({"release": {"before": 4096, "residual": 4096, "proved": false, "method": "unmeasured"}})"),
      "tiny", screen(80));
  EXPECT_NE(text.find("not proved: nothing could be measured"), std::string::npos) << text;
}

TEST(ReleaseReport, NothingToDoIsSaid) {
  EXPECT_EQ(release_report(json(R"({"changed": false, "release": null})"), "tiny", screen(80)),
            "tiny is not loaded; nothing to do\n");
  EXPECT_EQ(release_report(json(R"({"changed": false, "release": null})"), "all models", screen(80)),
            "no local model is loaded; nothing to do\n");
}

TEST(ReleaseReport, ANarrowTerminalKeepsTheNumbersThatMatter) {
  const std::string text = release_report(json(kRelease), "tiny", screen(40));
  EXPECT_NE(text.find("DEVICE   BEFORE  AFTER    FREED"), std::string::npos) << text;
}

TEST(ReleaseReport, AnAnswerOfAnyShapeIsSurvived) {
  for (const std::string_view text : {"null", "[]", "{}", R"({"release": 3})", R"({"release": {}})",
                                      R"({"release": {"devices": [1, null], "holders": [3]}})"}) {
    EXPECT_FALSE(release_report(json(text), "x", screen(80)).empty());
  }
}

constexpr std::string_view kModels = R"({"models": [
  {"id": "tiny", "kind": "generation", "state": "ready", "pinned": true, "held": null, "size": 322591712, "origin": "models.llm",
   "footprint": {"total": 1000}, "error": null,
   "instance": {"slots": 4, "active": 1, "waiting": 2, "expected_wait": {"position": 3, "wait_s": 12.0, "holder": "tiny", "held_for_s": 12.0}, "held_bytes": {"host": 104857600, "cuda0": 209715200}, "reserved": {},
                "expires_in_s": 287.0, "retry_in_s": null}},
  {"id": "大模型", "kind": "generation", "state": "loading", "pinned": false, "held": null, "size": 1073741824, "origin": "~/models",
   "footprint": {"total": 2147483648}, "progress": {"stage": "weights", "fraction": 0.42}, "error": null,
   "instance": {"slots": 0, "active": 0, "waiting": 1, "held_bytes": {}, "reserved": {"host": 2147483648}, "expires_in_s": null}},
  {"id": "kept", "kind": "embedding", "state": "unloaded", "held": {"by": "ada", "since_ms": 1700000000000}, "size": 10, "origin": "x",
   "footprint": null, "instance": null, "error": null},
  {"id": "gone", "kind": "generation", "state": "failed", "held": null, "size": 0, "origin": "llm-manager.yaml:7",
   "footprint": null, "instance": null, "error": {"message": "/x.gguf is not there"}}]})";

TEST(ModelList, OneLineAModelAndWhatIsWrongBelow) {
  EXPECT_EQ(model_list(json(kModels), screen(120)),
            "NAME    KIND            SIZE  STATE                   MEMORY  FROM\n"
            "tiny    generation  307.6 MB  ready, pinned         300.0 MB  models.llm\n"
            "大模型  generation   1.00 GB  loading weights 42 %  ~2.00 GB  ~/models\n"
            "kept    embedding       10 B  unloaded, held               –  x\n"
            "gone    generation         –  failed                       –  llm-manager.yaml:7\n"
            "\n"
            "gone: /x.gguf is not there\n");
}

TEST(ModelList, NoModelsIsAHint) {
  EXPECT_NE(model_list(json(R"({"models": []})"), screen(80)).find("--models"), std::string::npos);
}

TEST(RunningModels, WhatIsLoadedAndWhoHoldsWhat) {
  const std::string text = running_models(json(kModels), 1'700'000'060'000, screen(120));
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 7u) << text;
  EXPECT_EQ(lines[0], "NAME    STATE                 DEVICE         MEMORY  SLOTS  ACTIVE    WAITING  EXPIRES");
  EXPECT_EQ(lines[1],
            "tiny    ready, pinned         host, cuda0  300.0 MB      4       1  2, 12.0 s  in 4 min 47 s");
  EXPECT_EQ(lines[2], "大模型  loading weights 42 %  host         ~2.00 GB      0       0          1  –");
  EXPECT_EQ(lines[4], "1 model cannot be loaded; llm-manager list tells why");
  EXPECT_TRUE(lines[6].starts_with("kept is kept unloaded by ada since ")) << lines[6];
  EXPECT_TRUE(lines[6].ends_with("; llm-manager load kept ends that")) << lines[6];
}

TEST(RunningModels, AFailureIsShownForAnHourOrWhileSomebodyWaits) {
  const auto shown = [](int since_s, int waiting) {
    return running_models(
               json(fmt::format(
                   R"({{"models": [{{"id": "a", "state": "failed", "instance": {{"since_s": {}, "waiting": {}}},
                        "error": {{"message": "it broke"}}}}]}})",
                   since_s, waiting)),
               0, screen(120))
               .find("it broke") != std::string::npos;
  };
  EXPECT_TRUE(shown(3599, 0));
  EXPECT_FALSE(shown(3601, 0));
  EXPECT_TRUE(shown(3601, 1));
}

TEST(RunningModels, AnUpstreamsModelShowsWhatItWasMeasuredToHold) {
  const std::string text = running_models(json(R"({"models": [
      {"id": "ollama_qwen:7b", "kind": "generation", "state": "ready", "instance": null, "footprint": null, "error": null,
       "upstream": {"id": "ollama", "held_bytes": {"cuda0": 209715200}, "active": 1, "waiting": 0}},
      {"id": "ollama_two", "kind": "generation", "state": "ready", "instance": null, "footprint": null, "error": null,
       "upstream": {"id": "ollama", "held_bytes": {}}}]})"),
                                          0, screen(120));
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 3u) << text;
  EXPECT_EQ(lines[0], "NAME            STATE  DEVICE    MEMORY  SLOTS  ACTIVE  WAITING  EXPIRES");
  EXPECT_EQ(lines[1], "ollama_qwen:7b  ready  cuda0   200.0 MB      –       1        0  –");
  EXPECT_EQ(lines[2], "ollama_two      ready  –              –      –       –        –  –");
}

TEST(RunningModels, AFailureWhosePauseIsOverRetriesWhenAsked) {
  const std::string text = running_models(
      json(R"({"models": [{"id": "a", "state": "failed", "instance": {"retry_in_s": 0.0}, "error": null}]})"),
      0, screen(120));
  EXPECT_NE(text.find("when it is asked for"), std::string::npos) << text;
}

TEST(RunningModels, NarrowTerminalsLoseTheLeastImportantColumnsFirst) {
  for (int columns = 20; columns < 120; ++columns) {
    const std::string text = running_models(json(kModels), 0, screen(columns));
    const auto lines = lines_of(text);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_LE(display_width(lines[i]), columns) << lines[i];
    EXPECT_NE(lines[0].find("STATE"), std::string::npos);
  }
}

TEST(ModelTables, RunningModelsEndWithTheGaugesAdvice) {
  const auto text = [](std::string_view advice) {
    return running_models(json(fmt::format(R"({{"models": [], "demand": {{"advice": "{}"}}}})", advice)), 0,
                          screen(80));
  };
  EXPECT_TRUE(text("2.0 models are wanted, 1 fits: buy").ends_with("\n2.0 models are wanted, 1 fits: buy\n"));
  EXPECT_EQ(text("").find("wanted"), std::string::npos);
}

TEST(RunningModels, NothingLoadedIsSaid) {
  EXPECT_NE(running_models(json(R"({"models": [{"id": "a", "state": "unloaded"}]})"), 0, screen(80))
                .find("nothing is loaded"),
            std::string::npos);
}

TEST(EventText, EachKindIsASentence) {
  EXPECT_EQ(
      event_text(
          "state",
          json(
              R"({"model": "tiny", "state": "unloading", "detail": "draining", "cause": "evicted", "error": null})")),
      "tiny is unloading (draining), evicted");
  EXPECT_EQ(
      event_text(
          "state",
          json(
              R"({"model": "tiny", "state": "failed", "detail": "failed", "cause": "load_failed", "error": {"message": "no memory"}})")),
      "tiny is failed, load_failed: no memory");
  EXPECT_EQ(event_text("progress", json(R"({"model": "tiny", "stage": "weights", "fraction": 0.4})")),
            "tiny: reading the weights 40 %");
  EXPECT_EQ(
      event_text(
          "phases",
          json(
              R"({"model": "tiny", "phases": [{"name": "weights", "seconds": 0.1}, {"name": "context", "seconds": 0.2}]})")),
      "tiny: weights 0.10 s, context 0.20 s");
  EXPECT_EQ(event_text("decision", json(R"({"kind": "evict", "model": "tiny", "why": "big needs 2 GB"})")),
            "evict tiny: big needs 2 GB");
  EXPECT_EQ(event_text("job", json(R"({"job": 7, "error": null})")), "job 7 is done");
  EXPECT_EQ(event_text("switch", json(R"({"from": "local", "to": "ollama", "to_model": "ollama_qwen:7b",
      "who": "a request", "stage": "began", "took_s": 0, "released": [], "error": null})")),
            "switch local -> ollama (ollama_qwen:7b): chosen by a request");
  EXPECT_EQ(event_text("switch", json(R"({"from": "local", "to": "ollama", "to_model": "ollama_qwen:7b",
      "stage": "released", "released": [{"model": "tiny", "report": {"freed": 1073741824, "residual": 0,
      "proved": true}}]})")),
            "switch local -> ollama (ollama_qwen:7b): tiny is gone, 1.00 GB freed, 0 B left");
  EXPECT_EQ(
      event_text("switch", json(R"({"from": "ollama", "to": "local", "to_model": "tiny", "stage": "failed",
      "took_s": 2, "error": {"message": "no memory"}})")),
      "switch ollama -> local (tiny): failed after 2.00 s: no memory");
  EXPECT_EQ(event_text("config", json(R"({"changes": ["residency.linger: 30s to 1min"], "warnings": []})")),
            "reloaded; residency.linger: 30s to 1min");
  EXPECT_EQ(event_text("later", json(R"({"a": 1})")), R"({"a":1})");
}

TEST(PlanText, TellsWhereHowMuchAndWhoGoes) {
  const auto plan = json(R"({"model": "llm", "verdict": "fits_after_others", "source": "predicted",
    "placement": [{"device": "rpc0", "layers": 12}, {"device": "rpc1", "layers": 11}],
    "devices": [
      {"device": "host", "weights": 0, "mapped": 1048576, "context": 0, "compute": 2097152, "needed": 2097152,
       "free": 1073741824, "credit": 0},
      {"device": "rpc0", "weights": 3145728, "mapped": 0, "context": 1048576, "compute": 0, "needed": 4194304,
       "free": 0, "credit": 8388608},
      {"device": "rpc1", "weights": 3145728, "mapped": 0, "context": 0, "compute": 0, "needed": 3145728,
       "free": 4194304, "credit": 0}],
    "evicts": ["other"], "limit": "rpc1: 1.0 MB would be left", "limiting_device": "rpc1"})");
  const auto lines = lines_of(plan_text(plan, screen(120)));
  ASSERT_EQ(lines.size(), 6u);
  EXPECT_EQ(lines[0], "llm fits once other is gone; what is needed is predicted");
  EXPECT_NE(lines[1].find("KV CACHE"), std::string::npos);
  EXPECT_NE(lines[2].find("host"), std::string::npos);
  EXPECT_NE(lines[3].find("12"), std::string::npos) << lines[3];
  EXPECT_NE(lines[3].find("4.0 MB"), std::string::npos) << lines[3];
  EXPECT_EQ(lines[5], "the limit that is met first: rpc1: 1.0 MB would be left");
  const auto none =
      lines_of(plan_text(json(R"({"model": "llm", "verdict": "does_not_fit", "limit": "x"})"), screen(80)));
  EXPECT_EQ(none.front(), "llm does not fit; what is needed is predicted");
}

}  // namespace
}  // namespace lm::cli
