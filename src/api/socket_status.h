// What models and devices do, told to clients of Socket.IO as it happens: model_status and gpu_status.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/gate.h"
#include "runtime/runtime.h"
#include "socketio/socket.h"

namespace lm::api {

// Whose key that is; empty where it is nobody's.
using KeyHolder = std::function<std::optional<socketio::Caller>(std::string_view key)>;

// Lets in who came with a key, or brings one now: {"token": KEY} or {"key": KEY}. kUnauthenticated
// "missing_key", "wrong_key".
Result<socketio::Caller> admit_caller(const socketio::Caller& caller, const boost::json::object& auth,
                                      const KeyHolder& holder_of);

// The namespace "/status", and the part of others that tells the same. One thread; outlives its sockets.
//
// Each client is told all of it when it comes, then what changes. Who is too slow for that is told all of it
// again when it has caught up: a state that has passed is worth nothing to it, and nobody waits for it.
class SocketStatus final : public socketio::Namespace {
 public:
  // `runtime` outlives it.
  SocketStatus(boost::asio::any_io_executor executor, runtime::Runtime& runtime, KeyHolder holder_of);

  Result<socketio::Caller> admit(const socketio::Caller& caller, const boost::json::object& auth) override;
  void connected(std::shared_ptr<socketio::Socket> socket) override;
  void event(const std::shared_ptr<socketio::Socket>& socket, socketio::Event event) override;
  void disconnected(const std::shared_ptr<socketio::Socket>& socket) override;

  // Its task ends with this.
  Task<> stop();

 private:
  struct Told {
    std::string name;
    boost::json::object datum;
  };

  Task<> follow();
  // All that there is to tell.
  std::vector<Told> everything() const;
  std::optional<Told> news_of(const runtime::Happening& happening);
  boost::json::object devices() const;
  void tell_all(const Told& told);
  static void tell(socketio::Socket& socket, const std::vector<Told>& told);

  runtime::Runtime& runtime_;
  KeyHolder holder_of_;
  Gate gate_;
  std::map<std::shared_ptr<socketio::Socket>, bool> sockets_;  // and whether it has missed something
  std::map<ModelId, TimePoint> progress_told_;
  std::string devices_told_;
  bool following_ = false;
};

}  // namespace lm::api
