#include "api/ollama_routes.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "api/inference.h"
#include "api/json_body.h"
#include "api/json_text.h"
#include "api/model_name.h"
#include "api/ollama_answer.h"
#include "api/ollama_request.h"
#include "api/ollama_views.h"
#include "api/retold_exchange.h"
#include "base/checksum.h"

namespace lm::api {
namespace {

namespace json = boost::json;

// Whose API this is: clients ask by it what they may use.
constexpr std::string_view kApiVersion = "0.33.0";
constexpr std::string_view kLatest = ":latest";
constexpr Duration kHeartbeat = std::chrono::seconds(10);
// Asked for as little as the end of a model's stay, an Ollama that takes longer is as good as gone.
constexpr Duration kAnswerLimit = std::chrono::seconds(10);

Error error_of(ErrorCode code, std::string message, std::string reason) {
  return fail(code, std::move(message), std::move(reason)).error();
}

bool is_ollamas(const Model& model) {
  return model.remote && model.family == Family::kOllama;
}

ModelKind kind_of(OllamaCall call) {
  return call == OllamaCall::kChat || call == OllamaCall::kGenerate ? ModelKind::kGeneration
                                                                    : ModelKind::kEmbedding;
}

OllamaAnswer::Form form_of(OllamaCall call) {
  return call == OllamaCall::kChat ? OllamaAnswer::Form::kChat : OllamaAnswer::Form::kGenerate;
}

// What is answered where nothing was asked.
std::string stay_text(OllamaCall call, const std::string& model, std::string_view done_reason) {
  if (call == OllamaCall::kEmbed) {
    return json_text(json::object{{"model", model}, {"embeddings", json::array()}});
  }
  if (call == OllamaCall::kEmbeddings) return json_text(json::object{{"embedding", json::array()}});
  return ollama_stay(form_of(call), model, done_reason, std::chrono::system_clock::now());
}

class Ollama {
 public:
  Ollama(runtime::Runtime& runtime, const DaemonFacts& facts)
      : runtime_(runtime),
        facts_(facts),
        ready_generation_(readying(runtime, ModelKind::kGeneration)),
        ready_embedding_(readying(runtime, ModelKind::kEmbedding)) {}

  Task<> answer(http::Exchange& exchange, OllamaCall call) {
    auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    exchange.take_body();  // it was copied: pictures are not held twice
    const auto asked = read_ollama(*body, call);
    if (!asked) co_return co_await answer_error(exchange, asked.error());
    auto known = resolve(asked->model, kind_of(call));
    if (known && cannot(*runtime_.catalog().find(known->id), *asked, call)) {
      co_await runtime_.know_kind(known->id);
      known = resolve(asked->model, kind_of(call));  // others may be listed by now
    }
    if (!known) co_return co_await answer_error(exchange, known.error());
    const Model model = *runtime_.catalog().find(known->id);
    const bool native = is_ollamas(model);
    if (auto refusal = native ? std::nullopt : cannot(model, *asked, call))
      co_return co_await answer_error(exchange, *std::move(refusal));

    if (!asked->asks && asked->keep_alive == Duration()) {
      if (native) co_return co_await unload_there(exchange, model, call, asked->model);
      runtime_.keep_alive(model.id, Duration());
      co_return co_await answer_text(exchange, stay_text(call, asked->model, "unload"));
    }
    const StayAfter stay{runtime_, model.id, native ? std::nullopt : asked->keep_alive};
    if (native) {
      (*body)["model"] = known->name;
      (*body)["stream"] = asked->stream;
      auto quiet = OllamaAnswer(form_of(call), asked->model, asked->stream, clock()).sign_of_life();
      co_return co_await retell(exchange, path_of(call), json_text(*body),
                                std::make_unique<OllamaLines>(asked->stream, std::move(quiet)));
    }
    if (!asked->asks) {
      const http::RouteFunction& ready =
          kind_of(call) == ModelKind::kGeneration ? ready_generation_ : ready_embedding_;
      co_return co_await retell(exchange, ready, "", json_text(json::object{{"model", known->name}}),
                                std::make_unique<OllamaLoaded>(stay_text(call, asked->model, "load")));
    }
    auto request =
        to_openai(*body, call, known->name, model.remote ? Answerer::kProvider : Answerer::kWorker);
    if (!request) co_return co_await answer_error(exchange, request.error());
    if (!request->ignored.empty())
      exchange.add_header("X-Ignored-Options", fmt::format("{}", fmt::join(request->ignored, ", ")));
    auto retelling = retelling_of(*body, call, *asked);
    if (!retelling) co_return co_await answer_error(exchange, retelling.error());
    body->clear();
    co_await retell(exchange, request->path, std::move(request->body), *std::move(retelling));
  }

