#include "answers.h"

#include <charconv>
#include <sstream>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "http/exchange.h"
#include "http/sse.h"
#include "load.h"

namespace lm::fake {

namespace json = boost::json;

struct Answers::State {
  State(boost::asio::any_io_executor e, Behaviour b, std::string a)
      : executor(std::move(e)), behaviour(std::move(b)), alias(std::move(a)), changed(executor) {}

  void tell() { std::exchange(changed, Latch(executor)).open(); }

  boost::asio::any_io_executor executor;
  Behaviour behaviour;
  std::string alias;
  Seen seen;
  Latch changed;  // opens with each change of what was seen, and is then another one
};

namespace {

int integer(const json::object& body, std::string_view key, int otherwise) {
  const auto* value = body.if_contains(key);
  return value != nullptr && value->is_int64() ? static_cast<int>(value->as_int64()) : otherwise;
}

std::string text(const json::value& value) {
  if (value.is_string()) return std::string(value.as_string());
  std::string all;
  if (const auto* parts = value.if_array()) {
    for (const auto& part : *parts) {
      if (const auto* object = part.if_object()) {
        if (const auto* inner = object->if_contains("text")) all += text(*inner);
      } else {
        all += text(part);
      }
    }
  }
  return all;
}

std::string last_said(const json::object& body) {
  for (const char* key : {"messages", "input"}) {
    const auto* list = body.if_contains(key);
    if (list == nullptr) continue;
    if (list->is_string()) return text(*list);
    if (!list->is_array() || list->as_array().empty()) continue;
    const auto* last = list->as_array().back().if_object();
    if (last != nullptr && last->contains("content")) return text(last->at("content"));
  }
  const auto* prompt = body.if_contains("prompt");
  return prompt == nullptr ? std::string() : text(*prompt);
}

std::vector<std::string> split(const std::string& sentence) {
  std::istringstream in(sentence);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

// What of its answer the request has already, where it asks for the rest.
std::string already_said(const json::object& body) {
  const auto* wanted = body.if_contains("continue_final_message");
  return wanted != nullptr && *wanted == true ? last_said(body) : std::string();
}

// The tokens of an answer, each with the space before it.
std::vector<std::string> tokens_of(const Behaviour& behaviour, const json::object& body) {
  const std::string said = already_said(body);
  std::vector<std::string> words = split(behaviour.echo ? last_said(body) : behaviour.say);
  int count =
      integer(body, "fake_tokens", behaviour.echo ? static_cast<int>(words.size()) : behaviour.tokens);
  std::vector<std::string> tokens;
  std::size_t length = 0;
  for (int i = 0; i < count; ++i) {
    std::string word =
        words.empty() ? fmt::format("w{}", i) : words[static_cast<std::size_t>(i) % words.size()];
    std::string token = i == 0 ? word : " " + word;
    length += token.size();
    if (length > said.size()) tokens.push_back(std::move(token));
  }
  for (const char* key : {"max_tokens", "max_completion_tokens", "max_output_tokens"}) {
    const int most = integer(body, key, static_cast<int>(tokens.size()));
    if (most < static_cast<int>(tokens.size())) tokens.resize(static_cast<std::size_t>(std::max(0, most)));
  }
  return tokens;
}

// How one API's answers look. `event` is for each token of a stream.
struct Shape {
  std::function<std::string(const std::string& alias)> begin;
  std::function<std::string(const std::string& alias, const std::string& token)> token;
  std::function<std::string(const std::string& alias, int count, int prompt)> end;
  std::function<json::object(const std::string& alias, const std::string& all, int count)> whole;
};

json::object usage(int count, int prompt = 1) {
  return {{"prompt_tokens", prompt}, {"completion_tokens", count}, {"total_tokens", count + prompt}};
}

std::string data(const json::object& object) {
  return http::sse_event(json::serialize(object));
}
std::string named(const json::object& object) {
  return http::sse_event(json::serialize(object), std::string_view(object.at("type").as_string()));
}

json::object chat_chunk(const std::string& alias, json::object delta, json::value finish) {
  return {{"id", "chatcmpl-fake"},
          {"object", "chat.completion.chunk"},
          {"created", 1},
          {"model", alias},
          {"choices", json::array{{{"index", 0}, {"delta", std::move(delta)}, {"finish_reason", finish}}}}};
}

Shape chat_shape() {
  return {.begin =
              [](const std::string& alias) {
                return data(chat_chunk(alias, {{"role", "assistant"}, {"content", nullptr}}, nullptr));
              },
          .token =
              [](const std::string& alias, const std::string& token) {
                return data(chat_chunk(alias, {{"content", token}}, nullptr));
              },
          .end =
              [](const std::string& alias, int count, int prompt) {
                json::object last = chat_chunk(alias, {}, "stop");
                last["usage"] = usage(count, prompt);
                return data(last) + "data: [DONE]\n\n";
              },
          .whole = [](const std::string& alias, const std::string& all, int count) -> json::object {
            return {{"id", "chatcmpl-fake"},
                    {"object", "chat.completion"},
                    {"created", 1},
                    {"model", alias},
                    {"choices", json::array{{{"index", 0},
                                             {"message", {{"role", "assistant"}, {"content", all}}},
                                             {"finish_reason", "stop"}}}},
                    {"usage", usage(count)}};
          }};
}

Shape completion_shape() {
  const auto object = [](const std::string& alias, const std::string& said,
                         json::value finish) -> json::object {
    return {{"id", "cmpl-fake"},
            {"object", "text_completion"},
            {"created", 1},
            {"model", alias},
            {"choices", json::array{{{"index", 0}, {"text", said}, {"finish_reason", finish}}}}};
  };
  return {.begin = [](const std::string&) { return std::string(); },
          .token = [object](const std::string& alias,
                            const std::string& token) { return data(object(alias, token, nullptr)); },
          .end = [object](const std::string& alias, int,
                          int) { return data(object(alias, "", "stop")) + "data: [DONE]\n\n"; },
          .whole =
              [object](const std::string& alias, const std::string& all, int count) {
                json::object answer = object(alias, all, "stop");
                answer["usage"] = usage(count);
                return answer;
              }};
}

Shape messages_shape() {
  const auto message = [](const std::string& alias, json::array content, json::value why,
                          int count) -> json::object {
    return {{"id", "msg_fake"},
            {"type", "message"},
            {"role", "assistant"},
            {"model", alias},
            {"content", std::move(content)},
            {"stop_reason", why},
            {"stop_sequence", nullptr},
            {"usage", {{"input_tokens", 1}, {"output_tokens", count}}}};
  };
  return {.begin =
              [message](const std::string& alias) {
                return named({{"type", "message_start"}, {"message", message(alias, {}, nullptr, 0)}}) +
                       named({{"type", "content_block_start"},
                              {"index", 0},
                              {"content_block", {{"type", "text"}, {"text", ""}}}});
              },
          .token =
              [](const std::string&, const std::string& token) {
                return named({{"type", "content_block_delta"},
                              {"index", 0},
                              {"delta", {{"type", "text_delta"}, {"text", token}}}});
              },
          .end =
              [](const std::string&, int count, int) {
                return named({{"type", "content_block_stop"}, {"index", 0}}) +
                       named({{"type", "message_delta"},
                              {"delta", {{"stop_reason", "end_turn"}, {"stop_sequence", nullptr}}},
                              {"usage", {{"output_tokens", count}}}}) +
                       named({{"type", "message_stop"}});
              },
          .whole =
              [message](const std::string& alias, const std::string& all, int count) {
                return message(alias, json::array{{{"type", "text"}, {"text", all}}}, "end_turn", count);
              }};
}

Shape responses_shape() {
  const auto response = [](const std::string& alias, const std::string& all,
                           const char* status) -> json::object {
    return {{"id", "resp_fake"},
            {"object", "response"},
            {"model", alias},
            {"status", status},
            {"output", json::array{{{"type", "message"},
                                    {"role", "assistant"},
                                    {"content", json::array{{{"type", "output_text"}, {"text", all}}}}}}}};
  };
  return {
      .begin =
          [response](const std::string& alias) {
            return named({{"type", "response.created"}, {"response", response(alias, "", "in_progress")}});
          },
      .token =
          [](const std::string&, const std::string& token) {
            return named({{"type", "response.output_text.delta"}, {"delta", token}});
          },
      .end =
          [response](const std::string& alias, int, int) {
            return named({{"type", "response.completed"}, {"response", response(alias, "", "completed")}});
          },
      .whole = [response](const std::string& alias, const std::string& all,
                          int) { return response(alias, all, "completed"); }};
}

// Counts a request in, and out however it ends.
class Visit {
 public:
  Visit(Seen& seen, std::function<void()> tell) : seen_(seen), tell_(std::move(tell)) {
    ++seen_.asked;
    seen_.most_active = std::max(seen_.most_active, ++seen_.active);
    tell_();
  }
  ~Visit() {
    --seen_.active;
    ++(done_ ? seen_.served : seen_.cancelled);
    tell_();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;
  void done() { done_ = true; }

 private:
  Seen& seen_;
  std::function<void()> tell_;
  bool done_ = false;
};

Task<> respond_json(http::Exchange& exchange, json::object object, int status = 200) {
  co_await exchange.respond({.status = status,
                             .headers = {{"Content-Type", "application/json; charset=utf-8"}},
                             .body = json::serialize(object)});
}

// What passes between a request and the first of its answer.
Task<> prefill(const Behaviour& behaviour) {
  co_await pause(behaviour.first_byte_time);
  if (behaviour.crash_at == Moment::kPrefill) crash(behaviour);
  if (behaviour.hang_at == Moment::kPrefill) co_await hang();
}

std::optional<json::object> object_of(const std::string& text) {
  boost::system::error_code error;
  json::value value = json::parse(text, error);
  if (error || !value.is_object()) return std::nullopt;
  return std::move(value.as_object());
}

}  // namespace

Answers::Answers(boost::asio::any_io_executor executor, Behaviour behaviour, std::string alias)
    : state_(std::make_shared<State>(std::move(executor), std::move(behaviour), std::move(alias))) {}

Answers::~Answers() = default;

http::Router Answers::router() const {
  http::Router router;
  const auto state = state_;

  const auto note = [state](http::Exchange& exchange) {
    const http::Request& request = exchange.request();
    state->seen.last_head = request.method_text + " " + request.target + "\n";
    for (const http::Header& header : request.headers)
      state->seen.last_head += header.name + ": " + header.value + "\n";
    state->seen.last_body = request.body;
  };

  const auto inference = [&](std::string_view path, Shape shape) {
    router.add(http::Method::kPost, path, [state, note, shape](http::Exchange& exchange) -> Task<> {
      note(exchange);
      Visit visit(state->seen, [state] { state->tell(); });
      const Behaviour& behaviour = state->behaviour;
      const auto body = object_of(exchange.request().body);
      if (!body || body->contains("fake_refuse")) {
        visit.done();
        co_return co_await respond_json(
            exchange,
            {{"error",
              {{"code", 400}, {"message", "the fake refuses this"}, {"type", "invalid_request_error"}}}},
            400);
      }
      const std::vector<std::string> tokens = tokens_of(behaviour, *body);
      const bool stream = body->contains("stream") && body->at("stream") == true;
      const Duration token_time = std::chrono::milliseconds(
          integer(*body, "fake_token_ms",
                  static_cast<int>(
                      std::chrono::duration_cast<std::chrono::milliseconds>(behaviour.token_time).count())));
      if (stream) {
        if (!exchange.begin(200, {{"Content-Type", "text/event-stream"}})) co_return;
      }
      co_await prefill(behaviour);
      if (stream) {
        if (!co_await exchange.write(shape.begin(state->alias))) co_return;
      }
      std::string all;
      for (int count = 0; const std::string& token : tokens) {
        if (exchange.client_gone()) co_return;
        all += token;
        if (stream) {
          if (!co_await exchange.write(shape.token(state->alias, token))) co_return;
        }
        if (++count == behaviour.after_tokens) {
          if (behaviour.crash_at == Moment::kDecode) crash(behaviour);
          if (behaviour.hang_at == Moment::kDecode) co_await hang();
        }
        co_await pause(token_time);
      }
      const int count = static_cast<int>(tokens.size());
      if (stream) {
        const int prompt = 1 + static_cast<int>(split(already_said(*body)).size());
        if (!co_await exchange.end(shape.end(state->alias, count, prompt))) co_return;
      } else {
        co_await respond_json(exchange, shape.whole(state->alias, all, count));
      }
      visit.done();
    });
  };
  inference("/v1/chat/completions", chat_shape());
  inference("/v1/completions", completion_shape());
  inference("/v1/messages", messages_shape());
  inference("/v1/responses", responses_shape());

  router.add(http::Method::kPost, "/v1/embeddings", [state, note](http::Exchange& exchange) -> Task<> {
    note(exchange);
    Visit visit(state->seen, [state] { state->tell(); });
    const auto body = object_of(exchange.request().body);
    co_await prefill(state->behaviour);
    const std::string input = body ? last_said(*body) : std::string();
    json::array vector;
    for (std::size_t i = 0; i < 8; ++i)
      vector.push_back(static_cast<double>(std::hash<std::string>{}(input + std::to_string(i)) % 1000) /
                       1000);
    co_await respond_json(
        exchange, {{"object", "list"},
                   {"model", state->alias},
                   {"data", json::array{{{"object", "embedding"}, {"index", 0}, {"embedding", vector}}}},
                   {"usage", {{"prompt_tokens", 1}, {"total_tokens", 1}}}});
    visit.done();
  });
  router.add(http::Method::kPost, "/v1/rerank", [state, note](http::Exchange& exchange) -> Task<> {
    note(exchange);
    Visit visit(state->seen, [state] { state->tell(); });
    const auto body = object_of(exchange.request().body);
    co_await prefill(state->behaviour);
    json::array results;
    if (body && body->contains("documents")) {
      for (std::size_t i = 0; i < body->at("documents").as_array().size(); ++i)
        results.push_back({{"index", i}, {"relevance_score", 1.0 / static_cast<double>(i + 1)}});
    }
    co_await respond_json(exchange, {{"model", state->alias}, {"object", "list"}, {"results", results}});
    visit.done();
  });
  router.add(http::Method::kPost, "/v1/messages/count_tokens", [note](http::Exchange& exchange) -> Task<> {
    note(exchange);
    const auto body = object_of(exchange.request().body);
    const auto words = body ? split(last_said(*body)).size() : 0;
    co_await respond_json(exchange, {{"input_tokens", words}});
  });

  router.add(http::Method::kGet, "/health",
             [](http::Exchange& exchange) { return respond_json(exchange, {{"status", "ok"}}); });

  const auto stats = [state]() -> json::object {
    const Seen& seen = state->seen;
    return {{"asked", seen.asked},
            {"active", seen.active},
            {"served", seen.served},
            {"cancelled", seen.cancelled},
            {"most_active", seen.most_active}};
  };
  router.add(http::Method::kGet, "/fake/stats",
             [stats](http::Exchange& exchange) { return respond_json(exchange, stats()); });
  router.add(http::Method::kGet, "/fake/wait", [state, stats](http::Exchange& exchange) -> Task<> {
    for (;;) {
      const json::object now = stats();
      bool reached = true;
      for (const auto& [name, wanted] : exchange.request().query) {
        const auto* value = now.if_contains(name);
        std::int64_t least = 0;
        std::from_chars(wanted.data(), wanted.data() + wanted.size(), least);
        reached = reached && value != nullptr && value->as_int64() >= least;
      }
      if (reached) co_return co_await respond_json(exchange, now);
      const Latch changed = state->changed;
      co_await changed.wait(std::chrono::hours(1));
    }
  });
  router.add(http::Method::kGet, "/fake/last", [state](http::Exchange& exchange) {
    return respond_json(exchange, {{"head", state->seen.last_head}, {"body", state->seen.last_body}});
  });
  return router;
}

}  // namespace lm::fake
