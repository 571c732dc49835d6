// From simplified to Taiwan's traditional Chinese, words and not only characters (OpenCC's s2twp).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::chat {

// The dictionaries: tens of megabytes, read once. Shared, used from one thread at a time.
class TraditionalChinese {
 public:
  // Blocks while they are read. kUnimplemented "no_opencc" where this build has no OpenCC; kNotFound
  // "no_opencc" where its dictionaries (Debian's libopencc-data) are not there.
  static Result<std::shared_ptr<const TraditionalChinese>> open();
  ~TraditionalChinese();

  std::string convert(const std::string& text) const;

 private:
  friend class TraditionalStream;
  struct Dictionaries;
  explicit TraditionalChinese(std::unique_ptr<Dictionaries> dictionaries);
  // How many bytes of `text` will be converted as they are now whatever follows.
  std::size_t settled(const std::string& text) const;

  std::unique_ptr<Dictionaries> dictionaries_;
};

// The same for a text that comes in pieces, which may be cut anywhere, in the middle of a character too: all
// that comes out together is what convert() makes of all that went in. It holds back what a longer word may
// still claim: less than a sentence.
class TraditionalStream {
 public:
  explicit TraditionalStream(std::shared_ptr<const TraditionalChinese> words) : words_(std::move(words)) {}

  std::string feed(std::string_view piece);
  std::string finish();

 private:
  std::shared_ptr<const TraditionalChinese> words_;
  std::string held_;
};

}  // namespace lm::chat
