// Where a model is pulled from, as people write it. A plain value; parsing is pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lm::hub {

struct Source {
  enum class Kind : std::uint8_t { kHuggingFace, kOllama, kAddress, kNpm };
  Kind kind = Kind::kHuggingFace;
  std::string host;      // of Ollama's registry, where it is another one than the usual; with its port
  std::string name;      // "OWNER/REPO", "NAMESPACE/NAME", the address, "PACKAGE" or "@SCOPE/PACKAGE"
  std::string pick;      // Hugging Face: a quantisation or a file; empty: the usual one
  std::string revision;  // a branch, tag or commit; Ollama's tag; npm's version; empty for addresses
  // An address's query, with its "?": it may be a key, or a signature, so nobody writes it down. Addresses
  // that differ only there are the same file.
  std::string query{};

  bool operator==(const Source&) const = default;
  // With everything that was left out, so that two ways of writing the same are the same:
  // "hf:OWNER/REPO@main", "ollama:library/NAME:latest". Of a query only kHiddenQuery is told: for lists,
  // records and logs.
  std::string text() const;
  // That, with the query: for whoever fetches.
  std::string secret_text() const;
};

// Ends the text of an address that has a query. No source that people write has it.
inline constexpr std::string_view kHiddenQuery = "?…";
// The text without that.
std::string_view without_query(std::string_view text);

// "hf:OWNER/REPO[:QUANT|:FILE][@REVISION]", "ollama:[HOST/][NAMESPACE/]NAME[:TAG]", "https://…",
// "npm:PACKAGE@VERSION". kInvalidArgument "bad_source" says which part is wrong and how it is written.
Result<Source> parse_source(std::string_view text);

// What a model_path or MODEL_NAME names where it is no path: a source as above, or OWNER/REPO of Hugging
// Face's hub. nullopt where it is none. Of OWNER/REPO a file or folder that is there is for the caller to
// prefer.
std::optional<Source> named_source(std::string_view model_path);

// Whether that may be a file's path inside of a folder of ours: relative, at most 8 folders, no segment that
// is empty, hidden, "." or "..", longer than 200 bytes or with control characters or backslashes.
bool is_safe_path(std::string_view path);

}  // namespace lm::hub
