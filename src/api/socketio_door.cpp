#include "api/socketio_door.h"

namespace lm::api {
namespace {

KeyHolder holder_in(const http::Admission& admission) {
  return [&admission](std::string_view key) -> std::optional<socketio::Caller> {
    const auto holder = admission.holder_of(key);
    if (!holder) return std::nullopt;
    return socketio::Caller{.principal = holder->principal, .client = holder->client};
  };
}

socketio::ServerOptions options_of(const http::ServerOptions& http, const http::Admission& admission) {
  socketio::ServerOptions options;
  options.sessions = http.limits.connections;
  options.holder_of = holder_in(admission);
  return options;
}

}  // namespace

SocketIoDoor::SocketIoDoor(boost::asio::any_io_executor executor, const Clock& clock,
                           runtime::Runtime& runtime, const http::ServerOptions& http)
    : admission_(http.admission),
      status_(executor, runtime, holder_in(admission_)),
      chat_(executor, runtime, status_, holder_in(admission_)),
      server_(executor, clock, options_of(http, admission_)) {
  server_.add_namespace("/", chat_);
  server_.add_namespace("/status", status_);
}

Task<> SocketIoDoor::stop() {
  co_await chat_.stop();
  co_await server_.stop();
  co_await status_.stop();
}

}  // namespace lm::api
