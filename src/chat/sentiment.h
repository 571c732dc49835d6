// How a text sounds, by the words of a small lexicon in English, 简体中文 and 繁體中文. Pure.
#pragma once

#include <string_view>

namespace lm::chat {

// From -1 (all of its words that have a tone are bad) to 1; 0 where none has. A word behind a negation
// ("not", "不", "沒有") counts as its opposite. English words count whole, in any case; Chinese ones wherever
// they stand.
double sentiment(std::string_view text);

}  // namespace lm::chat
