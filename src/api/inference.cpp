#include "api/inference.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "api/answer_so_far.h"
#include "api/conversation_routes.h"
#include "api/error_shape.h"
#include "api/event_relay.h"
#include "api/model_name.h"
#include "api/request_scan.h"
#include "base/assert.h"
#include "http/relay.h"
#include "http/sse.h"

namespace lm::api {
namespace {

// A streaming client gets its 200 and a comment when its model is not ready by then, and a comment each time
// after that, so that nobody between us and it takes the silence for death.
constexpr Duration kFirstPing = std::chrono::seconds(1);
constexpr Duration kPing = std::chrono::seconds(5);
constexpr Duration kDeathIsSeen = std::chrono::milliseconds(250);
// The embeddings of a few thousand texts.
constexpr std::size_t kLongestAnswer = std::size_t{256} << 20;

// Counting the tokens of a prompt reads no model.
constexpr Duration kCountLimit = std::chrono::seconds(5);

struct Endpoint {
  std::string_view path;
  std::string_view question;  // the member of its body without which nothing is asked
  ModelKind kind = ModelKind::kGeneration;
  std::optional<AnswerSoFar::Shape> continued = {};  // how its streams can be broken off and continued
  std::string_view counter = {};                     // where the worker counts a prompt's tokens
  // Not by our workers' protocol: it goes to the upstream under this very path, and what comes back is its
  // own.
  bool native = false;
  bool only_readies = false;  // nothing is asked of the model
  bool only_workers = false;  // only ours know it
};

constexpr std::string_view kChat = "/v1/chat/completions";

constexpr Endpoint kEndpoints[] = {
    {kChat, "messages", ModelKind::kGeneration, AnswerSoFar::Shape::kChat,
     "/v1/chat/completions/input_tokens"},
    {"/v1/completions", "prompt", ModelKind::kGeneration, AnswerSoFar::Shape::kCompletion},
    {"/v1/embeddings", "input", ModelKind::kEmbedding},
    {"/v1/rerank", "query", ModelKind::kRerank},
    {"/v1/responses", "input"},
    {"/v1/messages", "messages"},
    {"/v1/messages/count_tokens", "messages"},
    {"/v1/chat/completions/input_tokens", "messages"},
    // The worker's own: the tokens of a text, the text of tokens, the prompt that messages become.
    {.path = "/tokenize", .question = "content", .only_workers = true},
    {.path = "/detokenize", .question = "tokens", .only_workers = true},
    {.path = "/apply-template", .question = "messages", .only_workers = true},
};

constexpr Endpoint kOllamasOwn[] = {
    {.path = "/api/chat", .question = "model", .native = true},
    {.path = "/api/generate", .question = "model", .native = true},
    {.path = "/api/embed", .question = "model", .kind = ModelKind::kEmbedding, .native = true},
    {.path = "/api/embeddings", .question = "model", .kind = ModelKind::kEmbedding, .native = true},
};

// The class and the deadline that the client asks for. `client`: whose key it came with; null: nobody's.
Result<runtime::Leases::Wish> wish_of(const http::Request& request, const config::Client* client,
                                      const Model* model, ModelId id, TimePoint now) {
  runtime::Leases::Wish wish{.model = std::move(id)};
  if (model != nullptr) wish.priority = model->policy.priority;
  if (const auto priority = request.headers.get("X-Priority")) {
    if (*priority != "interactive" && *priority != "batch") {
      return fail(ErrorCode::kInvalidArgument, "X-Priority is interactive or batch", "invalid_header");
    }
    wish.priority = *priority == "batch" ? PriorityClass::kBatch : PriorityClass::kInteractive;
  }
  if (client != nullptr) {
    // The owner's word about a client is the most that it gets.
    wish.priority = std::max(wish.priority, client->priority);
    wish.weight = client->weight;
  }
  if (const auto text = request.headers.get("X-Deadline-Ms")) {
    std::int64_t ms = 0;
    const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), ms);
    if (error != std::errc() || end != text->data() + text->size() || ms <= 0 || ms > 86'400'000) {
      return fail(ErrorCode::kInvalidArgument, "X-Deadline-Ms is a number of milliseconds, at most a day",
                  "invalid_header");
    }
    wish.deadline = now + std::chrono::milliseconds(ms);
  }
  return wish;
}