  Task<> tags(http::Exchange& exchange) {
    json::array models;
    for (const Model& model : runtime_.catalog().models())
      models.push_back(ollama_tag(model, runtime_.catalog()));
    co_await answer_json(exchange, {{"models", std::move(models)}});
  }

  Task<> ps(http::Exchange& exchange) {
    co_await answer_json(
        exchange, ollama_ps(runtime_.snapshot(), runtime_.catalog(), std::chrono::system_clock::now()));
  }

  Task<> version(http::Exchange& exchange) {
    co_await answer_json(exchange, {{"version", kApiVersion}, {"llm_manager", facts_.version}});
  }

  Task<> show(http::Exchange& exchange) {
    const auto known = model_in(exchange.request());
    if (!known) co_return co_await answer_error(exchange, known.error());
    const Model model = *runtime_.catalog().find(known->id);
    if (is_ollamas(model)) co_return co_await show_there(exchange, model);
    if (model.remote) {
      // Nobody tells more of it.
      json::object tag = ollama_tag(model, runtime_.catalog());
      co_return co_await answer_json(exchange, {{"modelfile", ""},
                                                {"parameters", ""},
                                                {"template", ""},
                                                {"details", tag["details"]},
                                                {"model_info", json::object()},
                                                {"capabilities", tag["capabilities"]},
                                                {"modified_at", tag["modified_at"]}});
    }
    if (model.problem) co_return co_await answer_error(exchange, *model.problem);
    const auto file = co_await runtime_.inspect(model.artifact.path);
    if (!file) co_return co_await answer_error(exchange, file.error());
    co_await answer_json(exchange, ollama_show(model, *file));
  }

  // A pull goes on when whoever asked for it leaves, as all pulls do.
  Task<> pull(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto name = name_in(*body);
    const auto stream = bool_field(*body, "stream", true);
    if (!name) co_return co_await answer_error(exchange, name.error());
    if (!stream) co_return co_await answer_error(exchange, stream.error());
    auto subscription = runtime_.events().subscribe();
    const auto id = runtime_.pull(source_of(*name), who_asks(exchange.request()));
    if (!id) co_return co_await answer_error(exchange, id.error());
    // A source that is wrong from the start is told with its status: what is begun is under way.
    if (*stream) {
      if (!exchange.begin(200, {{"Content-Type", "application/x-ndjson"}})) co_return;
      if (!co_await exchange.write(status_line("pulling manifest"))) co_return;
    }
    for (std::string told;;) {
      const runtime::Pull* pull = runtime_.pulls().find(*id);
      if (pull == nullptr || runtime::rests(pull->state)) {
        if (pull != nullptr && pull->state == runtime::PullState::kDone) {
          if (*stream) co_return static_cast<void>(co_await exchange.end(status_line("success")));
          co_return co_await answer_json(exchange, {{"status", "success"}});
        }
        Error error = pull != nullptr && pull->error
                          ? *pull->error
                          : error_of(ErrorCode::kCancelled, "the pull was paused or cancelled", "pull_ended");
        if (!*stream) co_return co_await answer_error(exchange, std::move(error));
        co_return static_cast<void>(
            co_await exchange.end(json_text(json::object{{"error", error.message}}) + "\n"));
      }
      std::string now = progress_line(*pull, *name);
      if (*stream && now != told && !co_await exchange.write(now)) co_return;
      told = std::move(now);
      co_await subscription.next(kHeartbeat);
    }
  }

  Task<> remove(http::Exchange& exchange) {
    const auto known = model_in(exchange.request());
    if (!known) co_return co_await answer_error(exchange, known.error());
    if (const auto removed = runtime_.remove(known->id, false); !removed)
      co_return co_await answer_error(exchange, removed.error());
    co_await exchange.respond({.status = 200, .headers = {}, .body = {}});
  }

  Task<> not_here(http::Exchange& exchange, std::string instead) {
    co_await answer_error(
        exchange, error_of(ErrorCode::kUnimplemented, "llm-manager does not do this: " + std::move(instead),
                           "not_implemented"));
  }

 private:
  struct Known {
    ModelId id;
    std::string name;  // by which it is found again
  };

  // A model's stay after the answer, however that ends.
  struct StayAfter {
    runtime::Runtime& runtime;
    ModelId model;
    std::optional<Duration> keep_alive;
    ~StayAfter() {
      if (keep_alive) runtime.keep_alive(std::move(model), *keep_alive);
    }
  };

  OllamaClock clock() {
    return {.now = [this] { return runtime_.now(); }};
  }

