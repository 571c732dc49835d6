// Models from elsewhere: pulls that the daemon owns, and the removal of files.
#include <charconv>

#include <fmt/format.h>

#include "api/event_relay.h"
#include "api/json_body.h"
#include "api/manager_routes.h"
#include "api/views.h"
#include "http/sse.h"

namespace lm::api {
namespace {

namespace json = boost::json;

constexpr Duration kHeartbeat = std::chrono::seconds(10);

class Pulling {
 public:
  explicit Pulling(runtime::Runtime& runtime) : runtime_(runtime) {}

  // A pull goes on when whoever asked for it leaves: it is the daemon's.
  Task<> pull(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto source = string_field(*body, "source");
    const auto wait = bool_field(*body, "wait", true);
    const auto stream =
        bool_field(*body, "stream", exchange.request().headers.has_token("Accept", "text/event-stream"));
    for (const Error* error : {source ? nullptr : &source.error(), wait ? nullptr : &wait.error(),
                               stream ? nullptr : &stream.error()}) {
      if (error != nullptr) co_return co_await answer_error(exchange, *error);
    }
    if (!*source) {
      co_return co_await answer_error(
          exchange, {.code = ErrorCode::kInvalidArgument,
                     .message = "\"source\" is missing: say what, as in \"hf:OWNER/REPO:Q4_K_M\"",
                     .reason = "missing_field",
                     .fields = {},
                     .retry_after = {}});
    }
    auto subscription = runtime_.events().subscribe();
    const auto id = runtime_.pull(**source, who_asks(exchange.request()));
    if (!id) co_return co_await answer_error(exchange, id.error());
    if (!*wait) co_return co_await answer_json(exchange, to_json(*runtime_.pulls().find(*id)), 202);
    if (*stream) co_return co_await follow(exchange, *id, subscription);
    for (const runtime::Pull* pull = nullptr;;) {
      pull = runtime_.pulls().find(*id);
      if (pull == nullptr || runtime::rests(pull->state)) {
        if (pull == nullptr) co_return co_await answer_error(exchange, forgotten(*id));
        if (pull->error) co_return co_await answer_error(exchange, *pull->error);
        co_return co_await answer_json(exchange, to_json(*pull));
      }
      co_await subscription.next(kHeartbeat);
    }
  }

  Task<> list(http::Exchange& exchange) {
    json::array pulls;
    for (const runtime::Pull& pull : runtime_.pulls().all()) pulls.push_back(to_json(pull));
    co_await answer_json(exchange, {{"pulls", std::move(pulls)}});
  }

  Task<> show(http::Exchange& exchange) {
    const runtime::Pull* pull = runtime_.pulls().find(id_of(exchange.request()));
    if (pull == nullptr) co_return co_await answer_error(exchange, forgotten(id_of(exchange.request())));
    co_await answer_json(exchange, to_json(*pull));
  }

  using Change = Result<void> (runtime::Pulls::*)(std::uint64_t);
  Task<> change(http::Exchange& exchange, Change change) {
    const std::uint64_t id = id_of(exchange.request());
    if (const auto done = (runtime_.pulls().*change)(id); !done)
      co_return co_await answer_error(exchange, done.error());
    co_await answer_json(exchange, to_json(*runtime_.pulls().find(id)));
  }

  Task<> remove(http::Exchange& exchange) {
    const auto body = object_body(exchange.request());
    if (!body) co_return co_await answer_error(exchange, body.error());
    const auto name = string_field(*body, "model");
    const auto force = bool_field(*body, "force", false);
    if (!name) co_return co_await answer_error(exchange, name.error());
    if (!force) co_return co_await answer_error(exchange, force.error());
    if (!*name || (*name)->empty()) {
      co_return co_await answer_error(exchange, {.code = ErrorCode::kInvalidArgument,
                                                 .message = "\"model\" is missing: say which",
                                                 .reason = "missing_field",
                                                 .fields = {},
                                                 .retry_after = {}});
    }
    const auto model = runtime_.catalog().resolve(**name);
    if (!model) co_return co_await answer_error(exchange, model.error());
    const auto removed = runtime_.remove(*model, *force);
    if (!removed) co_return co_await answer_error(exchange, removed.error());
    co_await answer_json(exchange, {{"model", model->str()},
                                    {"files", json::value_from(removed->files)},
                                    {"kept", json::value_from(removed->kept)},
                                    {"bytes", removed->size.count()}});
  }

