#include "text_battery.h"

#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>

#include <fmt/format.h>

namespace lm::importer {
namespace {

constexpr std::string_view kWordStart = "\u2581";  // SentencePiece's space
constexpr std::size_t kLongestToken = 64;          // bytes; of those that our texts need

enum class Text : std::uint8_t { kPlain, kSpaces, kBroken };

struct Sample {
  std::string_view name, text;
  Text kind = Text::kPlain;
};

// In lower case, and of letters that no normaliser takes apart.
constexpr auto kBattery = std::to_array<Sample>({
    {"English", "the quick brown fox said: 12.5 times!"},
    {"Chinese", "我想在苹果公司工作，今天天气很好。臺灣與香港"},
    {"Japanese", "これは日本の言葉、ひらかなとカタカナ"},
    {"Arabic", "مرحبا كيف حالك"},
    {"emoji", "😀 🦙 ✅"},
    {"code", "int main() { return v[0] != 1 && x_y; } // <p class=\"a\">"},
    {"spaces", "a\tb  c\n\n d\r\n", Text::kSpaces},
    {"broken UTF-8", "a\uFFFDb", Text::kBroken},
});

// The first character of a text that is UTF-8.
std::string_view first_of(std::string_view text) {
  const auto byte = static_cast<unsigned char>(text.front());
  return text.substr(0, byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);
}

// As byte-level tokenizers write a byte: what can be seen as itself, the others by letters from U+0100 on.
std::string letter_of(unsigned char byte) {
  const auto is_seen = [](unsigned b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  unsigned code = byte;
  if (!is_seen(byte)) {
    code = 256;
    for (unsigned b = 0; b < byte; ++b) code += is_seen(b) ? 0 : 1;
  }
  if (code < 0x80) return std::string(1, static_cast<char>(code));
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

class Vocabulary {
 public:
  explicit Vocabulary(const Tokenizer& tokenizer) {
    tokens_.reserve(tokenizer.tokens.size());
    for (std::size_t i = 0; i < tokenizer.tokens.size(); ++i) {
      const auto kind = tokenizer.kinds[i];
      if (kind == TokenKind::kNormal || kind == TokenKind::kUserDefined || kind == TokenKind::kByte)
        tokens_.insert(tokenizer.tokens[i]);
    }
  }

  bool has(std::string_view token) const { return tokens_.contains(token); }

  // Every byte by its letter.
  bool carries_bytes(std::string_view text) const {
    return std::ranges::all_of(text, [&](char c) { return has(letter_of(static_cast<unsigned char>(c))); });
  }

  // Every character by itself, or by its bytes.
  bool carries_characters(std::string_view text) const {
    while (!text.empty()) {
      const auto character = first_of(text);
      const auto has_byte = [&](char c) {
        return has(fmt::format("<0x{:02X}>", static_cast<unsigned char>(c)));
      };
      if (!has(character == " " ? kWordStart : character) && !std::ranges::all_of(character, has_byte))
        return false;
      text.remove_prefix(character.size());
    }
    return true;
  }

  // Some row of tokens is the text.
  bool carries_pieces(std::string_view text) const {
    std::string whole(kWordStart);
    for (const char c : text) {
      if (c == ' ')
        whole += kWordStart;
      else
        whole += c;
    }
    std::vector<bool> reached(whole.size() + 1);
    reached[0] = true;
    for (std::size_t at = 0; at < whole.size(); ++at) {
      if (!reached[at]) continue;
      for (std::size_t size = 1; size <= std::min(kLongestToken, whole.size() - at); ++size)
        if (has(std::string_view(whole).substr(at, size))) reached[at + size] = true;
    }
    return reached.back();
  }

  // Every word by its longest begin, and so on.
  bool carries_words(std::string_view text) const {
    while (!text.empty()) {
      const auto word = word_of(text);
      if (word != " " && !carries_word(word)) return false;
      text.remove_prefix(word.size());
    }
    return true;
  }

 private:
  // Alone in its word: spaces, punctuation, Chinese characters.
  static bool stands_alone(std::string_view character) {
    if (character.size() == 1) {
      const auto c = static_cast<unsigned char>(character.front());
      return c <= ' ' || (c < 0x7f && !(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z'));
    }
    // U+3000 to U+303F, U+4E00 to U+9FFF, U+FF00 to U+FFEF: compared as UTF-8, which keeps the order.
    const auto between = [&](std::string_view least, std::string_view most) {
      return character >= least && character <= most;
    };
    return between("\u3000", "\u303f") || between("\u4e00", "\u9fff") || between("\uff00", "\uffef");
  }

  static std::string_view word_of(std::string_view text) {
    std::size_t size = first_of(text).size();
    if (stands_alone(text.substr(0, size))) return text.substr(0, size);
    while (size < text.size()) {
      const auto next = first_of(text.substr(size));
      if (stands_alone(next)) break;
      size += next.size();
    }
    return text.substr(0, size);
  }

  bool carries_word(std::string_view word) const {
    std::string begin(kWordStart);
    while (!word.empty()) {
      std::size_t size = word.size();
      while (size > 0 && !has(begin + std::string(word.substr(0, size)))) --size;
      if (size == 0) return false;
      word.remove_prefix(size);
      begin.clear();
    }
    return true;
  }

  std::unordered_set<std::string_view> tokens_;  // of the tokenizer
};

// Whether it is looked for tokens of that text at all.
bool is_asked(const Tokenizer& tokenizer, Text kind) {
  // WordPiece cleans text of both; what a unigram's character map makes of them is its own.
  if (tokenizer.model == "bert") return kind == Text::kPlain;
  if (tokenizer.model == "t5" && kind == Text::kSpaces) return false;
  return kind != Text::kBroken || tokenizer.character_map.empty();
}

bool carries(const Vocabulary& vocabulary, const Tokenizer& tokenizer, std::string_view text) {
  if (tokenizer.model == "bert") return vocabulary.carries_words(text);
  if (tokenizer.model == "gpt2") return vocabulary.carries_bytes(text);
  if (tokenizer.model == "t5") return vocabulary.carries_pieces(text);
  return vocabulary.carries_characters(text);
}

}  // namespace

std::vector<std::string_view> texts_without_tokens(const Tokenizer& tokenizer) {
  const Vocabulary vocabulary(tokenizer);
  std::vector<std::string_view> lost;
  for (const Sample& sample : kBattery) {
    if (is_asked(tokenizer, sample.kind) && !carries(vocabulary, tokenizer, sample.text))
      lost.push_back(sample.name);
  }
  return lost;
}

}  // namespace lm::importer
