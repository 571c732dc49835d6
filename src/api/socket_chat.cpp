#include "api/socket_chat.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>
#include <fmt/format.h>

#include "api/error_shape.h"
#include "api/inference.h"
#include "api/json_body.h"
#include "api/json_text.h"
#include "api/ollama_answer.h"
#include "base/log.h"
#include "socketio/base64.h"
#include "socketio/client.h"

namespace lm::api {
namespace {

namespace json = boost::json;

constexpr Duration kStopPatience = std::chrono::seconds(2);
constexpr std::string_view kDefaultModel = "local_default";
constexpr std::string_view kKnowledgeModel = "knowledge";
constexpr std::string_view kTranslationModel = "translation";

std::string now_text() {
  return rfc3339(std::chrono::floor<std::chrono::milliseconds>(std::chrono::system_clock::now()));
}

Error wrong(std::string what) {
  return fail(ErrorCode::kInvalidArgument, std::move(what), "invalid_field").error();
}

// What an error event says: code, message, and numbers where there are some.
json::object told_error(const Error& error) {
  const json::value shaped = error_json(error).at("error");
  json::object told;
  for (const char* key : {"code", "message", "details", "retry_after_s"}) {
    if (const json::value* value = shaped.get_object().if_contains(key)) told[key] = *value;
  }
  return told;
}

void acknowledge(socketio::Socket& socket, const std::optional<std::uint64_t>& id, json::object datum) {
  if (id) socket.acknowledge(*id, json::array{std::move(datum)});
}

// The object that an event carries.
Result<json::object> datum_of(const socketio::Event& event) {
  if (event.arguments.empty() || !event.arguments.front().is_object())
    return fail(wrong(fmt::format("{} carries an object", event.name.substr(0, 40))));
  return event.arguments.front().get_object();
}

std::string_view type_of_picture(std::string_view bytes) {
  if (bytes.starts_with("\x89PNG")) return "image/png";
  if (bytes.starts_with("GIF8")) return "image/gif";
  if (bytes.starts_with("RIFF")) return "image/webp";
  return "image/jpeg";
}

// Bytes, a data: URL, or base64.
Result<std::vector<std::string>> pictures_of(const json::object& datum,
                                             const std::vector<std::string>& attachments) {
  std::vector<std::string> pictures;
  const json::value* images = datum.if_contains("images");
  if (images == nullptr || images->is_null()) return pictures;
  if (!images->is_array()) return fail(wrong("\"images\" must be a list"));
  for (const json::value& image : images->get_array()) {
    const std::string* bytes = socketio::attached(image, attachments);
    std::optional<std::string> decoded;
    if (bytes == nullptr && image.is_string()) {
      const std::string_view text = image.get_string();
      if (text.starts_with("data:")) {
        pictures.emplace_back(text);
        continue;
      }
      decoded = socketio::from_base64(text);
      if (decoded) bytes = &*decoded;
    }
    if (bytes == nullptr) return fail(wrong("a picture must be its bytes, base64 of them, or a data: URL"));
    pictures.push_back(fmt::format("data:{};base64,{}", type_of_picture(*bytes), socketio::base64(*bytes)));
  }
  return pictures;
}

std::string chat_body(const ChatHistory& history, const SocketQuestion& question) {
  json::array messages;
  for (const ChatHistory::Turn& turn : history.turns()) {
    messages.push_back({{"role", "user"}, {"content", turn.question}});
    messages.push_back({{"role", "assistant"}, {"content", turn.answer}});
  }
  json::value content = json::string(question.text);
  if (!question.pictures.empty()) {
    json::array parts{json::object{{"type", "text"}, {"text", question.text}}};
    for (const std::string& url : question.pictures)
      parts.push_back({{"type", "image_url"}, {"image_url", {{"url", url}}}});
    content = std::move(parts);
  }
  messages.push_back({{"role", "user"}, {"content", std::move(content)}});
  return json_text(
      json::object{{"model", question.selected}, {"messages", std::move(messages)}, {"stream", true}});
}

}  // namespace

SocketChat::SocketChat(boost::asio::any_io_executor executor, runtime::Runtime& runtime, SocketStatus& status,
                       KeyHolder holder_of)
    : executor_(executor),
      runtime_(runtime),
      status_(status),
      holder_of_(std::move(holder_of)),
      complete_(inference_at(runtime, "/v1/chat/completions")),
      gate_(executor) {}

Result<socketio::Caller> SocketChat::admit(const socketio::Caller& caller, const json::object& auth) {
  return admit_caller(caller, auth, holder_of_);
}

void SocketChat::connected(std::shared_ptr<socketio::Socket> socket) {
  status_.connected(std::move(socket));
}

void SocketChat::event(const std::shared_ptr<socketio::Socket>& socket, socketio::Event event) {
  if (event.name == "chat_message") return chat_message(socket, event);
  if (event.name == "chat_stop") return chat_stop(socket, event);
  if (event.name == "join_room") return join_room(socket, event);
  if (event.name == "leave_room") return leave_room(socket, event);
  if (event.name == "translation_request") return translation_request(socket, event);
  log::debug("socket.io {}: nobody listens to {}", socket->id(), event.name.substr(0, 40));
}

void SocketChat::disconnected(const std::shared_ptr<socketio::Socket>& socket) {
  status_.disconnected(socket);
  const auto found = people_.find(socket.get());
  if (found == people_.end()) return;
  for (const auto& conversation : found->second.conversations) leave(conversation, *socket);
  found->second.translating.cancel();
  people_.erase(found);
}

Task<> SocketChat::stop() {
  stopping_ = true;
  for (auto& [socket, one] : people_) {
    one.translating.cancel();
    for (const auto& conversation : one.conversations) conversation->answering.cancel();
  }
  co_await gate_.wait_empty(kStopPatience);
}

// ---- who talks where

SocketChat::Person& SocketChat::person(const std::shared_ptr<socketio::Socket>& socket) {
  return people_.try_emplace(socket.get(), executor_).first->second;
}

Result<std::shared_ptr<SocketConversation>> SocketChat::conversation_of(
    const std::shared_ptr<socketio::Socket>& socket, const json::object& datum) {
  Person& one = person(socket);
  const json::value* id = datum.if_contains("room_id");
  std::shared_ptr<SocketConversation> conversation;
  if (id == nullptr || id->is_null()) {
    if (!one.own) one.own = std::make_shared<SocketConversation>(executor_, nullptr);
    conversation = one.own;
  } else {
    if (!id->is_string() && !id->is_int64())
      return fail(wrong("\"room_id\" must be a string or a whole number"));
    conversation = room(json_text(*id), *id);
  }
  if (conversation->has(*socket)) return conversation;
  if (one.conversations.size() >= kMostRoomsOfOne)
    return fail(ErrorCode::kResourceExhausted, "too many rooms: leave one first", "too_many_rooms");
  one.conversations.push_back(conversation);
  conversation->join(socket);
  return conversation;
}

std::shared_ptr<SocketConversation> SocketChat::joined(const std::shared_ptr<socketio::Socket>& socket,
                                                       const json::object& datum) {
  const json::value* id = datum.if_contains("room_id");
  if (id == nullptr || id->is_null()) return person(socket).own;
  const auto found = std::ranges::find(rooms_, json_text(*id), &Room::name);
  if (found == rooms_.end() || !found->conversation->has(*socket)) return nullptr;
  return found->conversation;
}

std::shared_ptr<SocketConversation> SocketChat::room(const std::string& name, const json::value& id) {
  const auto found = std::ranges::find(rooms_, name, &Room::name);
  if (found != rooms_.end()) {
    rooms_.splice(rooms_.end(), rooms_, found);
    return rooms_.back().conversation;
  }
  rooms_.push_back({.name = name, .conversation = std::make_shared<SocketConversation>(executor_, id)});
  forget_rooms();
  return rooms_.back().conversation;
}

// What was said in a room outlives its members' connections, but not for ever.
void SocketChat::forget_rooms() {
  if (rooms_.size() <= kMostRooms) return;
  const auto last = std::prev(rooms_.end());
  const auto idle =
      std::find_if(rooms_.begin(), last, [](const Room& one) { return one.conversation->is_empty(); });
  if (idle != last) rooms_.erase(idle);
}

void SocketChat::leave(const std::shared_ptr<SocketConversation>& conversation,
                       const socketio::Socket& socket) {
  conversation->leave(socket);
  if (!conversation->is_empty()) return;
  // Nobody listens: the model is free for others.
  conversation->waiting.clear();
  conversation->answering.cancel();
}

void SocketChat::join_room(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event) {
  const auto datum = datum_of(event);
  Error error = datum ? wrong("join_room carries {room_id}") : datum.error();
  if (datum && datum->contains("room_id")) {
    const auto conversation = conversation_of(socket, *datum);
    if (conversation) return acknowledge(*socket, event.id, {{"room_id", datum->at("room_id")}});
    error = conversation.error();
  }
  socket->emit("chat_error", json::array{told_error(error)});
  acknowledge(*socket, event.id, {{"error", told_error(error)}});
}

void SocketChat::leave_room(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event) {
  const auto datum = datum_of(event);
  const auto conversation = datum && datum->contains("room_id") ? joined(socket, *datum) : nullptr;
  if (conversation) {
    std::erase(person(socket).conversations, conversation);
    leave(conversation, *socket);
  }
  acknowledge(*socket, event.id, {});
}

// ---- questions

void SocketChat::chat_message(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event) {
  const auto refuse = [&](const Error& error, const json::object& datum) {
    json::object told = told_error(error);
    if (const json::value* id = datum.if_contains("room_id")) told["room_id"] = *id;
    acknowledge(*socket, event.id, {{"error", told}});
    socket->emit("chat_error", json::array{std::move(told)});
  };
  const auto datum = datum_of(event);
  if (!datum) return refuse(datum.error(), {});
  const auto text = string_field(*datum, "message");
  if (!text) return refuse(text.error(), *datum);
  if (!*text || (*text)->empty()) return refuse(wrong("\"message\" must be what is asked"), *datum);
  auto selected = string_field(*datum, "selected_model");
  if (!selected) return refuse(selected.error(), *datum);
  const auto knowledge = bool_field(*datum, "knowledge_qa_enabled", false);
  if (!knowledge) return refuse(knowledge.error(), *datum);
  auto pictures = pictures_of(*datum, event.attachments);
  if (!pictures) return refuse(pictures.error(), *datum);
  SocketQuestion question{.id = socketio::make_id(),
                          .text = **text,
                          .pictures = *std::move(pictures),
                          .selected = selected->value_or(""),
                          .model = {},
                          .caller = socket->caller(),
                          .asker = socket};
  if (question.selected.empty()) question.selected = *knowledge ? kKnowledgeModel : kDefaultModel;
  auto model = runtime_.catalog().resolve(question.selected);
  if (!model) return refuse(model.error(), *datum);
  question.model = *std::move(model);
  auto conversation = conversation_of(socket, *datum);
  if (!conversation) return refuse(conversation.error(), *datum);
  if ((*conversation)->waiting.size() >= kMostWaiting) {
    return refuse(fail(ErrorCode::kResourceExhausted,
                       "too many questions wait for an answer in this conversation", "queue_full")
                      .error(),
                  *datum);
  }
  acknowledge(*socket, event.id,
              (*conversation)->in_room({{"id", question.id}, {"model_used", question.model.str()}}));
  (*conversation)
      ->tell("chat_message",
             {{"id", question.id},
              {"role", "user"},
              {"content", question.text},
              {"timestamp", now_text()},
              {"type", "text"},
              {"sender", socket->id()}},
             socket.get());
  (*conversation)->waiting.push_back(std::move(question));
  answer_next(*std::move(conversation));
}

void SocketChat::chat_stop(const std::shared_ptr<socketio::Socket>& socket, const socketio::Event& event) {
  const auto conversation = joined(socket, datum_of(event).value_or(json::object()));
  const bool stops = conversation && conversation->busy;
  if (stops) {
    conversation->stop_wanted = true;
    conversation->answering.cancel();
  }
  acknowledge(*socket, event.id, {{"stopped", stops}});
}

void SocketChat::answer_next(std::shared_ptr<SocketConversation> conversation) {
  if (stopping_ || conversation->busy || conversation->waiting.empty()) return;
  conversation->busy = true;
  SocketQuestion question = std::move(conversation->waiting.front());
  conversation->waiting.pop_front();
  Gate& answering = conversation->answering;
  answering.start(answer(std::move(conversation), std::move(question)));
}

// A piece of the answer is there. It waits only where its asker is far behind.
Task<Result<void>> SocketChat::hear(std::shared_ptr<SocketConversation> conversation,
                                    std::shared_ptr<socketio::Socket> asker, InnerExchange::Piece piece) {
  conversation->say(std::move(piece));
  while (conversation->behind(*asker) > kMostBehind) {
    if (!co_await asker->wait_for_room()) break;
    conversation->catch_up();
  }
  if (conversation->is_empty()) co_return fail(ErrorCode::kCancelled, "everybody has left", "client_gone");
  co_return Result<void>();
}

Task<> SocketChat::answer(std::shared_ptr<SocketConversation> conversation, SocketQuestion question) {
  const auto hold = gate_.enter();
  // However it ends, the next question's turn comes.
  const std::shared_ptr<void> turn(nullptr, [this, conversation](void*) {
    conversation->busy = conversation->stop_wanted = false;
    boost::asio::post(executor_, [this, conversation] { answer_next(conversation); });
  });
  std::optional<Error> error;
  std::string finish;
  for (bool again = true; std::exchange(again, false);) {
    conversation->begin(question.id);
    const InnerExchange::Say say = [conversation, asker = question.asker](InnerExchange::Piece piece) {
      return hear(conversation, asker, std::move(piece));
    };
    InnerExchange exchange(executor_, chat_body(conversation->history, question), question.caller.principal,
                           question.caller.client, say);
    try {
      co_await complete_(exchange);
    } catch (const boost::system::system_error&) {
      if (!conversation->stop_wanted) throw;
    }
    if (conversation->is_empty()) co_return;
    if (conversation->stop_wanted) {
      finish = "stopped";
      break;
    }
    error = exchange.error();
    finish = exchange.finish();
    // The oldest that was said gives way, as in a person's memory.
    again = error && error->reason == "context_length_exceeded" && !conversation->history.turns().empty();
    if (again) conversation->history.forget_half();
  }
  // The asker hears all of it; of others whoever is slow hears the rest in one piece.
  try {
    while (finish != "stopped" && conversation->behind(*question.asker) > 0) {
      if (!co_await question.asker->wait_for_room()) break;
      conversation->catch_up();
    }
  } catch (const boost::system::system_error&) {
    if (!conversation->stop_wanted) throw;
  }
  conversation->catch_up(true);
  std::string text = conversation->text();
  if (error) {
    json::object told = told_error(*error);
    told["id"] = question.id;
    told["model_used"] = question.model.str();
    if (!text.empty()) told["content"] = text;
    conversation->tell("chat_error", std::move(told));
    co_return;
  }
  conversation->tell("chat_done", {{"id", question.id},
                                   {"role", "assistant"},
                                   {"content", text},
                                   {"timestamp", now_text()},
                                   {"type", "text"},
                                   {"model_used", question.model.str()},
                                   {"finish_reason", finish}});
  conversation->history.add(std::move(question.text), std::move(text));
}

// ---- translations

void SocketChat::translation_request(const std::shared_ptr<socketio::Socket>& socket,
                                     const socketio::Event& event) {
  json::object result;
  const auto refuse = [&](const Error& error) {
    result["error"] = told_error(error);
    acknowledge(*socket, event.id, result);
    socket->emit("translation_result", json::array{result});
  };
  const auto datum = datum_of(event);
  if (!datum) return refuse(datum.error());
  std::string fields[3];
  const char* names[] = {"text", "source_lang", "target_lang"};
  for (std::size_t i = 0; i < 3; ++i) {
    auto field = string_field(*datum, names[i]);
    if (!field) return refuse(field.error());
    fields[i] = field->value_or("");
    result[names[i]] = fields[i];
  }
  const auto& [text, source, target] = fields;
  if (text.empty() || target.empty())
    return refuse(wrong("a translation needs \"text\" and \"target_lang\""));
  const auto model = runtime_.catalog().resolve(kTranslationModel);
  if (!model) return refuse(model.error());
  Person& one = person(socket);
  if (stopping_ || one.translating.inside() >= kMostTranslations)
    return refuse(
        fail(ErrorCode::kResourceExhausted, "too many translations at a time", "queue_full").error());
  result["model_used"] = model->str();
  const bool is_known = !source.empty() && source != "auto";
  std::string prompt =
      fmt::format("Translate the following text {}into {}. Answer with the translation only.\n\n{}",
                  is_known ? "from " + source + " " : "", target, text);
  one.translating.start(translate(socket, std::move(result), std::move(prompt), event.id));
}

Task<> SocketChat::translate(std::shared_ptr<socketio::Socket> socket, json::object result,
                             std::string prompt, std::optional<std::uint64_t> ack) {
  const auto hold = gate_.enter();
  const auto said = std::make_shared<std::string>();
  const InnerExchange::Say say = [said](InnerExchange::Piece piece) -> Task<Result<void>> {
    if (!piece.is_thinking) *said += piece.text;
    return []() -> Task<Result<void>> { co_return Result<void>(); }();
  };
  json::array messages{json::object{{"role", "user"}, {"content", prompt}}};
  std::string body = json_text(json::object{
      {"model", kTranslationModel}, {"messages", std::move(messages)}, {"temperature", 0}, {"stream", true}});
  InnerExchange exchange(executor_, std::move(body), socket->caller().principal, socket->caller().client,
                         say);
  co_await complete_(exchange);
  if (const auto error = exchange.error()) {
    result["error"] = told_error(*error);
  } else {
    result["translation"] = *said;
  }
  if (!co_await socket->wait_for_room()) co_return;
  if (ack) socket->acknowledge(*ack, json::array{result});
  socket->emit("translation_result", json::array{std::move(result)});
}

}  // namespace lm::api
