#include "chat/sentiment.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string>

namespace lm::chat {
namespace {

constexpr std::array<std::string_view, 44> kGoodEnglish = {
    "amazing", "awesome",   "beautiful", "best",      "brilliant", "cheerful", "cool",  "cute",  "delighted",
    "enjoy",   "excellent", "excited",   "fantastic", "fine",      "fun",      "glad",  "good",  "great",
    "happy",   "haha",      "hug",       "joy",       "kind",      "like",     "love",  "loved", "lovely",
    "lucky",   "nice",      "perfect",   "pleased",   "pretty",    "proud",    "smile", "super", "sweet",
    "thank",   "thanks",    "welcome",   "well",      "wonderful", "wow",      "yay",   "friend"};
constexpr std::array<std::string_view, 38> kBadEnglish = {
    "afraid",    "alone",  "angry",   "annoying", "ashamed", "awful", "bad",          "bored",
    "boring",    "broken", "cry",     "crying",   "dead",    "die",   "disappointed", "disgusting",
    "fear",      "hate",   "hated",   "horrible", "hurt",    "idiot", "lonely",       "mad",
    "miserable", "pain",   "sad",     "scared",   "sick",    "sorry", "stupid",       "terrible",
    "tired",     "ugly",   "unhappy", "upset",    "worried", "worst"};
// Both scripts; what is written alike stands once.
constexpr std::array<std::string_view, 42> kGoodChinese = {
    "喜欢", "喜歡", "开心", "開心", "高兴", "高興", "快乐", "快樂", "爱你", "愛你", "谢谢",
    "謝謝", "感谢", "感謝", "很好", "真好", "太好", "棒",   "厉害", "厲害", "可爱", "可愛",
    "漂亮", "美好", "幸福", "加油", "哈哈", "嘻嘻", "有趣", "好玩", "温柔", "溫柔", "赞",
    "讚",   "优秀", "優秀", "期待", "恭喜", "祝福", "舒服", "放松", "放鬆"};
constexpr std::array<std::string_view, 40> kBadChinese = {
    "讨厌", "討厭", "难过", "難過", "伤心", "傷心",   "生气",   "生氣", "愤怒", "憤怒",
    "害怕", "可怕", "孤单", "孤單", "寂寞", "痛苦",   "糟糕",   "烦",   "煩",   "无聊",
    "無聊", "失望", "累",   "哭",   "恨",   "坏",     "壞",     "笨",   "滚",   "滾",
    "担心", "擔心", "焦虑", "焦慮", "抱歉", "对不起", "對不起", "倒霉", "恶心", "噁心"};
constexpr std::array<std::string_view, 9> kNotEnglish = {"not",    "no",      "never", "don't",  "isn't",
                                                         "didn't", "doesn't", "can't", "without"};
constexpr std::array<std::string_view, 8> kNotChinese = {"不",   "没", "沒", "没有",
                                                         "沒有", "别", "別", "不是"};
// An English negation reaches over so many words: "not a very good idea".
constexpr int kReach = 3;

struct Tally {
  int good = 0, bad = 0;
  void add(bool is_good, bool negated) { ++(is_good != negated ? good : bad); }
};

template <std::size_t N>
bool has(const std::array<std::string_view, N>& words, std::string_view word) {
  return std::ranges::find(words, word) != words.end();
}

void count_english(std::string_view text, Tally& tally) {
  std::string word;
  int reach = 0;
  const auto end_word = [&] {
    if (word.empty()) return;
    if (has(kNotEnglish, word)) {
      reach = kReach + 1;
    } else if (const bool good = has(kGoodEnglish, word); good || has(kBadEnglish, word)) {
      tally.add(good, reach > 0);
      reach = 0;
    }
    word.clear();
    if (reach > 0) --reach;
  };
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && (std::isalpha(byte) != 0 || c == '\'')) {
      word += static_cast<char>(std::tolower(byte));
      continue;
    }
    end_word();
    if (c == '.' || c == '!' || c == '?' || c == ',') reach = 0;
  }
  end_word();
}

bool is_negated(std::string_view before) {
  return std::ranges::any_of(kNotChinese, [&](std::string_view no) { return before.ends_with(no); });
}

template <std::size_t N>
void count_chinese(std::string_view text, const std::array<std::string_view, N>& words, bool good,
                   Tally& tally) {
  for (const std::string_view word : words) {
    for (std::size_t at = 0; (at = text.find(word, at)) != std::string_view::npos; at += word.size()) {
      std::string_view before = text.substr(0, at);
      // "不太开心", "不太開心", "不很…": a degree between the two changes nothing.
      for (const std::string_view degree : {"太", "很", "怎么", "怎麼"})
        if (before.ends_with(degree)) before.remove_suffix(degree.size());
      tally.add(good, is_negated(before));
    }
  }
}

}  // namespace

double sentiment(std::string_view text) {
  Tally tally;
  count_english(text, tally);
  count_chinese(text, kGoodChinese, true, tally);
  count_chinese(text, kBadChinese, false, tally);
  const int all = tally.good + tally.bad;
  return all == 0 ? 0 : static_cast<double>(tally.good - tally.bad) / all;
}

}  // namespace lm::chat
