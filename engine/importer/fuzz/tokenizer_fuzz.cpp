// libFuzzer: tokenizer.json, or where it begins otherwise than JSON does, tokenizer.model. scripts/fuzz
// builds and runs it, in a folder of its own in memory.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <unistd.h>

#include "checkpoint_folder.h"
#include "text_battery.h"
#include "tokenizer.h"

using namespace lm::importer;
namespace fs = std::filesystem;

namespace {

constexpr std::int64_t kVocabulary = 64;

void check(const Tokenizer& tokenizer) {
  if (tokenizer.tokens.size() != kVocabulary || tokenizer.kinds.size() != kVocabulary) std::abort();
  if (!tokenizer.scores.empty() && tokenizer.scores.size() != kVocabulary) std::abort();
  // The engine ends itself where two tokens have the same text.
  if (std::set(tokenizer.tokens.begin(), tokenizer.tokens.end()).size() != kVocabulary) std::abort();
  for (const auto& id : {tokenizer.bos, tokenizer.eos, tokenizer.eot, tokenizer.unknown, tokenizer.separator,
                         tokenizer.padding, tokenizer.mask}) {
    if (id && (*id < 0 || *id >= kVocabulary)) std::abort();
  }
  (void)texts_without_tokens(tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fs::path folder = [] {
    auto path = fs::path("/dev/shm") / ("tokenizer_fuzz." + std::to_string(::getpid()));
    fs::create_directories(path);
    std::ofstream(path / "config.json") << "{}";
    return path;
  }();
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const bool is_json = bytes.starts_with('{');
  fs::remove(folder / (is_json ? "tokenizer.model" : "tokenizer.json"));
  std::ofstream(folder / (is_json ? "tokenizer.json" : "tokenizer.model"), std::ios::binary) << bytes;
  const auto open = CheckpointFolder::open(folder);
  if (!open) std::abort();
  std::vector<std::string> notices;
  if (const auto tokenizer = read_tokenizer(*open, json::value(json::object()), kVocabulary, notices))
    check(*tokenizer);
  return 0;
}
