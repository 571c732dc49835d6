#include "runtime/switch_text.h"

#include <array>
#include <string_view>

#include <fmt/format.h>

#include "base/bytes.h"

namespace lm::runtime {
namespace {

using config::Locale;

// One sentence in all languages: English, simplified, traditional. {0} is what is named; {m} the kind of
// memory.
struct Sentence {
  std::string_view english, simplified, traditional;
};

constexpr Sentence kSwitch{"model switch: {0} -> {1}", "模型切换: {0} -> {1}", "模型切換: {0} -> {1}"};
constexpr Sentence kFreeing{"unloading the {0} to free {m} resources", "卸载{0}以释放{r}资源",
                            "卸載{0}以釋放{r}資源"};
constexpr Sentence kUnloading{"unloading of the {0} begins...", "开始卸载{0}...", "開始卸載{0}..."};
constexpr Sentence kModelUnloaded{"{0} model unloaded", "{0}模型已卸载", "{0}模型已卸載"};
constexpr Sentence kModelNotUnloaded{"{0} model was not unloaded: {1}", "卸载{0}模型失败: {1}",
                                     "卸載{0}模型失敗: {1}"};
constexpr Sentence kBefore{"{m} memory in use before unloading: {0} GB", "卸载前{m}占用: {0} GB",
                           "卸載前{m}佔用: {0} GB"};
constexpr Sentence kAfter{"{m} memory in use after unloading: {0} GB", "卸载后{m}占用: {0} GB",
                          "卸載後{m}佔用: {0} GB"};
constexpr Sentence kFreed{"{m} memory freed: {0} GB", "释放{m}: {0} GB", "釋放{m}: {0} GB"};
constexpr Sentence kCleaned{"{r} cache cleared", "{r}缓存已清理", "{r}快取已清理"};
constexpr Sentence kNotCleaned{"clearing the {r} cache failed: {0}", "清理{r}缓存失败: {0}",
                               "清理{r}快取失敗: {0}"};
constexpr Sentence kNotMeasurable{"whether the memory of the {0} came back cannot be measured here",
                                  "无法测量{0}的{m}是否已释放", "無法測量{0}的{m}是否已釋放"};
constexpr Sentence kAsked{"{0} model was told to unload", "已要求卸载{0}模型", "已要求卸載{0}模型"};
constexpr Sentence kUnloaded{"the {0} is unloaded", "{0}卸载完成", "{0}卸載完成"};
constexpr Sentence kReload{"loading the {0} again", "重新加载{0}", "重新載入{0}"};
constexpr Sentence kReloading{"loading of the {0} begins...", "开始重新加载{0}...", "開始重新載入{0}..."};
constexpr Sentence kReloaded{"the {0} is loaded again", "{0}重新加载成功", "{0}重新載入成功"};
constexpr Sentence kNotReloaded{"the {0} could not be loaded again", "{0}重新加载失败", "{0}重新載入失敗"};
constexpr Sentence kReloadFailed{"loading the local model again failed: {0}", "重新加载本地模型失败: {0}",
                                 "重新載入本地模型失敗: {0}"};
constexpr Sentence kSwitchFailed{"the switch to {0} failed: {1}", "切换到{0}失败: {1}", "切換到{0}失敗: {1}"};
constexpr Sentence kCancelled{"the switch was cancelled: {0} -> {1}", "模型切换已取消: {0} -> {1}",
                              "模型切換已取消: {0} -> {1}"};
constexpr Sentence kLoadedAlready{"the local model is loaded already, no need to load it again",
                                  "本地模型已经加载，无需重新加载", "本地模型已經載入，無需重新載入"};
constexpr Sentence kStillHeld{"{0} GB still held", "仍占用 {0} GB", "仍佔用 {0} GB"};
constexpr Sentence kHeldBy{"{0} GB still held by {1}", "仍占用 {0} GB，占用者: {1}",
                           "仍佔用 {0} GB，佔用者: {1}"};

class Writer {
 public:
  explicit Writer(const SwitchWords& words) : words_(words) {}

  template <class... Args>
  std::string say(const Sentence& sentence, const Args&... args) const {
    return fmt::format(fmt::runtime(pick(sentence)), args..., fmt::arg("m", memory()),
                       fmt::arg("r", resource()));
  }
  template <class... Args>
  void info(const Sentence& sentence, const Args&... args) {
    lines_.push_back({LogLine::kInfo, say(sentence, args...)});
  }
  template <class... Args>
  void warn(const Sentence& sentence, const Args&... args) {
    lines_.push_back({LogLine::kWarning, say(sentence, args...)});
  }
  template <class... Args>
  void error(const Sentence& sentence, const Args&... args) {
    lines_.push_back({LogLine::kError, say(sentence, args...)});
  }

  // "本地LLM模型": the family's models as the sentences name them.
  std::string_view models_of(Family family) const {
    constexpr std::array<Sentence, 3> kModels{{{"local LLM model", "本地LLM模型", "本地LLM模型"},
                                               {"Ollama model", "Ollama模型", "Ollama模型"},
                                               {"OpenAI model", "OpenAI模型", "OpenAI模型"}}};
    return pick(kModels.at(static_cast<std::size_t>(family)));
  }

