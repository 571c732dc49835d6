#include "api/conversation_routes.h"

#include <charconv>
#include <ctime>
#include <utility>

#include <boost/json/array.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "api/json_body.h"
#include "api/kept_exchange.h"
#include "base/clock.h"

namespace lm::api {
namespace {

namespace json = boost::json;
using runtime::TranscriptKeeper;
using store::Transcripts;

constexpr int kMostListed = 200;
constexpr int kMostShown = 1000;  // messages
constexpr std::string_view kHeader = "X-Conversation";

std::unexpected<Error> invalid(std::string message) {
  return fail(ErrorCode::kInvalidArgument, std::move(message), "invalid_field");
}

// Whose a conversation is: a key's that has a name; else an administrator's, or all others' together.
std::string owner_of(const http::Exchange& exchange) {
  if (exchange.client().empty() && exchange.principal() == http::Principal::kAdmin) return "(administrators)";
  return exchange.client();
}

// Administrators see everybody's.
store::Scope scope_of(const http::Exchange& exchange) {
  if (exchange.principal() == http::Principal::kAdmin) return std::nullopt;
  return owner_of(exchange);
}

std::optional<std::string> text_query(const http::Request& request, std::string_view name) {
  const auto value = request.query_value(name);
  return value ? std::optional(std::string(*value)) : std::nullopt;
}

// A number of the query; `otherwise` where it is not there.
Result<std::int64_t> number_query(const http::Request& request, std::string_view name, std::int64_t otherwise,
                                  std::int64_t least, std::int64_t most) {
  const auto text = request.query_value(name);
  if (!text) return otherwise;
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size() || number < least || number > most)
    return invalid(fmt::format("{} is a number from {} to {}", name, least, most));
  return number;
}

json::object to_json(const store::Conversation& conversation) {
  return {{"id", conversation.id},
          {"title", conversation.title},
          {"user", conversation.user},
          {"channel", conversation.channel},
          {"created_ms", conversation.created_ms},
          {"updated_ms", conversation.updated_ms},
          {"message_count", conversation.messages},
          {"bytes", conversation.bytes}};
}

json::object to_json(const store::Message& message) {
  return {{"id", message.id},       {"role", message.role},   {"content", message.text},
          {"model", message.model}, {"at_ms", message.at_ms}, {"complete", message.complete}};
}

json::array to_json(const std::vector<store::Message>& messages) {
  json::array array;
  for (const store::Message& message : messages) array.push_back(to_json(message));
  return array;
}

std::string moment(std::int64_t at_ms) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(at_ms / 1000)));
}

std::string markdown(const store::Conversation& conversation, const std::vector<store::Message>& messages) {
  std::string out = fmt::format("# {}\n", conversation.title.empty() ? conversation.id : conversation.title);
  for (const store::Message& message : messages) {
    out += fmt::format("\n## {}{} · {}{}\n\n{}\n", message.role,
                       message.role == "assistant" ? " (" + message.model + ")" : "", moment(message.at_ms),
                       message.complete ? "" : " · broken off", message.text);
  }
  return out;
}

// A conversation with its messages, as one look has them.
struct Whole {
  store::Conversation conversation;
  std::vector<store::Message> messages;
};

class Conversations {
 public:
  explicit Conversations(TranscriptKeeper& transcripts) : transcripts_(transcripts) {}

