// Socket.IO on one session: reads what the client sends, and keeps its connections to namespaces.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/time.h"
#include "socketio/message.h"
#include "socketio/session.h"
#include "socketio/socket.h"

namespace lm::socketio {

using Namespaces = std::map<std::string, Namespace*, std::less<>>;

// Owned by the server, which ends it when the session closes. One thread.
class Client {
 public:
  // `spaces` outlives it. `connect_by`: who is in no namespace by then is closed.
  Client(std::shared_ptr<Session> session, const Namespaces& spaces, MessageLimits limits,
         TimePoint connect_by);

  Session& session() const { return *session_; }
  const std::shared_ptr<Session>& shared_session() const { return session_; }

  // What came of the client, by whichever transport. Closes the session where it makes no sense.
  void take(Packet packet, TimePoint now);
  // Heartbeat, and the limit of those who do not connect.
  void beat(TimePoint now);
  // The session is closed: every namespace is told.
  void end();

 private:
  void take_message(Message message);
  void connect(const std::string& space, const boost::json::value& auth);
  std::shared_ptr<Socket> find(std::string_view space) const;
  void leave(std::shared_ptr<Socket> socket);

  std::shared_ptr<Session> session_;
  const Namespaces& spaces_;
  MessageReader reader_;
  TimePoint connect_by_;
  std::vector<std::shared_ptr<Socket>> sockets_;  // at most one for each namespace
};

// Twenty characters that nobody guesses.
std::string make_id();

}  // namespace lm::socketio
