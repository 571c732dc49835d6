// A question as the messages that a model is given. Pure.
#pragma once

#include <cstddef>
#include <vector>

#include "llm_manager/question.h"

namespace lm::client {

// One system message with the instructions, the context and the numbered passages, where there are any; then
// the history from its turn `first` on; then the prompt.
std::vector<llm_manager::Message> messages_of(const llm_manager::Question& question, std::size_t first = 0);

// More tokens than these messages can become: no tokenizer makes more tokens of a text than it has bytes, and
// a template adds a few words to each message.
std::size_t most_tokens(const std::vector<llm_manager::Message>& messages);

}  // namespace lm::client