  // One line for each role of what was released, or for it by its own name.
  void released(const ModelId& model, const ReleaseReport& report) {
    std::vector<std::string> names = words_.roles_of ? words_.roles_of(model) : std::vector<std::string>();
    for (std::string& name : names) name += "_engine";
    if (names.empty()) names.push_back(model.str());
    for (const std::string& name : names) {
      if (report.proved()) {
        info(kModelUnloaded, name);
      } else if (report.outcome == ReleaseOutcome::kUnknown) {
        info(kAsked, name);
      } else {
        warn(kModelNotUnloaded, name, held(report));
      }
    }
  }

  void summary(const ReleaseReport& report, Family family) {
    info(kBefore, gigabytes(report.before));
    info(kAfter, gigabytes(report.after));
    info(kFreed, gigabytes(report.freed));
    if (report.proved()) {
      info(kCleaned);
      info(kUnloaded, models_of(family));
    } else if (report.outcome == ReleaseOutcome::kUnknown) {
      warn(kNotMeasurable, models_of(family));
    } else {
      warn(kNotCleaned, held(report));
    }
  }

  std::vector<LogLine> take() { return std::move(lines_); }

 private:
  std::string_view pick(const Sentence& sentence) const {
    switch (words_.locale) {
      case Locale::kSimplifiedChinese:
        return sentence.simplified;
      case Locale::kTraditionalChinese:
        return sentence.traditional;
      case Locale::kAuto:
      case Locale::kEnglish:
        break;
    }
    return sentence.english;
  }
  std::string_view memory() const {
    return words_.host_only ? pick({"host", "内存", "記憶體"}) : pick({"GPU", "显存", "顯示記憶體"});
  }
  std::string_view resource() const {
    return words_.host_only ? pick({"host memory", "内存", "記憶體"}) : pick({"GPU", "GPU", "GPU"});
  }
  static std::string gigabytes(Bytes bytes) {
    return fmt::format("{:.2f}", static_cast<double>(bytes.count()) / static_cast<double>(gib(1).count()));
  }
  std::string held(const ReleaseReport& report) const {
    std::string who;
    for (const Holder& holder : report.holders)
      who += fmt::format("{}{} ({})", who.empty() ? "" : ", ", holder.name, holder.pid);
    return who.empty() ? say(kStillHeld, gigabytes(report.residual))
                       : say(kHeldBy, gigabytes(report.residual), who);
  }

  const SwitchWords& words_;
  std::vector<LogLine> lines_;
};

}  // namespace

std::vector<LogLine> switch_lines(const Switch& change, const SwitchWords& words) {
  Writer writer(words);
  const bool comes_home = change.to == Family::kLocal && !change.to_remote;
  switch (change.stage) {
    case SwitchStage::kBegan:
      writer.info(kSwitch, to_string(change.from), to_string(change.to));
      if (change.to_release > 0) {
        writer.info(kFreeing, writer.models_of(change.from));
        writer.info(kUnloading, writer.models_of(change.from));
      }
      break;
    case SwitchStage::kReleased:
      writer.released(change.released.back().model, change.released.back().report);
      if (static_cast<int>(change.released.size()) == change.to_release && change.release)
        writer.summary(*change.release, change.from);
      break;
    case SwitchStage::kLoading:
      if (comes_home) {
        writer.info(kReload, writer.models_of(change.to));
        writer.info(kReloading, writer.models_of(change.to));
      }
      break;
    case SwitchStage::kDone:
      if (comes_home && change.loads) {
        writer.info(kReloaded, writer.models_of(change.to));
      } else if (comes_home) {
        writer.info(kLoadedAlready);
      }
      break;
    case SwitchStage::kFailed: {
      const std::string why = change.error ? change.error->message : std::string();
      if (comes_home) {
        writer.error(kNotReloaded, writer.models_of(change.to));
        writer.error(kReloadFailed, why);
      } else {
        writer.error(kSwitchFailed, writer.models_of(change.to), why);
      }
      break;
    }
    case SwitchStage::kCancelled:
      writer.info(kCancelled, to_string(change.from), to_string(change.to));
      break;
    case SwitchStage::kInterrupted:
      break;  // whoever would have said so is gone
  }
  return writer.take();
}

std::vector<LogLine> unload_lines(const ModelId& model, const ReleaseReport& report,
                                  const SwitchWords& words) {
  Writer writer(words);
  const Family family = words.family_of ? words.family_of(model) : Family::kLocal;
  writer.info(kUnloading, writer.models_of(family));
  writer.released(model, report);
  writer.summary(report, family);
  return writer.take();
}

LogLine loaded_already(const SwitchWords& words) {
  return {LogLine::kInfo, Writer(words).say(kLoadedAlready)};
}

config::Locale resolve_locale(config::Locale chosen,
                              const std::function<std::string(const char*)>& environment) {
  if (chosen != Locale::kAuto) return chosen;
  for (const char* name : {"LC_ALL", "LC_MESSAGES", "LANG"}) {
    const std::string value = environment(name);
    if (value.empty()) continue;
    if (!value.starts_with("zh")) return Locale::kEnglish;
    for (const std::string_view mark : {"TW", "HK", "MO", "Hant"}) {
      if (value.find(mark) != std::string::npos) return Locale::kTraditionalChinese;
    }
    return Locale::kSimplifiedChinese;
  }
  return Locale::kEnglish;
}

}  // namespace lm::runtime
