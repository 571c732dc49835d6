#include "client/session.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/json/serialize.hpp>
#include <fmt/format.h>

#include "client/prompt.h"
#include "config/sources.h"

namespace llm_manager {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
namespace http = lm::http;
using lm::Task;
using std::chrono::seconds;

constexpr std::size_t kLargestAnswer = std::size_t{256} << 20;
// Calls that are cancelled end within a turn of the loop; this is for callbacks that do not.
constexpr auto kCloseLimit = seconds(10);
// Every context that a model is loaded with has room for so many tokens.
constexpr std::size_t kSurelyFits = 384;
// DRY sampling: what was said already is less likely to be said again, from the fourth token on.
constexpr double kDryMultiplier = 0.8;
constexpr int kDryAllowed = 4;
// Left for an answer whose length nobody has said.
constexpr int kUsualAnswer = 256;

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::unexpected<Error> refuse(lm::Error error) {
  return std::unexpected(lm::client::to_public(error));
}

// What the daemon will be given, read here first: its problems are told before anything is started.
// One of our own finds its file by itself where none is named; so do we.
lm::Result<lm::config::Loaded> read_configuration(const Options& options, bool own_daemon) {
  const auto here = std::filesystem::current_path();
  if (!options.configuration.empty()) {
    return lm::config::load(
        {.config = lm::config::SourceText{.path = here / "configuration", .text = options.configuration},
         .dotenv = {},
         .environment = lm::config::process_environment(),
         .working_folder = here});
  }
  std::optional<std::filesystem::path> file;
  if (!options.configuration_file.empty()) file = options.configuration_file;
  if (!file && !own_daemon) return lm::config::Loaded();
  LM_TRY(auto sources, lm::config::find_sources(file, here, lm::config::process_environment()));
  return lm::config::load(sources);
}

// "host:port" as well.
std::string with_scheme(std::string url) {
  if (url.find("://") == std::string::npos && !url.starts_with("unix:")) url.insert(0, "http://");
  return url;
}

bool is_called_any(const ModelInfo& model, const std::vector<std::string>& names) {
  return std::ranges::any_of(names, [&](const std::string& name) { return model.is_called(name); });
}

}  // namespace

Result<std::shared_ptr<Client::Session>> Client::Session::open(const Options& options) {
  std::string url = options.url.empty() ? variable("LLM_MANAGER_URL") : options.url;
  auto loaded = read_configuration(options, url.empty());
  if (!loaded) return refuse(std::move(loaded).error());
  // What a forked child has of it is left alone: taking it apart would reach into the parent's epoll.
  std::shared_ptr<Session> session(new Session, [](Session* one) {
    if (one->process_ == ::getpid()) delete one;
  });
  session->process_ = ::getpid();
  for (const auto& warning : loaded->warnings) session->warnings_.push_back(lm::config::to_string(warning));
  const auto& response = loaded->config.vtuber_response;
  session->max_tokens_ = response.max_tokens;
  session->min_tokens_ = response.min_tokens;
  session->filters_.repetition = response.filter_repetition;
  if (response.enable_traditional_chinese) {
    auto words = lm::chat::TraditionalChinese::open();
    if (!words)
      return refuse(std::move(words).error().with_context("vtuber.response.enable_traditional_chinese"));
    session->filters_.traditional = *std::move(words);
  }
  session->api_key_ = options.api_key.empty() ? variable("LLM_MANAGER_API_KEY") : options.api_key;
  session->client_name_ =
      options.client_name.empty() ? std::string(program_invocation_short_name) : options.client_name;
  if (url.empty()) {
    auto program = lm::client::find_program(options.program);
    if (!program) return refuse(std::move(program).error());
    auto daemon = lm::client::PrivateDaemon::start({.program = *std::move(program),
                                                    .configuration = options.configuration,
                                                    .configuration_file = options.configuration_file,
                                                    .data = options.data,
                                                    .start_limit = options.start_limit});
    if (!daemon) return refuse(std::move(daemon).error());
    session->daemon_ = *std::move(daemon);
    url = session->daemon_->address();
  }
  auto endpoint = http::Endpoint::parse(with_scheme(url));
  if (!endpoint) return refuse(std::move(endpoint).error());
  session->address_ = endpoint->text();
  session->http_.emplace(session->loop_->context.get_executor(), *std::move(endpoint));
  session->loop_->thread = std::thread([loop = session->loop_] { loop->context.run(); });
  // Somebody is there, and is one of ours.
  const auto greeted = session->wait<std::string>([](Session& self) { return self.get("/api/v1/system"); });
  if (!greeted) return std::unexpected(greeted.error());
  return session;
}

