// Chat over Socket.IO: chat_message and translation_request in; chat_chunk, chat_done, chat_error and
// translation_result out. docs/socketio.md describes them.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "api/socket_conversation.h"
#include "api/socket_status.h"
#include "http/router.h"
#include "runtime/runtime.h"

namespace lm::api {

// The namespace "/". One thread; outlives its sockets. A question goes the way of every request for
// /v1/chat/completions, so that whatever holds for those holds here.
class SocketChat final : public socketio::Namespace {
 public:
  static constexpr std::size_t kMostWaiting = 8;       // questions of one conversation
  static constexpr std::size_t kMostTranslations = 4;  // of one socket at a time
  static constexpr std::size_t kMostRooms = 256;       // remembered, with nobody in them
  static constexpr std::size_t kMostRoomsOfOne = 64;   // that a socket is in
  static constexpr std::size_t kMostBehind = std::size_t{256}
                                             << 10;  // bytes an asker may be behind its answer

  // `runtime` and `status` outlive it.
  SocketChat(boost::asio::any_io_executor executor, runtime::Runtime& runtime, SocketStatus& status,
             KeyHolder holder_of);

  Result<socketio::Caller> admit(const socketio::Caller& caller, const boost::json::object& auth) override;
  void connected(std::shared_ptr<socketio::Socket> socket) override;
  void event(const std::shared_ptr<socketio::Socket>& socket, socketio::Event event) override;
  void disconnected(const std::shared_ptr<socketio::Socket>& socket) override;

  // Ends what is being answered.
  Task<> stop();

 private:
  // What a socket has here; made when it first asks.
  struct Person {
    explicit Person(boost::asio::any_io_executor executor) : translating(std::move(executor)) {}
    std::vector<std::shared_ptr<SocketConversation>> conversations;
    std::shared_ptr<SocketConversation> own;
    Gate translating;
  };
  struct Room {
    std::string name;
    std::shared_ptr<SocketConversation> conversation;
  };

  void chat_message(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event);
  void chat_stop(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event);
  void join_room(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event);
  void leave_room(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event);
  void translation_request(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event);

  Person& person(const std::shared_ptr<socketio::Socket>& socket);
  // The conversation that an event belongs to: its room's, or the socket's own. Joins it.
  Result<std::shared_ptr<SocketConversation>> conversation_of(const std::shared_ptr<socketio::Socket>& socket,
                                                              const boost::json::object& datum);
  // The same where the socket is in it already; else null.
  std::shared_ptr<SocketConversation> joined(const std::shared_ptr<socketio::Socket>& socket,
                                             const boost::json::object& datum);
  std::shared_ptr<SocketConversation> room(const std::string& name, const boost::json::value& id);
  void forget_rooms();
  void leave(const std::shared_ptr<SocketConversation>& conversation, const socketio::Socket& socket);

  void answer_next(std::shared_ptr<SocketConversation> conversation);
  Task<> answer(std::shared_ptr<SocketConversation> conversation, SocketQuestion question);
  Task<> translate(std::shared_ptr<socketio::Socket> socket, boost::json::object result, std::string prompt,
                   std::optional<std::uint64_t> ack);
  static Task<Result<void>> hear(std::shared_ptr<SocketConversation> conversation,
                                 std::shared_ptr<socketio::Socket> asker, InnerExchange::Piece piece);

  boost::asio::any_io_executor executor_;
  runtime::Runtime& runtime_;
  SocketStatus& status_;
  KeyHolder holder_of_;
  http::RouteFunction complete_;
  std::map<const socketio::Socket*, Person> people_;
  std::list<Room> rooms_;  // least recently used first
  Gate gate_;              // what is being answered
  bool stopping_ = false;
};

}  // namespace lm::api
