// What comes back while a model talks: OpenAI's chat completion chunks, one event at a time. Pure.
#pragma once

#include <string>
#include <string_view>

namespace lm::cli {

struct ChatPiece {
  std::string text;       // of the answer
  std::string reasoning;  // of the model's thoughts, where it shows them
  std::string finish;     // "stop", "length"; empty while it goes on
  bool is_end = false;    // [DONE]
  bool is_error = false;  // the data is an error object
};

// Data of any shape: what is not there is empty.
ChatPiece parse_chat_piece(std::string_view data);

}  // namespace lm::cli
