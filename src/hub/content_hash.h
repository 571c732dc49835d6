// The hash of a file's content, as the places that models come from promise it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace lm::hub {

// What was promised of a content. A plain value.
struct Promise {
  enum class Kind : std::uint8_t { kNothing, kSha256, kSha512, kGitSha1 };
  Kind kind = Kind::kNothing;
  std::string hex;  // lower case
  bool operator==(const Promise&) const = default;
  // "sha256:…"; empty where nothing was.
  std::string text() const;
};

// Takes content in pieces.
class ContentHash {
 public:
  // `size`: of the whole content, which git's hash begins with. Of kNothing everything is as promised.
  ContentHash(Promise::Kind kind, Bytes size);
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  void add(std::string_view piece);
  // Lower-case hex. Once, at the end.
  std::string finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lm::hub