void Client::Session::close() {
  const std::scoped_lock closing(closing_);
  // In a forked child there is neither the thread nor the right to end the daemon.
  if (process_ != ::getpid()) return;
  {
    std::unique_lock lock(mutex_);
    if (std::exchange(closed_, true)) return;
    for (const auto& state : calls_) Call(state).cancel();
    if (std::this_thread::get_id() != loop_->thread.get_id())
      idle_.wait_for(lock, kCloseLimit, [this] { return calls_.empty(); });
  }
  loop_->work.reset();
  loop_->context.stop();
  if (loop_->thread.joinable()) {
    if (std::this_thread::get_id() == loop_->thread.get_id()) {
      loop_->thread.detach();
    } else {
      loop_->thread.join();
    }
  }
  http_.reset();
  if (daemon_) daemon_->stop();
}

bool Client::Session::closed() const {
  const std::scoped_lock lock(mutex_);
  return closed_ || process_ != ::getpid();
}

void Client::Session::set_retriever(std::shared_ptr<Retriever> retriever) {
  const std::scoped_lock lock(mutex_);
  retriever_ = std::move(retriever);
}

void Client::Session::retrieve(Question& question) const {
  constexpr int kPassages = 5;
  std::shared_ptr<Retriever> retriever;
  {
    const std::scoped_lock lock(mutex_);
    retriever = retriever_;
  }
  if (!question.retrieve || !retriever) return;
  for (Passage& passage : retriever->search(question.prompt, kPassages))
    question.passages.push_back(std::move(passage));
}

ConversationStats Client::Session::stats() const {
  const std::scoped_lock lock(mutex_);
  return conversation_.stats(std::chrono::steady_clock::now());
}

std::optional<Error> Client::Session::refusal() const {
  if (process_ != ::getpid()) {
    return Error{.code = ErrorCode::kFailedPrecondition,
                 .message = "this process was forked from the one that opened the client: open another here",
                 .reason = "forked",
                 .details = {}};
  }
  if (!closed()) return std::nullopt;
  return Error{.code = ErrorCode::kFailedPrecondition,
               .message = "the client is closed",
               .reason = "closed",
               .details = {}};
}

Error Client::Session::own_thread() {
  return {.code = ErrorCode::kFailedPrecondition,
          .message = "a callback must not wait: use the asynchronous form",
          .reason = "own_thread",
          .details = {}};
}

void Client::Session::launch(const std::shared_ptr<Call::State>& state, std::function<Task<void>()> make,
                             const std::function<void(Error)>& refuse_it) {
  {
    const std::scoped_lock lock(mutex_);
    if (!closed_) {
      calls_.insert(state);
      asio::post(loop_->context, [this, state, make = std::move(make)] { begin(state, make); });
      return;
    }
  }
  refuse_it(*refusal());
}

void Client::Session::begin(const std::shared_ptr<Call::State>& state,
                            const std::function<Task<void>()>& make) {
  asio::co_spawn(loop_->context, make(),
                 asio::bind_cancellation_slot(state->signal.slot(), [this, state](std::exception_ptr error) {
                   ended(state);
                   // Of a callback of our user's: nobody else could hear it.
                   if (error) std::rethrow_exception(error);
                 }));
  if (state->cancelled && !state->ended) state->signal.emit(asio::cancellation_type::terminal);
}

void Client::Session::ended(const std::shared_ptr<Call::State>& state) {
  state->ended = true;
  const std::scoped_lock lock(mutex_);
  calls_.erase(state);
  if (calls_.empty()) idle_.notify_all();
}

http::Headers Client::Session::headers() const {
  http::Headers headers{{"Accept", "application/json"}, {"User-Agent", "libllm_manager"}};
  headers.set("X-Client-Name", client_name_);
  if (!api_key_.empty()) headers.set("Authorization", "Bearer " + api_key_);
  return headers;
}

Error Client::Session::network_error(const lm::Error& error) const {
  Error out = lm::client::to_public(error);
  if (out.code == ErrorCode::kCancelled) return out;
  if (out.code == ErrorCode::kUnavailable) {
    out.message = daemon_ ? fmt::format("the private daemon has gone: {}", error.message)
                          : fmt::format("no daemon answers at {}: {}", address_, error.message);
    out.reason = "no_daemon";
  }
  return out;
}

