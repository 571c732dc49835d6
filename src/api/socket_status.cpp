#include "api/socket_status.h"

#include <algorithm>
#include <utility>

#include "api/json_text.h"
#include "api/views.h"

namespace lm::api {
namespace {

namespace json = boost::json;

// How often the devices are looked at while somebody watches. The measurements are taken anyway.
constexpr Duration kDevices = std::chrono::seconds(5);
// Between two steps of one load that are told.
constexpr Duration kProgress = std::chrono::milliseconds(250);
constexpr Duration kStopPatience = std::chrono::seconds(2);

std::string text_in(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value != nullptr && value->is_string() ? std::string(value->get_string()) : std::string();
}

// What people want to see of a model; GET /api/v1/models tells the rest.
json::object status_of(const ModelView& view, const runtime::Runtime& runtime, TimePoint now) {
  const json::object whole = to_json(view, runtime, now);
  json::object told{{"model", view.model.id.str()}};
  for (const char* key :
       {"kind", "family", "roles", "state", "detail", "reason", "pinned", "held", "progress", "error"})
    told[key] = whole.at(key);
  return told;
}

}  // namespace

Result<socketio::Caller> admit_caller(const socketio::Caller& caller, const json::object& auth,
                                      const KeyHolder& holder_of) {
  std::string key = text_in(auth, "token");
  if (key.empty()) key = text_in(auth, "key");
  socketio::Caller best = caller;
  bool wrong = false;
  if (!key.empty()) {
    const auto holder = holder_of(key);
    wrong = !holder;
    if (holder && holder->principal >= best.principal) best = *holder;
  }
  if (best.principal >= http::Principal::kUser) return best;
  if (wrong) return fail(ErrorCode::kUnauthenticated, "the key is not one of this server's", "wrong_key");
  return fail(ErrorCode::kUnauthenticated, "a key is needed: io(URL, {auth: {token: KEY}})", "missing_key");
}

SocketStatus::SocketStatus(boost::asio::any_io_executor executor, runtime::Runtime& runtime,
                           KeyHolder holder_of)
    : runtime_(runtime), holder_of_(std::move(holder_of)), gate_(std::move(executor)) {}

Result<socketio::Caller> SocketStatus::admit(const socketio::Caller& caller, const json::object& auth) {
  return admit_caller(caller, auth, holder_of_);
}

void SocketStatus::connected(std::shared_ptr<socketio::Socket> socket) {
  tell(*socket, everything());
  sockets_.emplace(std::move(socket), false);
  if (!following_) following_ = gate_.start(follow());
}

void SocketStatus::event(const std::shared_ptr<socketio::Socket>&, socketio::Event) {}

void SocketStatus::disconnected(const std::shared_ptr<socketio::Socket>& socket) {
  sockets_.erase(socket);
}

Task<> SocketStatus::stop() {
  gate_.cancel();
  co_await gate_.wait_empty(kStopPatience);
}

void SocketStatus::tell(socketio::Socket& socket, const std::vector<Told>& all) {
  for (const Told& told : all) socket.emit(told.name, json::array{told.datum});
}

json::object SocketStatus::devices() const {
  const Snapshot snapshot = runtime_.snapshot();
  const std::vector<DeviceReading> readings = runtime_.readings();
  json::array devices;
  for (const DeviceView& view : snapshot.devices) {
    const auto reading = std::ranges::find(readings, view.device.id, &DeviceReading::device);
    devices.push_back(to_json(view, reading == readings.end() ? nullptr : &*reading));
  }
  return {{"devices", std::move(devices)}};
}

std::vector<SocketStatus::Told> SocketStatus::everything() const {
  std::vector<Told> all;
  const Snapshot snapshot = runtime_.snapshot();
  for (const ModelView& view : snapshot.models)
    all.push_back({.name = "model_status", .datum = status_of(view, runtime_, snapshot.now)});
  all.push_back({.name = "gpu_status", .datum = devices()});
  return all;
}

std::optional<SocketStatus::Told> SocketStatus::news_of(const runtime::Happening& happening) {
  ModelId model;
  const PublishState* state = std::get_if<PublishState>(&happening.news);
  if (state != nullptr) model = state->model;
  if (const auto* progress = std::get_if<runtime::Progress>(&happening.news)) {
    model = progress->model;
    TimePoint& told_at = progress_told_[model];
    if (runtime_.now() - told_at < kProgress) return std::nullopt;
    told_at = runtime_.now();
  }
  if (model.empty()) return std::nullopt;
  const Snapshot snapshot = runtime_.snapshot();
  const auto view =
      std::ranges::find_if(snapshot.models, [&](const ModelView& v) { return v.model.id == model; });
  if (view == snapshot.models.end()) return std::nullopt;
  Told told{.name = "model_status", .datum = status_of(*view, runtime_, snapshot.now)};
  if (state != nullptr) {
    // As it was then: each state is told, also where the next has come already.
    told.datum["state"] = to_string(published(state->state));
    told.datum["detail"] = to_string(state->state);
    if (published(state->state) != PublishedState::kLoading) told.datum["progress"] = nullptr;
    if (state->release) told.datum["release"] = to_json(*state->release);
  }
  return told;
}

void SocketStatus::tell_all(const Told& told) {
  std::map<std::string, std::vector<socketio::Packet>> packets;  // by namespace
  for (auto& [socket, behind] : sockets_) {
    behind = behind || !socket->has_room();
    if (behind) continue;
    std::vector<socketio::Packet>& written = packets[socket->space()];
    if (written.empty())
      written = socketio::encode_event(socket->space(), told.name, json::array{told.datum});
    socket->send(written);
  }
}

Task<> SocketStatus::follow() {
  // Until the last watcher has left, or the daemon stops.
  const std::shared_ptr<void> end(nullptr, [this](void*) { following_ = false; });
  auto news = runtime_.events().subscribe();
  TimePoint look_at = runtime_.now() + kDevices;
  while (!sockets_.empty()) {
    const auto happening = co_await news.next(std::max(look_at - runtime_.now(), Duration()));
    if (news.take_missed()) {
      for (auto& [socket, behind] : sockets_) behind = true;
    }
    if (happening) {
      if (const auto told = news_of(*happening)) tell_all(*told);
    }
    if (runtime_.now() < look_at) continue;
    look_at = runtime_.now() + kDevices;
    json::object now = devices();
    if (std::string text = json_text(now); text != devices_told_) {
      devices_told_ = std::move(text);
      tell_all({.name = "gpu_status", .datum = std::move(now)});
    }
    std::vector<Told> all;
    for (auto& [socket, behind] : sockets_) {
      if (!behind || !socket->has_room()) continue;
      if (all.empty()) all = everything();
      behind = false;
      tell(*socket, all);
    }
  }
}

}  // namespace lm::api
