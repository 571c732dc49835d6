#include "token_table.h"

#include <utility>

#include <fmt/format.h>

#include "refusal.h"

namespace lm::importer {
namespace {

constexpr std::size_t kLongestToken = 4'096;
constexpr float kNeverMerged = -10'000;

}  // namespace

TokenTable::TokenTable(std::int64_t vocabulary)
    : tokens_(static_cast<std::size_t>(vocabulary)),
      kinds_(static_cast<std::size_t>(vocabulary), TokenKind::kUnused),
      scores_(static_cast<std::size_t>(vocabulary), kNeverMerged) {
  ids_.reserve(tokens_.size());
}

Result<void> TokenTable::add(std::int64_t id, std::string_view text, TokenKind kind, float score) {
  if (id < 0) return refuse(fmt::format("its token {} has the id {}", in_quotes(text), id));
  if (id >= size()) {
    ++left_out_;
    return {};
  }
  if (text.empty() || text.size() > kLongestToken || text.find('\0') != std::string_view::npos)
    return refuse(fmt::format("its token {} has a text of {} bytes that none can have", id, text.size()));
  const auto at = static_cast<std::size_t>(id);
  if (!tokens_[at].empty())
    return refuse(
        fmt::format("its tokens {} and {} have the same id {}", in_quotes(tokens_[at]), in_quotes(text), id));
  if (!ids_.emplace(text, id).second) return refuse(fmt::format("its token {} comes twice", in_quotes(text)));
  tokens_[at] = text;
  kinds_[at] = kind;
  scores_[at] = score;
  return {};
}

Result<void> TokenTable::amend(std::int64_t id, std::string_view text, TokenKind kind) {
  if (!has(id)) return add(id, text, kind, kNeverMerged);
  const auto at = static_cast<std::size_t>(id);
  if (tokens_[at] != text) {
    return refuse(fmt::format("its token {} is {} in the vocabulary and {} among the added ones", id,
                              in_quotes(tokens_[at]), in_quotes(text)));
  }
  kinds_[at] = kind;
  return {};
}

std::optional<std::int64_t> TokenTable::id_of(std::string_view text) const {
  const auto found = ids_.find(std::string(text));
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

bool TokenTable::has(std::int64_t id) const {
  return id >= 0 && id < size() && !tokens_[static_cast<std::size_t>(id)].empty();
}

void TokenTable::finish(Tokenizer& out, bool with_scores) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (!tokens_[i].empty()) continue;
    tokens_[i] = fmt::format("[PAD{}]", i);
    // The name may be taken by a token of the model's own.
    while (ids_.contains(tokens_[i])) tokens_[i] += '_';
    ids_.emplace(tokens_[i], static_cast<std::int64_t>(i));
  }
  out.tokens = std::move(tokens_);
  out.kinds = std::move(kinds_);
  if (with_scores) out.scores = std::move(scores_);
}

}  // namespace lm::importer