Task<Result<std::string>> Client::Session::ask(http::Method method, std::string target, std::string body,
                                               Patience patience) {
  http::ClientRequest request{.method = method,
                              .target = std::move(target),
                              .headers = headers(),
                              .body = std::move(body),
                              .interruption = {}};
  if (method == http::Method::kPost) request.headers.set("Content-Type", "application/json");
  const http::Timeouts timeouts =
      patience == Patience::kShort
          ? http::Timeouts{.connect = seconds(5), .first_byte = seconds(30), .silence = seconds(30)}
          : http::Timeouts{
                .connect = seconds(5), .first_byte = lm::Duration::max(), .silence = lm::Duration::max()};
  auto response = co_await http_->send(std::move(request), timeouts);
  if (!response) co_return std::unexpected(network_error(response.error()));
  auto text = co_await response->read_all(kLargestAnswer);
  if (!text) co_return std::unexpected(network_error(text.error()));
  if (response->status() >= 400) co_return std::unexpected(lm::client::error_of(response->status(), *text));
  co_return *std::move(text);
}

Task<Result<std::string>> Client::Session::get(std::string target) {
  co_return co_await ask(http::Method::kGet, std::move(target), {}, Patience::kShort);
}

Task<Result<std::string>> Client::Session::post(std::string target, json::object body) {
  co_return co_await ask(http::Method::kPost, std::move(target), json::serialize(body),
                         Patience::kAsTheDaemon);
}

Task<Result<Change>> Client::Session::change(std::string target, json::object body) {
  const auto text = co_await post(std::move(target), std::move(body));
  if (!text) co_return std::unexpected(text.error());
  co_return lm::client::read_change(*text);
}

Task<Result<void>> Client::Session::stream(http::ClientRequest request, http::Timeouts timeouts,
                                           OnSse on_event) {
  request.headers = headers();
  request.headers.set("Accept", "text/event-stream");
  if (request.method == http::Method::kPost) request.headers.set("Content-Type", "application/json");
  auto response = co_await http_->send(std::move(request), timeouts);
  if (!response) co_return std::unexpected(network_error(response.error()));
  if (response->status() >= 400) {
    const auto text = co_await response->read_all(kLargestAnswer);
    if (!text) co_return std::unexpected(network_error(text.error()));
    co_return std::unexpected(lm::client::error_of(response->status(), *text));
  }
  Result<void> heard;
  http::SseParser parser([&](const http::SseEvent& event) {
    if (heard) heard = on_event(event);
  });
  while (heard) {
    const auto piece = co_await response->read();
    if (!piece) co_return std::unexpected(network_error(piece.error()));
    if (!*piece) break;
    if (const auto fed = parser.feed(**piece); !fed) co_return std::unexpected(network_error(fed.error()));
  }
  co_return heard;
}

Task<Result<void>> Client::Session::follow_events(OnEvent on_event) {
  // Nobody but its caller ends it.
  co_return co_await stream({.target = "/api/v1/events", .headers = {}, .body = {}, .interruption = {}},
                            {.first_byte = seconds(30), .silence = lm::Duration::max()},
                            [on_event](const http::SseEvent& event) -> Result<void> {
                              on_event({.kind = event.event, .json = event.data});
                              return {};
                            });
}

Task<Result<void>> Client::Session::ask_chat(json::object body, lm::client::Telling* telling,
                                             Answer* answer) {
  // While it waits or its model reads, the daemon says so.
  constexpr auto kSilence = std::chrono::minutes(2);
  constexpr const char* kEnough = "enough";
  Answer part;
  const auto asked =
      co_await stream({.method = http::Method::kPost,
                       .target = "/v1/chat/completions",
                       .headers = {},
                       .body = json::serialize(body),
                       .interruption = {}},
                      {.first_byte = kSilence, .silence = kSilence},
                      [telling, &part](const http::SseEvent& event) -> Result<void> {
                        const auto piece = lm::client::take_chat_event(event.data, part);
                        if (!piece) return std::unexpected(piece.error());
                        if (piece->empty() || telling->say(*piece)) return {};
                        return std::unexpected(Error{.message = {}, .reason = kEnough, .details = {}});
                      });
  if (!asked && asked.error().reason != kEnough) co_return asked;
  answer->model = part.model;
  answer->reasoning += part.reasoning;
  answer->finish_reason = asked ? part.finish_reason : "repetition";
  if (answer->prompt_tokens == 0) answer->prompt_tokens = part.prompt_tokens;
  answer->answer_tokens += part.answer_tokens;
  co_return Result<void>();
}

