// A conversation over Socket.IO: who listens to it, the answer that is being given, and what each has heard
// of it.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "api/chat_history.h"
#include "api/inner_exchange.h"
#include "base/gate.h"
#include "domain/ids.h"
#include "socketio/socket.h"

namespace lm::api {

struct SocketQuestion {
  std::string id;
  std::string text;
  std::vector<std::string> pictures;  // as data: URLs
  std::string selected;               // the name of a model, as it was asked for
  ModelId model;                      // and which that is
  socketio::Caller caller;
  std::shared_ptr<socketio::Socket> asker;
};

// Shared by the chat and the task that answers. One thread.
//
// A piece of an answer is told at once to everybody whose connection has room for it. Who has none hears it
// later, joined with what came after it: so nobody loses anything, and nobody waits for the slow ones. Only
// where the asker itself is far behind does the answer wait.
class SocketConversation {
 public:
  // `room`: as its members name it; null of a conversation with one socket.
  SocketConversation(boost::asio::any_io_executor executor, boost::json::value room)
      : answering(std::move(executor)), room_(std::move(room)) {}

  void join(std::shared_ptr<socketio::Socket> socket);
  void leave(const socketio::Socket& socket);
  bool has(const socketio::Socket& socket) const;
  bool is_empty() const { return members_.empty(); }

  // ---- an answer
  void begin(const std::string& id);
  void say(InnerExchange::Piece piece);
  // Bytes of the answer that this member has not been told yet.
  std::size_t behind(const socketio::Socket& socket) const;
  // Tells those who have room what they have not heard; all of it to everybody where `whatever` is set.
  void catch_up(bool whatever = false);
  // The answer's text, without what the model thought.
  std::string text() const;

  // With the room's name, to everybody; or to everybody but one.
  void tell(std::string_view event, boost::json::object datum, const socketio::Socket* but = nullptr);
  // The same datum as tell() would have it.
  boost::json::object in_room(boost::json::object datum) const;

  ChatHistory history;
  std::deque<SocketQuestion> waiting;
  bool busy = false;         // a question is being answered
  bool stop_wanted = false;  // somebody has asked for the answer's end
  Gate answering;

 private:
  struct Member {
    std::shared_ptr<socketio::Socket> socket;
    std::size_t piece = 0;   // of said_
    std::size_t offset = 0;  // in that piece
  };

  boost::json::value room_;
  std::vector<Member> members_;
  std::string id_;                          // of the answer
  std::vector<InnerExchange::Piece> said_;  // neighbours of one kind are one
};

}  // namespace lm::api
