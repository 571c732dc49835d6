#include "pre_tokenizer.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

// The steps in order, as text: what they do, not how the file happens to write it.
std::string steps_of(const json::value& step);

std::string one_step(const json::value& step) {
  const auto type = text_at(step, "type").value_or("?");
  if (type == "Sequence") {
    std::string out;
    if (const auto* steps = array_at(step, "pretokenizers")) {
      for (const auto& each : *steps) out += steps_of(each);
    }
    return out;
  }
  if (type == "Split") {
    const auto* pattern = member(step, "pattern");
    const auto text = pattern == nullptr ? std::nullopt : text_at(*pattern, "Regex");
    return fmt::format("Split({},{}{})", text.value_or("?"), text_at(step, "behavior").value_or("?"),
                       flag_at(step, "invert").value_or(false) ? ",inverted" : "");
  }
  if (type == "ByteLevel") {
    return fmt::format("ByteLevel{}{}", flag_at(step, "use_regex").value_or(true) ? "(words)" : "",
                       flag_at(step, "add_prefix_space").value_or(true) ? "(space first)" : "");
  }
  if (type == "Digits") {
    return fmt::format("Digits{}", flag_at(step, "individual_digits").value_or(false) ? "(each)" : "");
  }
  return fmt::format("{}", type);
}

std::string steps_of(const json::value& step) {
  const auto text = one_step(step);
  return text.empty() || text.ends_with('\n') ? text : text + "\n";
}

struct Known {
  std::string_view steps;
  bool ignores_merges;
  std::string_view name;
};

// From the tokenizer.json of the models that the engine's names come from.
constexpr auto kKnown = std::to_array<Known>({
    {"Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+,Isolated)\nByteLevel\n",
     false, "qwen2"},
    {"Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+,Isolated)\nByteLevel\n",
     true, "llama-bpe"},
    // The same words, merged from letters up.
    {"Split((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
     "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+,Isolated)\nByteLevel\n",
     false, "dbrx"},
    {"Split([^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"
     "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| "
     "?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+,Isolated)\nByteLevel\n",
     true, "tekken"},
    {"Digits(each)\nByteLevel(words)\n", false, "smollm"},
    {"ByteLevel(words)\n", false, "gpt-2"},
});

}  // namespace

Result<std::string_view> pre_tokenizer_name(const json::value& tokenizer, bool ignores_merges) {
  const auto* step = member(tokenizer, "pre_tokenizer");
  const auto steps = step == nullptr ? std::string() : steps_of(*step);
  const auto found = std::ranges::find_if(kKnown, [&](const Known& known) {
    return known.steps == steps && known.ignores_merges == ignores_merges;
  });
  if (found != kKnown.end()) return found->name;
  std::string shown = steps.empty() ? "no pre_tokenizer" : steps;
  std::ranges::replace(shown, '\n', ' ');
  return unsupported(
      fmt::format("tokenizer.json cuts text into words in a way that the engine has no name for: {}{}",
                  shown.substr(0, 400), ignores_merges ? "(whole words first)" : ""));
}

}  // namespace lm::importer
