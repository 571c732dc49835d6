// Texts that tokenizers differ on, tried at every import: which of them the tokens of a model can carry.
#pragma once

#include <string_view>
#include <vector>

#include "tokenizer.h"

namespace lm::importer {

// Of Chinese, Japanese, Arabic, emoji, code, spaces and broken UTF-8 (as the daemon sends it: U+FFFD), those
// of which some part would become the unknown token or nothing at all, by their names. What a kind of
// tokenizer normalises away before it looks for tokens is none of it. Linear in the vocabulary.
std::vector<std::string_view> texts_without_tokens(const Tokenizer& tokenizer);

}  // namespace lm::importer
