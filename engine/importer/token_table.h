// The tokens of a tokenizer while they are collected from several files: each id once, each text once.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "tokenizer.h"

namespace lm::importer {

class TokenTable {
 public:
  explicit TokenTable(std::int64_t vocabulary);

  // A token of the model's vocabulary. Ids beyond the embeddings are counted in left_out(). Errors: refuses
  // a negative id, an id that is taken, an empty or endless text.
  Result<void> add(std::int64_t id, std::string_view text, TokenKind kind, float score = 0);
  // A token that stands beside the vocabulary, or changes what one of it is.
  Result<void> amend(std::int64_t id, std::string_view text, TokenKind kind);

  // As the checkpoint writes it.
  std::optional<std::int64_t> id_of(std::string_view text) const;
  std::string_view text_of(std::int64_t id) const { return tokens_[static_cast<std::size_t>(id)]; }
  TokenKind kind_of(std::int64_t id) const { return kinds_[static_cast<std::size_t>(id)]; }
  void set_score(std::int64_t id, float score) { scores_[static_cast<std::size_t>(id)] = score; }
  bool has(std::int64_t id) const;
  std::int64_t size() const { return static_cast<std::int64_t>(tokens_.size()); }
  std::int64_t left_out() const { return left_out_; }

  // Moves tokens, kinds and scores into `out`; gaps become unused tokens. Only id_of() and left_out() are
  // legal after.
  void finish(Tokenizer& out, bool with_scores);

 private:
  std::vector<std::string> tokens_;
  std::vector<TokenKind> kinds_;
  std::vector<float> scores_;
  std::unordered_map<std::string, std::int64_t> ids_;
  std::int64_t left_out_ = 0;
};

}  // namespace lm::importer