  // Ollama's clients may add a tag to a name that has none.
  Result<Known> resolve(const std::string& name, ModelKind kind) const {
    auto id = runtime_.catalog().resolve(name, kind);
    if (id) return Known{*std::move(id), name};
    if (name.ends_with(kLatest)) {
      std::string bare = name.substr(0, name.size() - kLatest.size());
      if (auto found = runtime_.catalog().resolve(bare, kind))
        return Known{*std::move(found), std::move(bare)};
    }
    Error error = std::move(id).error();
    if (error.code != ErrorCode::kNotFound) return fail(std::move(error));
    // Clients look for these words.
    std::string nearest;
    for (const auto& [field, value] : error.fields) {
      if (field == "nearest" && std::holds_alternative<std::string>(value))
        nearest = fmt::format("; did you mean {}?", std::get<std::string>(value));
    }
    error.message = fmt::format("model '{}' not found{}", name, nearest);
    return fail(std::move(error));
  }

  // Of a body in which nothing but the model counts.
  Result<Known> model_in(const http::Request& request) const {
    LM_TRY(const auto body, object_body(request));
    LM_TRY(const auto name, name_in(body));
    return resolve(name, ModelKind::kGeneration);
  }

  static Result<std::string> name_in(const json::object& body) {
    LM_TRY(auto name, string_field(body, "model"));
    if (!name || name->empty()) {
      LM_TRY(name, string_field(body, "name"));
    }
    if (!name || name->empty())
      return fail(ErrorCode::kInvalidArgument, "model is required", "missing_field");
    return *std::move(name);
  }

  // What no load would change is refused before one begins.
  static std::optional<Error> cannot(const Model& model, const OllamaRequest& asked, OllamaCall call) {
    const auto does_not = [&](std::string_view what) {
      return error_of(ErrorCode::kInvalidArgument,
                      fmt::format("\"{}\" does not support {}", asked.model, what), "wrong_model_kind");
    };
    if (kind_of(call) == ModelKind::kEmbedding)
      return model.kind == ModelKind::kEmbedding ? std::nullopt : std::optional(does_not("embeddings"));
    if (model.kind != ModelKind::kGeneration)
      return does_not(call == OllamaCall::kChat ? "chat" : "generate");
    if (asked.shows && !model.remote && model.artifact.projector.empty()) return does_not("vision");
    return std::nullopt;
  }

  Result<std::unique_ptr<Retelling>> retelling_of(const json::object& body, OllamaCall call,
                                                  const OllamaRequest& asked) {
    if (kind_of(call) == ModelKind::kGeneration)
      return std::make_unique<OllamaAnswer>(form_of(call), asked.model, asked.stream, clock());
    LM_TRY(const auto dimensions, int_field(body, "dimensions", 1));
    const auto wanted = dimensions ? std::optional(static_cast<std::size_t>(*dimensions)) : std::nullopt;
    return std::make_unique<OllamaEmbeddings>(asked.model, call == OllamaCall::kEmbeddings, wanted, clock());
  }

  Task<> retell(http::Exchange& exchange, std::string_view path, std::string body,
                std::unique_ptr<Retelling> retelling) {
    return retell(exchange, inference_at(runtime_, path), path, std::move(body), std::move(retelling));
  }

  // As if the client had asked with `body` at `path`; what `inference` answers is told in Ollama's words.
  Task<> retell(http::Exchange& exchange, http::RouteFunction inference, std::string_view path,
                std::string body, std::unique_ptr<Retelling> retelling) {
    http::Request question = exchange.request();
    // Errors are told to us as to OpenAI's clients: these have all that is to be known of them.
    question.path = path.starts_with("/v1/") ? std::string(path) : "/v1/chat/completions";
    question.headers.set("Content-Type", "application/json");
    question.body = std::move(body);
    RetoldExchange retold(exchange, std::move(question), std::move(retelling),
                          [this] { return runtime_.now(); });
    co_await inference(retold);
    co_await retold.close();
  }

  static Task<> answer_text(http::Exchange& exchange, std::string text) {
    co_await exchange.respond({.status = 200,
                               .headers = {{"Content-Type", "application/json; charset=utf-8"}},
                               .body = std::move(text)});
  }

  // Asks the upstream at once. For what frees memory or only tells: nothing has to make room for it.
  Task<Result<http::Response>> ask_there(Model model, std::string target, json::object body) {
    const auto route = runtime_.upstream(model.id);
    if (!route || !route->client) {
      co_return fail(ErrorCode::kUnavailable, model.remote->upstream.str() + " does not run",
                     "upstream_unreachable");
    }
    body["model"] = route->name;
    http::ClientRequest request{.method = http::Method::kPost,
                                .target = std::move(target),
                                .headers = {{"Content-Type", "application/json"}},
                                .body = json_text(body),
                                .interruption = {}};
    for (const http::Header& field : route->headers) request.headers.set(field.name, field.value);
    LM_CO_TRY(auto response, co_await route->client->send(
                                 std::move(request), {.first_byte = kAnswerLimit, .silence = kAnswerLimit}));
    LM_CO_TRY(std::string text, co_await response.read_all(std::size_t{16} << 20));
    co_return http::Response{.status = response.status(),
                             .headers = {{"Content-Type", "application/json; charset=utf-8"}},
                             .body = std::move(text)};
  }