  Task<> list(http::Exchange& exchange) {
    const http::Request& request = exchange.request();
    const auto limit = number_query(request, "limit", 50, 1, kMostListed);
    if (!limit) co_return co_await answer_error(exchange, limit.error());
    store::ConversationQuery query{.scope = scope_of(exchange),
                                   .user = text_query(request, "user"),
                                   .channel = text_query(request, "channel"),
                                   .search = text_query(request, "q").value_or(""),
                                   .before = {},
                                   .most = static_cast<int>(*limit) + 1};
    if (request.query_value("cursor")) {
      const auto before = number_query(request, "cursor", 0, 1, INT64_MAX);
      if (!before) co_return co_await answer_error(exchange, before.error());
      query.before = *before;
    }
    TranscriptKeeper::Job<std::vector<store::FoundConversation>> job =
        [query = std::move(query)](Transcripts& transcripts) { return transcripts.find(query); };
    auto found = co_await transcripts_.look(std::move(job));
    if (!found) co_return co_await answer_error(exchange, found.error());
    json::object answer{{"conversations", json::array()}, {"next", nullptr}};
    if (std::cmp_greater(found->size(), *limit)) {
      found->pop_back();
      answer["next"] = std::to_string(found->back().conversation.turn);
    }
    for (const store::FoundConversation& one : *found) {
      json::object shown = to_json(one.conversation);
      if (one.match) shown["match"] = {{"message", one.match->first}, {"text", one.match->second}};
      answer["conversations"].as_array().push_back(std::move(shown));
    }
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> create(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto title = string_field(*body, "title");
    const auto user = string_field(*body, "user");
    const auto channel = string_field(*body, "channel");
    for (const auto* field : {&title, &user, &channel}) {
      if (!*field) co_return co_await answer_error(exchange, field->error());
    }
    store::Conversation begun{.id = {},
                              .title = title->value_or(""),
                              .user = user->value_or(""),
                              .channel = channel->value_or(""),
                              .client = owner_of(exchange)};
    TranscriptKeeper::Job<store::Conversation> job = [begun = std::move(begun),
                                                      now = unix_time_ms()](Transcripts& transcripts) {
      return transcripts.create(begun, now);
    };
    const auto made = co_await transcripts_.change(std::move(job));
    if (!made) co_return co_await answer_error(exchange, made.error());
    co_await answer_json(exchange, to_json(*made), 201);
  }

  Task<> show(http::Exchange& exchange) {
    const auto after = number_query(exchange.request(), "after", 0, 0, INT64_MAX);
    const auto limit = number_query(exchange.request(), "limit", kMostShown, 1, kMostShown);
    if (!after) co_return co_await answer_error(exchange, after.error());
    if (!limit) co_return co_await answer_error(exchange, limit.error());
    const auto whole = co_await look(exchange, *after, static_cast<int>(*limit) + 1);
    if (!whole) co_return co_await answer_error(exchange, whole.error());
    json::object answer = to_json(whole->conversation);
    json::array messages = to_json(whole->messages);
    answer["next"] = nullptr;
    if (std::cmp_greater(messages.size(), *limit)) {
      messages.pop_back();
      answer["next"] = whole->messages[whole->messages.size() - 2].id;
    }
    answer["messages"] = std::move(messages);
    co_await answer_json(exchange, std::move(answer));
  }

  Task<> rename(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto title = string_field(*body, "title");
    if (!title) co_return co_await answer_error(exchange, title.error());
    if (!*title || (*title)->empty()) {
      const auto missing =
          fail(ErrorCode::kInvalidArgument, "\"title\" is missing: say how to call it", "missing_field");
      co_return co_await answer_error(exchange, missing.error());
    }
    TranscriptKeeper::Job<store::Conversation> job =
        [id = id_of(exchange), scope = scope_of(exchange), title = **title, now = unix_time_ms()](
            Transcripts& transcripts) { return transcripts.rename(id, scope, title, now); };
    const auto renamed = co_await transcripts_.change(std::move(job));
    if (!renamed) co_return co_await answer_error(exchange, renamed.error());
    co_await answer_json(exchange, to_json(*renamed));
  }

  Task<> remove(http::Exchange& exchange) {
    TranscriptKeeper::Job<std::string> job =
        [id = id_of(exchange), scope = scope_of(exchange)](Transcripts& transcripts) -> Result<std::string> {
      LM_TRY_VOID(transcripts.remove(id, scope));
      return id;
    };
    const auto removed = co_await transcripts_.change(std::move(job));
    if (!removed) co_return co_await answer_error(exchange, removed.error());
    co_await answer_json(exchange, {{"id", *removed}, {"removed", true}});
  }

  Task<> write_out(http::Exchange& exchange) {
    const std::string_view format = exchange.request().query_value("format").value_or("json");
    if (format != "json" && format != "md") {
      const auto unknown = invalid("format is json or md");
      co_return co_await answer_error(exchange, unknown.error());
    }
    const auto whole = co_await look(exchange, 0, static_cast<int>(Transcripts::kMostMessages) * 2);
    if (!whole) co_return co_await answer_error(exchange, whole.error());
    http::Response response;
    if (format == "json") {
      json::object answer = to_json(whole->conversation);
      answer["messages"] = to_json(whole->messages);
      response = json_response(std::move(answer));
    } else {
      response = {.status = 200,
                  .headers = {{"Content-Type", "text/markdown; charset=utf-8"}},
                  .body = markdown(whole->conversation, whole->messages)};
    }
    response.headers.add("Content-Disposition",
                         fmt::format("attachment; filename=\"{}.{}\"", whole->conversation.id, format));
    co_await exchange.respond(std::move(response));
  }

 private:
  static std::string id_of(const http::Exchange& exchange) {
    return std::string(exchange.request().path_value("conversation"));
  }

  Task<Result<Whole>> look(http::Exchange& exchange, std::int64_t after, int most) {
    TranscriptKeeper::Job<Whole> job = [id = id_of(exchange), scope = scope_of(exchange), after,
                                        most](Transcripts& transcripts) -> Result<Whole> {
      LM_TRY(auto conversation, transcripts.get(id, scope));
      LM_TRY(auto messages, transcripts.messages(id, scope, after, most));
      return Whole{std::move(conversation), std::move(messages)};
    };
    co_return co_await transcripts_.look(std::move(job));
  }

  TranscriptKeeper& transcripts_;
};

// What of a chat's body is kept of it.
struct Asked {
  std::string model;
  std::optional<std::string> said;  // empty: its last message is no user's
};

// A message's text; of its parts those that are text, the others by their kind.
std::string text_of(const json::value& content) {
  if (const auto* text = content.if_string()) return std::string(*text);
  std::string all;
  const auto* parts = content.if_array();
  if (parts == nullptr) return all;
  for (const json::value& part : *parts) {
    const auto* object = part.if_object();
    const auto* type = object == nullptr ? nullptr : object->if_contains("type");
    const auto* text = object == nullptr ? nullptr : object->if_contains("text");
    if (!all.empty()) all += '\n';
    if (text != nullptr && text->is_string()) {
      all += text->get_string();
    } else if (type != nullptr && type->is_string()) {
      all += fmt::format("[{}]", std::string_view(type->get_string()));
    }
  }
  return all;
}

// Empty where it is no such body: whoever answers says what is wrong with it.
std::optional<Asked> asked_in(const http::Request& request) {
  const auto body = object_body(request);
  if (!body) return std::nullopt;
  const auto* model = body->if_contains("model");
  const auto* messages = body->if_contains("messages");
  if (messages == nullptr || !messages->is_array() || messages->get_array().empty()) return std::nullopt;
  if (model != nullptr && !model->is_string()) return std::nullopt;
  Asked asked{.model = model == nullptr ? "" : std::string(model->get_string()), .said = {}};
  const auto* last = messages->get_array().back().if_object();
  const auto* role = last == nullptr ? nullptr : last->if_contains("role");
  const auto* content = last == nullptr ? nullptr : last->if_contains("content");
  if (role != nullptr && *role == "user" && content != nullptr) asked.said = text_of(*content);
  return asked;
}

class KeptChat {
 public:
  KeptChat(http::RouteFunction chat, const runtime::Runtime& runtime, TranscriptKeeper& transcripts)
      : chat_(std::move(chat)), runtime_(runtime), transcripts_(transcripts) {}

