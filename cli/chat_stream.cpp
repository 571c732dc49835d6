#include "cli/chat_stream.h"

#include <boost/json/array.hpp>

#include "cli/json_view.h"

namespace lm::cli {

ChatPiece parse_chat_piece(std::string_view data) {
  ChatPiece piece;
  if (data == "[DONE]") {
    piece.is_end = true;
    return piece;
  }
  const auto value = parse_json(data);
  if (!value) return piece;
  if (object_of(*value, "error") != nullptr) {
    piece.is_error = true;
    return piece;
  }
  const auto* choices = array_of(*value, "choices");
  if (choices == nullptr || choices->empty()) return piece;
  const boost::json::value& choice = choices->front();
  // "message" where the whole answer came at once.
  for (const std::string_view key : {"delta", "message"}) {
    const auto* delta = member_of(choice, key);
    if (delta == nullptr) continue;
    piece.text += text_of(*delta, "content");
    piece.reasoning += text_of(*delta, "reasoning_content");
  }
  piece.finish = text_of(choice, "finish_reason");
  return piece;
}

}  // namespace lm::cli