// What was foreseen of its wait, in the answer's head.
void tell_wait(http::Exchange& exchange, int position, double wait_s) {
  if (exchange.begun()) return;
  exchange.add_header("X-Queue-Position", std::to_string(position));
  exchange.add_header("X-Expected-Wait", fmt::format("{:.2f}", wait_s));
}

// What was read as JSON is JSON, whatever the client called it: `curl -d` says that it is a form, and the
// engine's HTTP library takes no form of that size. No other header field means anything to the engine.
http::Headers headers_for_worker() {
  return {{"Content-Type", "application/json"}};
}

// Of a client's header fields those that change the answer, and no other: keys, cookies, addresses and what a
// proxy has added are nobody's business there (docs/upstreams.md).
http::Headers headers_for_upstream(const http::Headers& from_client) {
  constexpr std::string_view kPassedOn[] = {"Accept",         "User-Agent",        "OpenAI-Beta",
                                            "Anthropic-Beta", "Anthropic-Version", "Idempotency-Key"};
  http::Headers headers = headers_for_worker();
  // What the connection's own fields name is not for whoever comes next.
  for (const http::Header& field : http::end_to_end_headers(from_client)) {
    if (std::ranges::any_of(
            kPassedOn, [&](std::string_view one) { return http::equals_ignoring_case(one, field.name); }))
      headers.add(field.name, field.value);
  }
  return headers;
}

// What the client is told when the worker's connection broke: why it was taken back, if it was; else that the
// worker died.
Error broken_answer(const runtime::Lease& lease, const Error& upstream) {
  if (const auto cut = lease.cut()) return *cut;
  if (upstream.code == ErrorCode::kDeadlineExceeded) return upstream;
  return {.code = ErrorCode::kUnavailable,
          .message = fmt::format("the worker of {} ended while it answered; asking again loads it anew",
                                 lease.model().str()),
          .reason = "worker_died",
          .fields = {},
          .retry_after = std::chrono::seconds(1)};
}

// `key`: a header's value, as "Bearer sk-…".
std::string without_key(std::string text, std::string_view key) {
  constexpr std::string_view kScheme = "Bearer ";
  constexpr std::size_t kShortestKey = 8;  // what is shorter is a word that may stand in any sentence
  if (key.starts_with(kScheme)) key.remove_prefix(kScheme.size());
  if (key.size() < kShortestKey) return text;
  for (std::size_t at = 0; (at = text.find(key, at)) != std::string::npos;)
    text.replace(at, key.size(), "[key]");
  return text;
}

bool is_client_side(const Error& error) {
  return error.reason == "client_gone" || error.reason == "client_stalled";
}

// Ends an exchange with an error in whatever form is still possible.
Task<> end_with(http::Exchange& exchange, Error error) {
  if (exchange.begun()) {
    co_await exchange.end(error_event(error, exchange.request().path));
  } else {
    if (const auto position = error.number("position"), wait = error.number("expected_wait_ms");
        position && wait)
      tell_wait(exchange, static_cast<int>(*position), static_cast<double>(*wait) / 1000);
    const int status = http_status(error);
    co_await exchange.fail(status, std::move(error));
  }
}

class Inference {
 public:
  Inference(runtime::Runtime& runtime, Endpoint endpoint) : runtime_(runtime), endpoint_(endpoint) {}