Task<Result<void>> Client::Session::go_on(json::object body, int must, std::optional<int> may,
                                          lm::client::Telling* telling, Answer* answer) {
  const json::array messages = body.at("messages").as_array();
  for (const bool forced : {true, false}) {
    if (!forced && may && *may <= 0) break;
    json::array more = messages;
    if (!telling->raw().empty()) {
      more.push_back({{"role", "assistant"}, {"content", telling->raw()}});
      body["continue_final_message"] = true;
      body["add_generation_prompt"] = false;
    }
    body["messages"] = std::move(more);
    body["ignore_eos"] = forced;
    if (forced) {
      body["max_tokens"] = must;
    } else if (may) {
      body["max_tokens"] = *may;
    } else {
      body.erase("max_tokens");
    }
    const auto asked = co_await ask_chat(body, telling, answer);
    if (!asked) co_return asked;
    // Its tokens are used up, as was asked; anything else is an end.
    if (answer->finish_reason != "length") break;
  }
  co_return Result<void>();
}

Task<Result<Answer>> Client::Session::answer(Question question, OnText on_text) {
  const auto began = std::chrono::steady_clock::now();
  const std::string prompt = question.prompt;
  auto answer = co_await answer_uncounted(std::move(question), std::move(on_text));
  const auto now = std::chrono::steady_clock::now();
  const std::scoped_lock lock(mutex_);
  if (answer) {
    conversation_.answered(prompt, *answer, now - began, now);
  } else if (answer.error().code != ErrorCode::kCancelled) {
    conversation_.failed();
  }
  co_return answer;
}

Task<Result<Answer>> Client::Session::answer_uncounted(Question question, OnText on_text) {
  const auto first = co_await first_turn_that_fits(question);
  if (!first) co_return std::unexpected(first.error());
  json::object body{{"model", question.model},
                    {"messages", lm::client::messages_json(lm::client::messages_of(question, *first))},
                    {"stream", true},
                    {"stream_options", {{"include_usage", true}}}};
  const Sampling& sampling = question.sampling;
  const auto put = [&body](std::string_view name, const auto& value) {
    if (value) body[{name.data(), name.size()}] = *value;
  };
  put("max_tokens", sampling.max_tokens ? sampling.max_tokens : max_tokens_);
  put("temperature", sampling.temperature);
  put("top_p", sampling.top_p);
  put("top_k", sampling.top_k);
  put("seed", sampling.seed);
  bool is_local = false;  // and so may be asked for what only our engine knows
  if (filters_.repetition || min_tokens_) {
    const auto info = co_await model(question.model);
    is_local = info && info->family == "local";
  }
  if (is_local && filters_.repetition) {
    body["dry_multiplier"] = kDryMultiplier;
    body["dry_allowed_length"] = kDryAllowed;
  }
  Answer answer;
  lm::client::Telling telling(filters_, std::move(on_text));
  auto asked = co_await ask_chat(body, &telling, &answer);
  if (!asked && asked.error().lacks_memory() && telling.raw().empty()) {
    // What is idle makes way, and it is tried once more.
    const auto freed = co_await optimize({question.model});
    if (freed && freed->changed) asked = co_await ask_chat(body, &telling, &answer);
  }
  if (!asked) co_return std::unexpected(asked.error());
  const int missing = min_tokens_.value_or(0) - answer.answer_tokens;
  if (is_local && missing > 0 && answer.finish_reason == "stop") {
    const auto most = sampling.max_tokens ? sampling.max_tokens : max_tokens_;
    const int left = most.value_or(0) - answer.answer_tokens;
    const int must = most ? std::min(missing, left) : missing;
    if (must > 0) {
      asked = co_await go_on(body, must, most ? std::optional(left - must) : std::nullopt, &telling, &answer);
      if (!asked) co_return std::unexpected(asked.error());
    }
  }
  telling.finish();
  answer.text = telling.text();
  answer.turns_left_out = static_cast<int>(*first);
  answer.passages = std::move(question.passages);
  co_return answer;
}

Task<Result<int>> Client::Session::count_tokens(Question question, std::size_t first) {
  const auto text =
      co_await post("/v1/chat/completions/input_tokens",
                    {{"model", question.model},
                     {"messages", lm::client::messages_json(lm::client::messages_of(question, first))}});
  if (!text) co_return std::unexpected(text.error());
  co_return lm::client::read_number(*text, "input_tokens");
}

