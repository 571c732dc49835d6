#include "api/socket_conversation.h"

#include <algorithm>
#include <utility>

namespace lm::api {

namespace json = boost::json;

void SocketConversation::join(std::shared_ptr<socketio::Socket> socket) {
  if (has(*socket)) return;
  // An answer that is under way is heard from its beginning.
  members_.push_back({.socket = std::move(socket)});
}

void SocketConversation::leave(const socketio::Socket& socket) {
  std::erase_if(members_, [&](const Member& member) { return member.socket.get() == &socket; });
}

bool SocketConversation::has(const socketio::Socket& socket) const {
  return std::ranges::any_of(members_, [&](const Member& member) { return member.socket.get() == &socket; });
}

void SocketConversation::begin(const std::string& id) {
  id_ = id;
  said_.clear();
  for (Member& member : members_) member.piece = member.offset = 0;
}

void SocketConversation::say(InnerExchange::Piece piece) {
  if (said_.empty() || said_.back().is_thinking != piece.is_thinking) {
    said_.push_back(std::move(piece));
  } else {
    said_.back().text += piece.text;
  }
  catch_up();
}

std::size_t SocketConversation::behind(const socketio::Socket& socket) const {
  const auto member =
      std::ranges::find_if(members_, [&](const Member& m) { return m.socket.get() == &socket; });
  if (member == members_.end()) return 0;
  std::size_t bytes = 0;
  for (std::size_t i = member->piece; i < said_.size(); ++i) bytes += said_[i].text.size();
  return bytes - std::min(bytes, member->offset);
}

void SocketConversation::catch_up(bool whatever) {
  for (Member& member : members_) {
    while (member.piece < said_.size() && (whatever || member.socket->has_room())) {
      const InnerExchange::Piece& piece = said_[member.piece];
      if (member.offset < piece.text.size()) {
        member.socket->emit(
            "chat_chunk",
            json::array{in_room({{"id", id_},
                                 {"role", "assistant"},
                                 {"type", piece.is_thinking ? "thinking" : "text"},
                                 {"content", std::string_view(piece.text).substr(member.offset)}})});
        member.offset = piece.text.size();
      }
      // The last may grow.
      if (member.piece + 1 == said_.size()) break;
      ++member.piece;
      member.offset = 0;
    }
  }
}

std::string SocketConversation::text() const {
  std::string text;
  for (const InnerExchange::Piece& piece : said_) {
    if (!piece.is_thinking) text += piece.text;
  }
  return text;
}

json::object SocketConversation::in_room(json::object datum) const {
  if (!room_.is_null()) datum["room_id"] = room_;
  return datum;
}

void SocketConversation::tell(std::string_view event, json::object datum, const socketio::Socket* but) {
  datum = in_room(std::move(datum));
  for (const Member& member : members_) {
    if (member.socket.get() != but) member.socket->emit(event, json::array{datum});
  }
}

}  // namespace lm::api