  // The way of a request, from top to bottom.
  Task<> serve(http::Exchange& exchange) {
    const http::Request& request = exchange.request();
    const auto scan = scan_request(request.body, endpoint_.question);
    if (!scan) co_return co_await end_with(exchange, scan.error());
    auto model = runtime_.catalog().resolve(scan->model.value_or(""), endpoint_.kind);
    if (!model) co_return co_await end_with(exchange, model.error());
    if (endpoint_.only_workers && is_upstreams(*model))
      co_return co_await end_with(exchange, not_offered(*model));
    // Others may know more ways to ask.
    if (!scan->asks && !is_upstreams(*model)) co_return co_await end_with(exchange, nothing_asked());
    if (wrong_kind(*model)) co_await runtime_.know_kind(*model);
    if (auto wrong = wrong_kind(*model)) co_return co_await end_with(exchange, *std::move(wrong));
    const auto& clients = runtime_.config().config.server.clients;
    const auto client = clients.find(exchange.client());
    // Of a key whose client was taken out of the configuration since the start nothing good is known.
    static const config::Client kGone{.priority = PriorityClass::kBatch};
    const config::Client* known = client != clients.end()     ? &client->second
                                  : exchange.client().empty() ? nullptr
                                                              : &kGone;
    auto wish = wish_of(request, known, runtime_.catalog().find(*model), *model, runtime_.now());
    if (!wish) co_return co_await end_with(exchange, wish.error());
    std::optional<AnswerSoFar> so_far;  // of an answer that may be broken off
    if (endpoint_.continued && scan->stream && scan->continuable && !is_upstreams(wish->model))
      so_far.emplace(*endpoint_.continued);
    wish->preemptible = so_far.has_value();

    co_await runtime_.look_before(wish->model);
    const ModelId wanted = wish->model;
    auto lease = co_await wait_for_lease(exchange, runtime_.ask(*wish), wanted, scan->stream);
    // Nothing was sent yet to a worker that has just died: the next one is asked instead.
    std::shared_ptr<http::Client> worker;
    while (lease && !is_upstreams(lease->model()) && !(worker = runtime_.worker(lease->instance())) &&
           co_await known_dead(lease->instance())) {
      lease->release();
      lease = co_await wait_for_lease(exchange, runtime_.ask(*wish), wanted, scan->stream);
    }
    if (!lease) co_return co_await end_with(exchange, lease.error());

    if (endpoint_.only_readies) {
      lease->release();
      co_return static_cast<void>(co_await exchange.respond({.status = 200, .headers = {}, .body = {}}));
    }
    if (is_upstreams(lease->model())) co_return co_await ask_upstream(exchange, *lease, scan->stream);
    auto answered = co_await pass_on(exchange, *lease, std::move(worker), so_far ? &*so_far : nullptr);
    // Others had their turn, or have it now: it goes on in the model's next.
    while (!answered && !is_client_side(answered.error()) && lease->preempted()) {
      so_far->break_off(runtime_.now() - lease->granted_at());
      if (so_far->finished()) co_return static_cast<void>(co_await exchange.end(so_far->ending()));
      lease = co_await wait_for_lease(exchange, runtime::Leases::again(*std::move(lease)), wanted, true);
      if (!lease) co_return co_await end_with(exchange, lease.error());
      answered = co_await go_on(exchange, *lease, *so_far);
    }
    if (answered || is_client_side(answered.error())) co_return;
    // Who is told of the death and asks again at once must not be given the dead worker.
    if (!lease->cut() && answered.error().code == ErrorCode::kUnavailable)
      co_await known_dead(lease->instance());
    Error error = broken_answer(*lease, answered.error());
    if (error.reason == "worker_died") {
      // Where it could say why, that is the answer: a device that is gone.
      if (const auto why = co_await runtime_.last_words(lease->instance())) {
        error.message = fmt::format("{}: {}", error.message, why->message);
        error.reason = why->reason;
        error.fields = why->fields;
      }
    }
    co_await end_with(exchange, std::move(error));
  }

 private:
  // Refused before anybody's model goes for it.
  Error nothing_asked() const {
    return {.code = ErrorCode::kInvalidArgument,
            .message = fmt::format("the body has no \"{}\"", endpoint_.question),
            .reason = "missing_field",
            .fields = {{"param", std::string(endpoint_.question)}},
            .retry_after = {}};
  }