  Task<> serve(http::Exchange& exchange) {
    const auto header = exchange.request().headers.get(kHeader);
    if (!header) co_return co_await chat_(exchange);
    const auto asked = asked_in(exchange.request());
    if (!asked) co_return co_await chat_(exchange);
    const auto model = runtime_.catalog().resolve(asked->model, ModelKind::kGeneration);
    if (!model) co_return co_await chat_(exchange);
    TranscriptKeeper::Job<std::int64_t> job = [id = std::string(*header), scope = scope_of(exchange),
                                               said = asked->said, model = model->str(),
                                               now = unix_time_ms()](Transcripts& transcripts) {
      return said ? transcripts.say(id, scope, *said, model, now) : transcripts.answerable(id, scope);
    };
    const auto conversation = co_await transcripts_.change(std::move(job));
    if (!conversation) co_return co_await answer_error(exchange, conversation.error());
    std::string body = exchange.take_body();
    http::Request question = exchange.request();
    question.body = std::move(body);
    KeptExchange kept(exchange, std::move(question), transcripts_.begin_answer(*conversation, model->str()));
    co_await chat_(kept);
    co_await kept.close();
  }

 private:
  http::RouteFunction chat_;
  const runtime::Runtime& runtime_;
  TranscriptKeeper& transcripts_;
};

}  // namespace

void add_conversation_routes(http::Router& router, TranscriptKeeper& transcripts) {
  const auto conversations = std::make_shared<Conversations>(transcripts);
  using enum http::Method;
  const auto add = [&](http::Method method, std::string_view pattern,
                       Task<> (Conversations::*call)(http::Exchange&)) {
    router.add(method, pattern,
               http::Route{[conversations, call](http::Exchange& exchange) {
                             return ((*conversations).*call)(exchange);
                           },
                           http::Principal::kUser});
  };
  add(kGet, "/api/v1/conversations", &Conversations::list);
  add(kPost, "/api/v1/conversations", &Conversations::create);
  add(kGet, "/api/v1/conversations/{conversation}", &Conversations::show);
  add(kPatch, "/api/v1/conversations/{conversation}", &Conversations::rename);
  add(kDelete, "/api/v1/conversations/{conversation}", &Conversations::remove);
  add(kGet, "/api/v1/conversations/{conversation}/export", &Conversations::write_out);
}

http::RouteFunction kept_chat(http::RouteFunction chat, const runtime::Runtime& runtime,
                              TranscriptKeeper& transcripts) {
  const auto kept = std::make_shared<KeptChat>(std::move(chat), runtime, transcripts);
  return [kept](http::Exchange& exchange) { return kept->serve(exchange); };
}

}  // namespace lm::api