Task<Result<std::size_t>> Client::Session::first_turn_that_fits(Question question) {
  const std::size_t turns = question.history.size();
  const auto most_answer = question.sampling.max_tokens ? question.sampling.max_tokens : max_tokens_;
  const int reserve = most_answer.value_or(kUsualAnswer);
  if (turns == 0 || lm::client::most_tokens(lm::client::messages_of(question)) <= kSurelyFits)
    co_return std::size_t{0};
  auto tokens = co_await count_tokens(question, 0);
  // An upstream's model: it has a tokenizer of its own, and cuts by itself or says that it is too much.
  if (!tokens &&
      (tokens.error().code == ErrorCode::kNotFound || tokens.error().code == ErrorCode::kUnimplemented)) {
    co_return std::size_t{0};
  }
  if (!tokens) co_return std::unexpected(tokens.error());
  const auto info = co_await model(question.model);
  if (!info) co_return std::unexpected(info.error());
  if (info->context == 0) co_return std::size_t{0};
  const int room = info->context - reserve;
  if (*tokens <= room) co_return std::size_t{0};
  // The fewest turns to leave out: with more left out there are never more tokens.
  std::size_t too_few = 0, enough = turns;
  while (enough - too_few > 1) {
    const std::size_t middle = too_few + (enough - too_few) / 2;
    tokens = co_await count_tokens(question, middle);
    if (!tokens) co_return std::unexpected(tokens.error());
    (*tokens <= room ? enough : too_few) = middle;
  }
  co_return enough;
}

Task<Result<ModelInfo>> Client::Session::model(std::string name) {
  const auto text = co_await get("/api/v1/models");
  if (!text) co_return std::unexpected(text.error());
  auto models = lm::client::read_models(*text);
  if (!models) co_return std::unexpected(models.error());
  const auto found = std::ranges::find_if(*models, [&](const ModelInfo& one) { return one.is_called(name); });
  if (found != models->end()) co_return std::move(*found);
  co_return std::unexpected(Error{.code = ErrorCode::kNotFound,
                                  .message = fmt::format("no model is named {}", name),
                                  .reason = "model_not_found",
                                  .details = {}});
}

Task<Result<Change>> Client::Session::optimize(std::vector<std::string> keep) {
  const auto text = co_await get("/api/v1/models");
  if (!text) co_return std::unexpected(text.error());
  const auto models = lm::client::read_models(*text);
  if (!models) co_return std::unexpected(models.error());
  Change all;
  for (const ModelInfo& one : *models) {
    if (!one.is_ready() || one.family != "local" || one.pinned || one.active > 0 || one.waiting > 0) continue;
    if (is_called_any(one, keep)) continue;
    auto gone = co_await change("/api/v1/models/unload", {{"model", one.id}});
    if (!gone) co_return std::unexpected(gone.error());
    all.changed = all.changed || gone->changed;
    all.took_s += gone->took_s;
    if (!gone->release) continue;
    if (!all.release) all.release = Release{.proved = true, .holders = {}};
    Release& sum = *all.release;
    sum.before += gone->release->before;
    sum.after += gone->release->after;
    sum.freed += gone->release->freed;
    sum.expected += gone->release->expected;
    sum.residual += gone->release->residual;
    sum.proved = sum.proved && gone->release->proved;
    sum.holders.insert(sum.holders.end(), gone->release->holders.begin(), gone->release->holders.end());
  }
  co_return all;
}

Task<Result<Embeddings>> Client::Session::embed_once(std::vector<std::string> texts, std::string model) {
  json::array input;
  for (const std::string& text : texts) input.emplace_back(text);
  const auto text = co_await post("/v1/embeddings", {{"model", model}, {"input", std::move(input)}});
  if (!text) co_return std::unexpected(text.error());
  auto rows = lm::client::read_embeddings(*text);
  if (rows && rows->rows != texts.size()) {
    co_return std::unexpected(
        Error{.code = ErrorCode::kInternal,
              .message = fmt::format("{} texts were answered with {} vectors", texts.size(), rows->rows),
              .reason = "bad_answer",
              .details = {}});
  }
  co_return rows;
}

Task<Result<Embeddings>> Client::Session::embed(std::vector<std::string> texts, std::size_t batch,
                                                std::string model) {
  Embeddings all;
  batch = std::max<std::size_t>(1, batch);
  for (std::size_t at = 0; at < texts.size();) {
    const std::size_t count = std::min(batch, texts.size() - at);
    const auto from = texts.begin() + static_cast<std::ptrdiff_t>(at);
    const auto part =
        co_await embed_once(std::vector(from, from + static_cast<std::ptrdiff_t>(count)), model);
    if (!part && part.error().lacks_memory() && count > 1) {
      batch = count / 2;
      continue;
    }
    if (!part) co_return std::unexpected(part.error());
    all.columns = part->columns;
    all.rows += part->rows;
    all.values.insert(all.values.end(), part->values.begin(), part->values.end());
    at += count;
  }
  co_return all;
}

}  // namespace llm_manager