  Error not_offered(const ModelId& id) const {
    return {.code = ErrorCode::kUnimplemented,
            .message =
                fmt::format("{} is no local model: {} asks the tokenizer of one", id.str(), endpoint_.path),
            .reason = "not_offered",
            .fields = {{"param", "model"}},
            .retry_after = {}};
  }

  // An embedding model does not chat, and no load would change that.
  std::optional<Error> wrong_kind(const ModelId& id) const {
    const Model* model = runtime_.catalog().find(id);
    // Ollama knows better what its models can do.
    if (model == nullptr || model->kind == endpoint_.kind || endpoint_.native) return std::nullopt;
    return Error{.code = ErrorCode::kInvalidArgument,
                 .message = fmt::format(
                     "{} is taken for a model of kind {}, and {} needs one of kind {}; if it is one, set its "
                     "kind under models: in the configuration",
                     id.str(), to_string(model->kind), endpoint_.path, to_string(endpoint_.kind)),
                 .reason = "wrong_model_kind",
                 .fields = {{"param", "model"}},
                 .retry_after = {}};
  }

  Task<Result<runtime::Lease>> wait_for_lease(http::Exchange& exchange, runtime::Leases::Ticket ticket,
                                              ModelId model, bool stream) {
    // The arbiter answers every ticket by its deadline; the day is only the wait's own end.
    if (!stream) co_await ticket.wait(std::chrono::hours(24));
    Duration patience = kFirstPing;
    while (!ticket.decided()) {
      if (co_await ticket.wait(std::exchange(patience, kPing))) continue;
      if (!exchange.begun()) {
        if (const auto& wait = ticket.expected()) tell_wait(exchange, wait->position, seconds(wait->wait));
        LM_CO_TRY_VOID(exchange.begin(200, event_stream_headers()));
      }
      LM_CO_TRY_VOID(
          co_await exchange.write(http::sse_comment(runtime_.waiting_note(model, ticket.request()))));
    }
    if (const auto& wait = ticket.expected()) tell_wait(exchange, wait->position, seconds(wait->wait));
    co_return ticket.take();
  }

  // A worker's connections break a moment before its end is seen. True once the arbiter knows; false where it
  // lives.
  Task<bool> known_dead(InstanceId instance) {
    const auto serves = [&] {
      return std::ranges::any_of(runtime_.snapshot().models, [&](const ModelView& view) {
        return view.instance && view.instance->id == instance && view.state == PublishedState::kReady;
      });
    };
    auto news = runtime_.events().subscribe();
    const TimePoint patience = runtime_.now() + kDeathIsSeen;
    while (serves() && runtime_.now() < patience) co_await news.next(patience - runtime_.now());
    co_return !serves();
  }

  // `so_far`: null where the answer cannot be broken off.
  Task<Result<void>> pass_on(http::Exchange& exchange, runtime::Lease& lease,
                             std::shared_ptr<http::Client> worker, AnswerSoFar* so_far) {
    LM_CO_TRY(http::ClientResponse response,
              co_await ask_worker(exchange, lease, std::move(worker),
                                  so_far == nullptr ? exchange.take_body() : exchange.request().body,
                                  so_far != nullptr));
    co_return co_await pass_back(exchange, std::move(response), lease, so_far);
  }