  Task<> unload_there(http::Exchange& exchange, Model model, OllamaCall call, std::string name) {
    // Of embedding models too: /api/embed would load one in order to unload it.
    auto response =
        co_await ask_there(std::move(model), "/api/generate", {{"stream", false}, {"keep_alive", 0}});
    if (!response) co_return co_await answer_error(exchange, response.error());
    if (response->status != 200) co_return static_cast<void>(co_await exchange.respond(*std::move(response)));
    co_await answer_text(exchange, stay_text(call, name, "unload"));
  }

  Task<> show_there(http::Exchange& exchange, Model model) {
    auto response = co_await ask_there(std::move(model), "/api/show", {});
    if (!response) co_return co_await answer_error(exchange, response.error());
    co_await exchange.respond(*std::move(response));
  }

  // As pull.md writes sources; what names none is a model of Ollama's registry, or of Hugging Face in
  // Ollama's way of writing that.
  static std::string source_of(const std::string& name) {
    for (const std::string_view scheme : {"hf:", "ollama:", "npm:", "https:", "http:"}) {
      if (name.starts_with(scheme)) return name;
    }
    for (const std::string_view host : {"hf.co/", "huggingface.co/"}) {
      if (name.starts_with(host)) return "hf:" + name.substr(host.size());
    }
    return "ollama:" + name;
  }

  static std::string status_line(std::string_view status) {
    return json_text(json::object{{"status", status}}) + "\n";
  }

  static std::string progress_line(const runtime::Pull& pull, const std::string& name) {
    if (pull.stage == "verifying") return status_line("verifying sha256 digest");
    if (pull.total <= Bytes()) return status_line("pulling manifest");
    // Clients draw one bar for each of these.
    const std::string bar = fmt::format("pull:{:016x}", checksum(pull.source));
    return json_text(json::object{{"status", "pulling " + name},
                                  {"digest", bar},
                                  {"total", pull.total.count()},
                                  {"completed", pull.done.count()}}) +
           "\n";
  }

  runtime::Runtime& runtime_;
  const DaemonFacts& facts_;
  http::RouteFunction ready_generation_, ready_embedding_;
};

}  // namespace

void add_ollama_routes(http::Router& router, runtime::Runtime& runtime, const DaemonFacts& facts) {
  const auto ollama = std::make_shared<Ollama>(runtime, facts);
  using enum http::Method;
  constexpr auto kUser = http::Principal::kUser;
  constexpr auto kAdmin = http::Principal::kAdmin;
  const auto add = [&](http::Method method, std::string_view pattern, Task<> (Ollama::*call)(http::Exchange&),
                       http::Principal needs) {
    router.add(
        method, pattern,
        http::Route{[ollama, call](http::Exchange& exchange) { return ((*ollama).*call)(exchange); }, needs});
  };
  for (const OllamaCall call :
       {OllamaCall::kChat, OllamaCall::kGenerate, OllamaCall::kEmbed, OllamaCall::kEmbeddings}) {
    router.add(kPost, path_of(call),
               [ollama, call](http::Exchange& exchange) { return ollama->answer(exchange, call); });
  }
  add(kGet, "/api/tags", &Ollama::tags, kUser);
  add(kGet, "/api/ps", &Ollama::ps, kUser);
  add(kGet, "/api/version", &Ollama::version, kUser);
  add(kPost, "/api/show", &Ollama::show, kUser);
  add(kPost, "/api/pull", &Ollama::pull, kAdmin);
  add(kDelete, "/api/delete", &Ollama::remove, kAdmin);
  const auto refuse = [&](http::Method method, std::string_view pattern, std::string instead) {
    router.add(method, pattern,
               http::Route{[ollama, instead](http::Exchange& exchange) {
                             return ollama->not_here(exchange, instead);
                           },
                           kAdmin});
  };
  refuse(kPost, "/api/create", "models are configured under models: in the configuration");
  refuse(kPost, "/api/copy", "a second name is a second section under models: in the configuration");
  refuse(kPost, "/api/push", "models are pulled here, and published elsewhere");
  refuse(kPost, "/api/blobs/{digest}", "put the file into a folder of model_folders");
  refuse(kHead, "/api/blobs/{digest}", "put the file into a folder of model_folders");
}

}  // namespace lm::api
