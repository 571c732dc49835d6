#include "chat/traditional.h"

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include <fmt/format.h>

#if LM_HAS_OPENCC
#include <opencc/Config.hpp>
#include <opencc/ConversionChain.hpp>
#include <opencc/Converter.hpp>
#include <opencc/Dict.hpp>
#include <opencc/Exception.hpp>
#include <opencc/MaxMatchSegmentation.hpp>
#include <opencc/Segments.hpp>
#endif

namespace lm::chat {

#if LM_HAS_OPENCC

namespace {

// In no word of any dictionary: whatever stands before one is settled.
constexpr std::array<std::string_view, 6> kBorders = {" ", "\n", "。", "！", "？", "\t"};

// Behind the last border of the text.
std::size_t behind_border(std::string_view text) {
  std::size_t end = 0;
  for (const std::string_view border : kBorders)
    if (const std::size_t at = text.rfind(border); at != std::string_view::npos)
      end = std::max(end, at + border.size());
  return end;
}

// Without the character at its end that has not come whole yet.
std::size_t whole_characters(std::string_view text) {
  std::size_t at = text.size();
  for (int back = 0; back < 4 && at > 0; ++back) {
    const auto byte = static_cast<unsigned char>(text[--at]);
    if ((byte & 0xc0u) == 0x80u) continue;
    const std::size_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    return at + length <= text.size() ? text.size() : at;
  }
  return text.size();
}

}  // namespace

struct TraditionalChinese::Dictionaries {
  opencc::ConverterPtr converter;
  std::size_t longest_word = 0;  // in bytes
};

Result<std::shared_ptr<const TraditionalChinese>> TraditionalChinese::open() {
  try {
    auto dictionaries = std::make_unique<Dictionaries>();
    dictionaries->converter = opencc::Config().NewFromFile("s2twp.json");
    const auto words =
        std::dynamic_pointer_cast<opencc::MaxMatchSegmentation>(dictionaries->converter->GetSegmentation());
    if (!words) {
      return fail(ErrorCode::kNotFound, "OpenCC's s2twp does not find words as this version expects",
                  "no_opencc");
    }
    dictionaries->longest_word = words->GetDict()->KeyMaxLength();
    return std::shared_ptr<const TraditionalChinese>(new TraditionalChinese(std::move(dictionaries)));
  } catch (const std::exception& e) {
    return fail(ErrorCode::kNotFound, fmt::format("OpenCC's dictionaries cannot be read: {}", e.what()),
                "no_opencc");
  }
}

std::string TraditionalChinese::convert(const std::string& text) const {
  try {
    return dictionaries_->converter->Convert(text);
  } catch (const opencc::Exception&) {
    return text;  // no UTF-8: it is left as it is
  }
}

std::size_t TraditionalChinese::settled(const std::string& text) const {
  const std::size_t border = behind_border(text);
  // Behind the border: each part that ends so far from the end that no word can reach over it. The parts are
  // found from left to right, so that more text moves none of them.
  const std::string rest = text.substr(border, whole_characters(text) - border);
  if (rest.size() < dictionaries_->longest_word) return border;
  std::size_t end = 0;
  const opencc::SegmentsPtr parts = dictionaries_->converter->GetSegmentation()->Segment(rest);
  for (const char* part : *parts) {
    const std::size_t after = end + std::string_view(part).size();
    if (after + dictionaries_->longest_word > rest.size()) break;
    end = after;
  }
  return border + end;
}

#else

struct TraditionalChinese::Dictionaries {};

Result<std::shared_ptr<const TraditionalChinese>> TraditionalChinese::open() {
  return fail(ErrorCode::kUnimplemented, "this build has no OpenCC: install libopencc-dev and build again",
              "no_opencc");
}

std::string TraditionalChinese::convert(const std::string& text) const {
  return text;
}

std::size_t TraditionalChinese::settled(const std::string& text) const {
  return text.size();
}

#endif

TraditionalChinese::TraditionalChinese(std::unique_ptr<Dictionaries> dictionaries)
    : dictionaries_(std::move(dictionaries)) {}

TraditionalChinese::~TraditionalChinese() = default;

std::string TraditionalStream::feed(std::string_view piece) {
  held_ += piece;
  const std::size_t ready = words_->settled(held_);
  std::string out = ready == 0 ? std::string() : words_->convert(held_.substr(0, ready));
  held_.erase(0, ready);
  return out;
}

std::string TraditionalStream::finish() {
  return words_->convert(std::exchange(held_, {}));
}

}  // namespace lm::chat