  // `worker`: null where it has died.
  Task<Result<http::ClientResponse>> ask_worker(http::Exchange& exchange, runtime::Lease& lease,
                                                std::shared_ptr<http::Client> worker, std::string body,
                                                bool preemptible) {
    if (!worker) co_return fail(ErrorCode::kUnavailable, "the worker is gone", "worker_died");
    http::ClientRequest forward{.method = http::Method::kPost,
                                .target = std::string(endpoint_.path),
                                .headers = headers_for_worker(),
                                .body = std::move(body),
                                .interruption = std::make_shared<http::Interruption>(),
                                // llama.cpp's server closes after each stream, without a word in its header:
                                // whoever asks again at once may meet the closing.
                                .repeatable = true};
    // Cut, the engine gives the slot free within a token: what it holds can be saved before the worker ends.
    lease.on_cut([interruption = forward.interruption] { interruption->interrupt(); });
    if (preemptible) lease.on_preempt([interruption = forward.interruption] { interruption->interrupt(); });
    // An answer takes as long as it takes. Who ends it otherwise: the client by leaving, the arbiter by a
    // cut or a preemption, the worker by dying.
    constexpr Duration kForEver = Duration::max();
    co_return co_await worker->send(
        std::move(forward),
        {.connect = std::chrono::seconds(5), .first_byte = kForEver, .silence = kForEver});
  }

  // The rest of an answer that was broken off.
  Task<Result<void>> go_on(http::Exchange& exchange, runtime::Lease& lease, AnswerSoFar& so_far) {
    if (so_far.empty())
      co_return co_await pass_on(exchange, lease, runtime_.worker(lease.instance()), &so_far);
    const Model* model = runtime_.catalog().find(lease.model());
    const auto most = model == nullptr ? std::optional<int>() : model->sampling.max_tokens;
    LM_CO_TRY(std::string body, so_far.continued(exchange.request().body, most));
    const auto before = co_await count_prompt(lease, exchange.request().body);
    const auto after = co_await count_prompt(lease, body);
    if (before && after) {
      so_far.measured(*before, *after);
      LM_CO_TRY(body, so_far.continued(exchange.request().body, most));
    }
    if (so_far.used_up()) co_return co_await exchange.end(so_far.used_up_ending(exchange.request().body));

    LM_CO_TRY(http::ClientResponse response,
              co_await ask_worker(exchange, lease, runtime_.worker(lease.instance()), std::move(body), true));
    const auto type = response.headers().get("Content-Type");
    if (!type || !type->starts_with("text/event-stream")) {
      LM_CO_TRY(const std::string refusal, co_await response.read_all(std::size_t{1} << 20));
      co_return co_await exchange.end(http::sse_event(refusal));
    }
    std::string rest;
    http::SseParser parser([&](const http::SseEvent& event) { rest += so_far.rewrite(event); });
    for (bool first = true;;) {
      LM_CO_TRY(const auto piece, co_await response.read());
      if (!piece) break;
      LM_CO_TRY_VOID(parser.feed(*piece));
      if (!rest.empty() && std::exchange(first, false)) runtime_.answer_began(lease);
      if (!rest.empty()) LM_CO_TRY_VOID(co_await exchange.write(std::exchange(rest, {})));
    }
    co_return co_await exchange.end();
  }

  // How many tokens the prompt of `body` has; empty where the worker cannot tell.
  Task<std::optional<int>> count_prompt(const runtime::Lease& lease, std::string body) {
    const auto worker = runtime_.worker(lease.instance());
    if (!worker || endpoint_.counter.empty()) co_return std::nullopt;
    auto response = co_await worker->send({.method = http::Method::kPost,
                                           .target = std::string(endpoint_.counter),
                                           .headers = {{"Content-Type", "application/json"}},
                                           .body = std::move(body),
                                           .interruption = {},
                                           .repeatable = true},
                                          {.first_byte = kCountLimit, .silence = kCountLimit});
    if (!response || response->status() != 200) co_return std::nullopt;
    const auto text = co_await response->read_all(std::size_t{64} << 10);
    if (!text) co_return std::nullopt;
    co_return input_tokens(*text);
  }