 private:
  // 0 is nobody's.
  static std::uint64_t id_of(const http::Request& request) {
    const std::string_view text = request.path_value("pull");
    std::uint64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    return error == std::errc() && end == text.data() + text.size() ? id : 0;
  }

  static Error forgotten(std::uint64_t id) {
    return {.code = ErrorCode::kNotFound,
            .message = fmt::format("no pull {}: llm-manager pulls lists them", id),
            .reason = "pull_not_found",
            .fields = {},
            .retry_after = {}};
  }

  Task<> follow(http::Exchange& exchange, std::uint64_t id, runtime::EventHub::Subscription subscription) {
    if (!exchange.begin(200, event_stream_headers())) co_return;
    // At once, so that whoever leaves early knows which it was.
    if (const runtime::Pull* pull = runtime_.pulls().find(id);
        pull != nullptr && !runtime::rests(pull->state)) {
      const std::string first = http::sse_event(json_text(to_json(*pull)), "progress");
      if (!co_await exchange.write(first)) co_return;
    }
    for (;;) {
      const runtime::Pull* pull = runtime_.pulls().find(id);
      if (pull == nullptr || runtime::rests(pull->state)) {
        const auto error = pull == nullptr ? std::optional(forgotten(id)) : pull->error;
        co_await exchange.end(error ? http::sse_event(json_text(error_json(*error)), "error")
                                    : http::sse_event(json_text(to_json(*pull)), "done"));
        co_return;
      }
      const auto happening = co_await subscription.next(kHeartbeat);
      std::string text;
      if (!happening) {
        text = http::sse_comment(fmt::format("pull {} goes on", id));
      } else if (const auto* news = std::get_if<runtime::Pull>(&happening->news); news && news->id == id) {
        // Of one that rests the end tells.
        if (!runtime::rests(news->state)) text = http::sse_event(json_text(to_json(*news)), "progress");
      }
      if (!text.empty() && !co_await exchange.write(text)) co_return;
    }
  }

  runtime::Runtime& runtime_;
};

}  // namespace

void add_pull_routes(http::Router& router, runtime::Runtime& runtime) {
  const auto pulling = std::make_shared<Pulling>(runtime);
  using enum http::Method;
  constexpr auto kUser = http::Principal::kUser;
  constexpr auto kAdmin = http::Principal::kAdmin;
  const auto add = [&](http::Method method, std::string_view pattern,
                       Task<> (Pulling::*call)(http::Exchange&), http::Principal needs) {
    router.add(method, pattern,
               http::Route{[pulling, call](http::Exchange& exchange) { return ((*pulling).*call)(exchange); },
                           needs});
  };
  const auto add_change = [&](std::string_view pattern, Pulling::Change change) {
    router.add(
        kPost, pattern,
        http::Route{[pulling, change](http::Exchange& exchange) { return pulling->change(exchange, change); },
                    kAdmin});
  };
  add(kPost, "/api/v1/pull", &Pulling::pull, kAdmin);
  add(kGet, "/api/v1/pulls", &Pulling::list, kUser);
  add(kGet, "/api/v1/pulls/{pull}", &Pulling::show, kUser);
  add_change("/api/v1/pulls/{pull}/pause", &runtime::Pulls::pause);
  add_change("/api/v1/pulls/{pull}/resume", &runtime::Pulls::resume);
  add_change("/api/v1/pulls/{pull}/cancel", &runtime::Pulls::cancel);
  add(kPost, "/api/v1/models/remove", &Pulling::remove, kAdmin);
}

}  // namespace lm::api
