// A client's connection to one namespace, and what stands behind a namespace.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/result.h"
#include "socketio/message.h"
#include "socketio/session.h"

namespace lm::socketio {

// What a client has emitted. Bytes in its arguments are placeholders: attached() finds them.
struct Event {
  std::string name;
  boost::json::array arguments;
  std::vector<std::string> attachments;
  std::optional<std::uint64_t> id;  // where the client wants it acknowledged
};

// Shared by its session and by whoever tells it something later. One thread.
class Socket : public std::enable_shared_from_this<Socket> {
 public:
  Socket(std::shared_ptr<Session> session, std::string id, std::string space, Caller caller);

  const std::string& id() const { return id_; }
  const std::string& space() const { return space_; }
  // As its namespace has let it in.
  const Caller& caller() const { return caller_; }
  void set_caller(Caller caller) { caller_ = std::move(caller); }
  bool connected() const { return connected_ && !session_->closed(); }

  // None of these waits; of one that is not connected any more nothing is told. Whoever tells much asks for
  // room before.
  void emit(std::string_view event, boost::json::array arguments, std::vector<std::string> attachments = {});
  void acknowledge(std::uint64_t id, boost::json::array arguments, std::vector<std::string> attachments = {});
  // Packets of encode_event() for this namespace: what is told to many is written down once.
  void send(const std::vector<Packet>& packets);
  bool has_room() const { return session_->has_room(); }
  // False where it was disconnected first.
  Task<bool> wait_for_room();

 private:
  friend class Client;
  std::shared_ptr<Session> session_;
  std::string id_;
  std::string space_;
  Caller caller_;
  bool connected_ = true;
};

std::vector<Packet> encode_event(std::string_view space, std::string_view event, boost::json::array arguments,
                                 std::vector<std::string> attachments = {});

// What a namespace does. Called on the one thread, from within the transport's reading: nothing here may
// wait. Owned by whoever wires the server; outlives it.
class Namespace {
 public:
  virtual ~Namespace() = default;
  // Whether the caller may connect, with what it sent for that, and as whom. The error is told to it.
  virtual Result<Caller> admit(const Caller& caller, const boost::json::object& auth) = 0;
  virtual void connected(std::shared_ptr<Socket> socket) = 0;
  virtual void event(const std::shared_ptr<Socket>& socket, Event event) = 0;
  // Nothing can be told to it any more.
  virtual void disconnected(const std::shared_ptr<Socket>& socket) = 0;
};

}  // namespace lm::socketio