  // The answer as it comes.
  Task<Result<void>> pass_back(http::Exchange& exchange, http::ClientResponse response,
                               const runtime::Lease& lease, AnswerSoFar* so_far = nullptr) {
    const auto began = [this, &lease, so_far, first = true](std::string_view piece) mutable {
      // A comment is a worker that reads a long prompt.
      if (!piece.starts_with(':') && std::exchange(first, false)) runtime_.answer_began(lease);
      if (so_far != nullptr) so_far->keep(piece);
    };
    const auto type = response.headers().get("Content-Type");
    if (type && type->starts_with("text/event-stream")) {
      LM_CO_TRY(const std::string rest, co_await relay_events(std::move(response), exchange, began));
      co_return co_await exchange.end(rest);
    }
    const bool lines = type && type->starts_with("application/x-ndjson");
    if (exchange.begun() && !lines) {
      // The 200 is out already: an answer that is no stream is an error of the engine's, said as an event.
      LM_CO_TRY(const std::string body, co_await response.read_all(std::size_t{1} << 20));
      runtime_.answer_began(lease);
      co_return co_await exchange.end(http::sse_event(body));
    }
    const auto relayed = co_await http::relay(std::move(response), exchange, began);
    // In the middle of a body that is no stream nothing can be said any more: the connection is cut, so that
    // the client sees it.
    // Lines can end with one that says it.
    if (!relayed && (!exchange.begun() || lines)) co_return fail(relayed.error());
    // A lease that ends before its worker's death is known would count as an answer.
    if (!relayed && !is_client_side(relayed.error())) co_await known_dead(lease.instance());
    co_return Result<void>();
  }

  // An upstream's refusal, without the key that it may show around: "Incorrect API key provided: sk-…".
  static Task<Result<void>> pass_refusal(http::Exchange& exchange, http::ClientResponse response,
                                         http::Headers keys) {
    const int status = response.status();
    http::Headers headers = http::end_to_end_headers(response.headers());
    LM_CO_TRY(std::string body, co_await response.read_all(std::size_t{1} << 20));
    for (const http::Header& key : keys) body = without_key(std::move(body), key.value);
    if (exchange.begun()) co_return co_await exchange.end(http::sse_event(body));
    headers.erase("Content-Length");
    co_return co_await exchange.respond(
        {.status = status, .headers = std::move(headers), .body = std::move(body)});
  }

