#include "runtime/switch_text.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace lm::runtime {
namespace {

using config::Locale;

constexpr double kGib = 1024.0 * 1024.0 * 1024.0;
Bytes gigabytes(double n) {
  return Bytes(static_cast<std::int64_t>(n * kGib));
}

// As the log renders them.
std::string text_of(const std::vector<LogLine>& lines) {
  std::string text;
  for (const LogLine& line : lines) {
    text += fmt::format("[{}] {}\n",
                        line.level == LogLine::kInfo      ? "INFO"
                        : line.level == LogLine::kWarning ? "WARNING"
                                                          : "ERROR",
                        line.text);
  }
  return text;
}

ReleaseReport report(double before, double after) {
  ReleaseReport r;
  r.before = gigabytes(before);
  r.after = r.residual = gigabytes(after);
  r.freed = gigabytes(before) - gigabytes(after);
  r.outcome = ReleaseOutcome::kProved;
  return r;
}

SwitchWords words(Locale locale, bool host_only = false) {
  return {.locale = locale, .host_only = host_only, .roles_of = [](const ModelId& model) {
            return model == ModelId("qwen") ? std::vector<std::string>{"chat", "knowledge", "translation"}
                                            : std::vector<std::string>();
          }};
}

// The stages of a whole switch, each rendered as it comes.
std::string whole(Switch change, const std::vector<SwitchStage>& stages, const SwitchWords& how) {
  std::string text;
  for (const SwitchStage stage : stages) {
    change.stage = stage;
    text += text_of(switch_lines(change, how));
  }
  return text;
}

Switch to_ollama() {
  Switch change;
  change.from = Family::kLocal;
  change.to = Family::kOllama;
  change.to_release = 1;
  change.loads = true;
  // The document's driver kept 0.12 GB of its own; what is reported is what the model held.
  change.released = {{ModelId("qwen"), report(2.49, 0.12)}};
  change.release = change.released.front().report;
  return change;
}

TEST(SwitchText, IsTheRequirementsFirstSequenceWordForWord) {
  EXPECT_EQ(whole(to_ollama(),
                  {SwitchStage::kBegan, SwitchStage::kReleased, SwitchStage::kLoading, SwitchStage::kDone},
                  words(Locale::kSimplifiedChinese)),
            "[INFO] 模型切换: local -> ollama\n"
            "[INFO] 卸载本地LLM模型以释放GPU资源\n"
            "[INFO] 开始卸载本地LLM模型...\n"
            "[INFO] chat_engine模型已卸载\n"
            "[INFO] knowledge_engine模型已卸载\n"
            "[INFO] translation_engine模型已卸载\n"
            "[INFO] 卸载前显存占用: 2.49 GB\n"
            "[INFO] 卸载后显存占用: 0.12 GB\n"
            "[INFO] 释放显存: 2.37 GB\n"
            "[INFO] GPU缓存已清理\n"
            "[INFO] 本地LLM模型卸载完成\n");
}

Switch to_local() {
  Switch change;
  change.from = Family::kOllama;
  change.to = Family::kLocal;
  change.loads = true;
  return change;
}

TEST(SwitchText, IsTheRequirementsSecondSequenceWordForWord) {
  EXPECT_EQ(whole(to_local(), {SwitchStage::kBegan, SwitchStage::kLoading, SwitchStage::kDone},
                  words(Locale::kSimplifiedChinese)),
            "[INFO] 模型切换: ollama -> local\n"
            "[INFO] 重新加载本地LLM模型\n"
            "[INFO] 开始重新加载本地LLM模型...\n"
            "[INFO] 本地LLM模型重新加载成功\n");
}

TEST(SwitchText, SaysItsFailuresInTheRequirementsWords) {
  Switch failed = to_local();
  failed.error =
      Error{.code = ErrorCode::kUnavailable, .message = "没有内存", .reason = "insufficient_memory"};
  EXPECT_EQ(whole(failed, {SwitchStage::kFailed}, words(Locale::kSimplifiedChinese)),
            "[ERROR] 本地LLM模型重新加载失败\n"
            "[ERROR] 重新加载本地模型失败: 没有内存\n");
  Switch kept = to_ollama();
  kept.released.front().report.outcome = ReleaseOutcome::kClings;
  kept.released.front().report.holders = {{.pid = 7, .name = "llm-worker", .bytes = gigabytes(0.12)}};
  kept.release = kept.released.front().report;
  EXPECT_EQ(whole(kept, {SwitchStage::kReleased}, words(Locale::kSimplifiedChinese)),
            "[WARNING] 卸载chat_engine模型失败: 仍占用 0.12 GB，占用者: llm-worker (7)\n"
            "[WARNING] 卸载knowledge_engine模型失败: 仍占用 0.12 GB，占用者: llm-worker (7)\n"
            "[WARNING] 卸载translation_engine模型失败: 仍占用 0.12 GB，占用者: llm-worker (7)\n"
            "[INFO] 卸载前显存占用: 2.49 GB\n"
            "[INFO] 卸载后显存占用: 0.12 GB\n"
            "[INFO] 释放显存: 2.37 GB\n"
            "[WARNING] 清理GPU缓存失败: 仍占用 0.12 GB，占用者: llm-worker (7)\n");
  Switch unknown = to_ollama();
  unknown.released.front().report = ReleaseReport{};
  unknown.release = unknown.released.front().report;
  EXPECT_EQ(whole(unknown, {SwitchStage::kReleased}, words(Locale::kSimplifiedChinese)),
            "[INFO] 已要求卸载chat_engine模型\n"
            "[INFO] 已要求卸载knowledge_engine模型\n"
            "[INFO] 已要求卸载translation_engine模型\n"
            "[INFO] 卸载前显存占用: 0.00 GB\n"
            "[INFO] 卸载后显存占用: 0.00 GB\n"
            "[INFO] 释放显存: 0.00 GB\n"
            "[WARNING] 无法测量本地LLM模型的显存是否已释放\n");
  EXPECT_EQ(loaded_already(words(Locale::kSimplifiedChinese)).text, "本地模型已经加载，无需重新加载");
  Switch no_ollama = to_ollama();
  no_ollama.error = Error{.code = ErrorCode::kUnavailable, .message = "无法连接", .reason = "x"};
  EXPECT_EQ(whole(no_ollama, {SwitchStage::kFailed}, words(Locale::kSimplifiedChinese)),
            "[ERROR] 切换到Ollama模型失败: 无法连接\n");
}

TEST(SwitchText, OnAHostMemoryIsNoCards) {
  EXPECT_EQ(whole(to_ollama(), {SwitchStage::kBegan, SwitchStage::kReleased},
                  words(Locale::kSimplifiedChinese, true)),
            "[INFO] 模型切换: local -> ollama\n"
            "[INFO] 卸载本地LLM模型以释放内存资源\n"
            "[INFO] 开始卸载本地LLM模型...\n"
            "[INFO] chat_engine模型已卸载\n"
            "[INFO] knowledge_engine模型已卸载\n"
            "[INFO] translation_engine模型已卸载\n"
            "[INFO] 卸载前内存占用: 2.49 GB\n"
            "[INFO] 卸载后内存占用: 0.12 GB\n"
            "[INFO] 释放内存: 2.37 GB\n"
            "[INFO] 内存缓存已清理\n"
            "[INFO] 本地LLM模型卸载完成\n");
}

TEST(SwitchText, HasTheSameLinesInEnglishAndTraditionalChinese) {
  EXPECT_EQ(whole(to_ollama(), {SwitchStage::kBegan, SwitchStage::kReleased}, words(Locale::kEnglish)),
            "[INFO] model switch: local -> ollama\n"
            "[INFO] unloading the local LLM model to free GPU resources\n"
            "[INFO] unloading of the local LLM model begins...\n"
            "[INFO] chat_engine model unloaded\n"
            "[INFO] knowledge_engine model unloaded\n"
            "[INFO] translation_engine model unloaded\n"
            "[INFO] GPU memory in use before unloading: 2.49 GB\n"
            "[INFO] GPU memory in use after unloading: 0.12 GB\n"
            "[INFO] GPU memory freed: 2.37 GB\n"
            "[INFO] GPU cache cleared\n"
            "[INFO] the local LLM model is unloaded\n");
  EXPECT_EQ(
      whole(to_ollama(), {SwitchStage::kBegan, SwitchStage::kReleased}, words(Locale::kTraditionalChinese)),
      "[INFO] 模型切換: local -> ollama\n"
      "[INFO] 卸載本地LLM模型以釋放GPU資源\n"
      "[INFO] 開始卸載本地LLM模型...\n"
      "[INFO] chat_engine模型已卸載\n"
      "[INFO] knowledge_engine模型已卸載\n"
      "[INFO] translation_engine模型已卸載\n"
      "[INFO] 卸載前顯示記憶體佔用: 2.49 GB\n"
      "[INFO] 卸載後顯示記憶體佔用: 0.12 GB\n"
      "[INFO] 釋放顯示記憶體: 2.37 GB\n"
      "[INFO] GPU快取已清理\n"
      "[INFO] 本地LLM模型卸載完成\n");
  EXPECT_EQ(whole(to_local(), {SwitchStage::kBegan, SwitchStage::kLoading, SwitchStage::kDone},
                  words(Locale::kTraditionalChinese)),
            "[INFO] 模型切換: ollama -> local\n"
            "[INFO] 重新載入本地LLM模型\n"
            "[INFO] 開始重新載入本地LLM模型...\n"
            "[INFO] 本地LLM模型重新載入成功\n");
}

TEST(SwitchText, AnUpstreamIsNamedByItself) {
  Switch change = to_local();
  change.to_release = 1;
  change.released = {{ModelId("ollama"), report(5, 0)}};
  change.release = change.released.front().report;
  EXPECT_EQ(whole(change, {SwitchStage::kBegan, SwitchStage::kReleased}, words(Locale::kSimplifiedChinese)),
            "[INFO] 模型切换: ollama -> local\n"
            "[INFO] 卸载Ollama模型以释放GPU资源\n"
            "[INFO] 开始卸载Ollama模型...\n"
            "[INFO] ollama模型已卸载\n"
            "[INFO] 卸载前显存占用: 5.00 GB\n"
            "[INFO] 卸载后显存占用: 0.00 GB\n"
            "[INFO] 释放显存: 5.00 GB\n"
            "[INFO] GPU缓存已清理\n"
            "[INFO] Ollama模型卸载完成\n");
}

TEST(SwitchText, ComingBackToWhatIsLoadedSaysSo) {
  Switch change = to_local();
  change.loads = false;
  EXPECT_EQ(whole(change, {SwitchStage::kDone}, words(Locale::kSimplifiedChinese)),
            "[INFO] 本地模型已经加载，无需重新加载\n");
}

TEST(SwitchText, AnUnloadIsToldLikeTheReleaseOfASwitch) {
  EXPECT_EQ(text_of(unload_lines(ModelId("tiny"), report(1, 0), words(Locale::kSimplifiedChinese))),
            "[INFO] 开始卸载本地LLM模型...\n"
            "[INFO] tiny模型已卸载\n"
            "[INFO] 卸载前显存占用: 1.00 GB\n"
            "[INFO] 卸载后显存占用: 0.00 GB\n"
            "[INFO] 释放显存: 1.00 GB\n"
            "[INFO] GPU缓存已清理\n"
            "[INFO] 本地LLM模型卸载完成\n");
}

TEST(SwitchText, AnUnloadOfAnUpstreamsModelIsNotCalledLocal) {
  SwitchWords of = words(Locale::kTraditionalChinese);
  of.family_of = [](const ModelId& name) {
    return name == ModelId("ollama") ? Family::kOllama : Family::kLocal;
  };
  const std::string told = text_of(unload_lines(ModelId("ollama"), report(1, 0), of));
  EXPECT_NE(told.find("開始卸載Ollama模型"), std::string::npos) << told;
  EXPECT_EQ(told.find("本地"), std::string::npos) << told;
}

TEST(SwitchText, TheLocaleIsTheEnvironmentsUnlessOneIsChosen) {
  const auto with = [](std::string name, std::string value) {
    return [name, value](const char* asked) { return name == asked ? value : std::string(); };
  };
  EXPECT_EQ(resolve_locale(Locale::kEnglish, with("LANG", "zh_CN.UTF-8")), Locale::kEnglish);
  EXPECT_EQ(resolve_locale(Locale::kAuto, with("LANG", "zh_CN.UTF-8")), Locale::kSimplifiedChinese);
  EXPECT_EQ(resolve_locale(Locale::kAuto, with("LC_ALL", "zh_TW.UTF-8")), Locale::kTraditionalChinese);
  EXPECT_EQ(resolve_locale(Locale::kAuto, with("LC_MESSAGES", "zh_HK")), Locale::kTraditionalChinese);
  EXPECT_EQ(resolve_locale(Locale::kAuto, with("LANG", "de_DE.UTF-8")), Locale::kEnglish);
  EXPECT_EQ(resolve_locale(Locale::kAuto, with("LANG", "")), Locale::kEnglish);
}

}  // namespace
}  // namespace lm::runtime