  // What a server of others calls an answer has to be one: whole, and of the kind that was asked for.
  Task<Result<void>> pass_upstreams(http::Exchange& exchange, http::ClientResponse response,
                                    const runtime::Lease& lease, bool stream) {
    // Nobody follows one: the key would go wherever it points to.
    if (response.status() >= 300)
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("it points elsewhere ({}, to {}): correct its address in the configuration",
                                 response.status(),
                                 response.headers().get("Location").value_or("nowhere").substr(0, 200)),
                     "bad_upstream");
    if (endpoint_.native) co_return co_await pass_back(exchange, std::move(response), lease);
    const std::string type(response.headers().get("Content-Type").value_or(""));
    const bool events = type.starts_with("text/event-stream");
    if (events != stream || (!events && type.find("json") == std::string::npos))
      co_return fail(ErrorCode::kUnavailable,
                     type.empty() ? std::string("what came does not say what it is")
                                  : fmt::format("what came is {}", type.substr(0, 60)),
                     "bad_upstream");
    if (events) {
      LastEvent last;
      const auto observe = [this, &lease, &last, first = true](std::string_view piece) mutable {
        if (!piece.starts_with(':') && std::exchange(first, false)) runtime_.answer_began(lease);
        last.look(piece);
      };
      LM_CO_TRY(const std::string rest, co_await relay_events(std::move(response), exchange, observe));
      if (last.seen()) co_return co_await exchange.end(rest);
      if (!rest.empty()) LM_CO_TRY_VOID(co_await exchange.write(rest));
      co_return fail(ErrorCode::kUnavailable, "its stream ended before the answer did", "bad_upstream");
    }
    const int status = response.status();
    http::Headers headers = http::end_to_end_headers(response.headers());
    headers.erase("Content-Length");
    LM_CO_TRY(std::string body, co_await response.read_all(kLongestAnswer));
    if (const auto whole = scan_request(body); !whole)
      co_return fail(ErrorCode::kUnavailable,
                     fmt::format("what came is no answer: {}", whole.error().message), "bad_upstream");
    runtime_.answer_began(lease);
    co_return co_await exchange.respond(
        {.status = status, .headers = std::move(headers), .body = std::move(body)});
  }

  bool is_upstreams(const ModelId& id) const {
    const Model* model = runtime_.catalog().find(id);
    return model != nullptr && model->remote.has_value();
  }

  // The same way, to a server that is not ours: under its own name of the model, with its key.
  Task<> ask_upstream(http::Exchange& exchange, runtime::Lease& lease, bool stream) {
    const std::string upstream = runtime_.catalog().find(lease.model())->remote->upstream.str();
    const auto route = runtime_.upstream(lease.model());
    if (!route || !route->client) {
      co_return co_await end_with(exchange, {.code = ErrorCode::kUnavailable,
                                             .message = upstream + " does not run",
                                             .reason = "upstream_unreachable",
                                             .fields = {},
                                             .retry_after = std::chrono::seconds(1)});
    }
    auto body = with_model(exchange.request().body, route->name);
    if (!body) co_return co_await end_with(exchange, body.error());
    http::ClientRequest forward{
        .method = http::Method::kPost,
        .target = endpoint_.native
                      ? std::string(endpoint_.path)
                      : route->prefix + std::string(endpoint_.path.substr(std::string_view("/v1").size())),
        .headers = headers_for_upstream(exchange.request().headers),
        .body = *std::move(body),
        .interruption = std::make_shared<http::Interruption>(),
        .repeatable = true};  // as a worker's: a llama-server may be behind it, too
    exchange.take_body();     // it was copied: not held twice while the answer runs
    for (const http::Header& field : route->headers) forward.headers.set(field.name, field.value);
    lease.on_cut([interruption = forward.interruption] { interruption->interrupt(); });
    auto response = co_await route->client->send(std::move(forward), route->timeouts);
    Result<void> answered;
    if (response && response->status() >= 400) {
      answered = co_await pass_refusal(exchange, *std::move(response), route->headers);
    } else if (response) {
      answered = co_await pass_upstreams(exchange, *std::move(response), lease, stream);
    } else {
      answered = fail(std::move(response).error());
    }
    if (answered || is_client_side(answered.error())) co_return;
    if (const auto cut = lease.cut()) co_return co_await end_with(exchange, *cut);
    Error error = answered.error();
    error.message = fmt::format("{} did not answer: {}", upstream, error.message);
    error.fields.emplace_back("upstream", upstream);
    co_await end_with(exchange, std::move(error));
  }

  runtime::Runtime& runtime_;
  Endpoint endpoint_;
};

}  // namespace

void add_inference_routes(http::Router& router, runtime::Runtime& runtime,
                          runtime::TranscriptKeeper& transcripts) {
  for (const Endpoint& endpoint : kEndpoints) {
    http::RouteFunction run = inference_at(runtime, endpoint.path);
    if (endpoint.path == kChat) run = kept_chat(std::move(run), runtime, transcripts);
    router.add(http::Method::kPost, endpoint.path, std::move(run));
  }
}

http::RouteFunction inference_at(runtime::Runtime& runtime, std::string_view path) {
  const auto of = [&](const auto& endpoints) {
    const auto found = std::ranges::find(endpoints, path, &Endpoint::path);
    return found == std::end(endpoints) ? nullptr : &*found;
  };
  const Endpoint* endpoint = of(kEndpoints);
  if (endpoint == nullptr) endpoint = of(kOllamasOwn);
  LM_ASSERT(endpoint != nullptr, "there is such an endpoint");
  const auto inference = std::make_shared<Inference>(runtime, *endpoint);
  return [inference](http::Exchange& exchange) { return inference->serve(exchange); };
}

http::RouteFunction readying(runtime::Runtime& runtime, ModelKind kind) {
  const auto inference = std::make_shared<Inference>(
      runtime, Endpoint{.path = "", .question = "model", .kind = kind, .only_readies = true});
  return [inference](http::Exchange& exchange) { return inference->serve(exchange); };
}

}  // namespace lm::api
