#include "model.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <common.h>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <optional>
#include <server-context.h>
#include <server-http.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "artifact.h"
#include "engine_log.h"
#include "heap.h"
#include "load_options.h"
#include "load_parameters.h"
#include "memory_report.h"
#include "prompt_bound.h"
#include "refusal.h"

namespace lm::worker {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;

// What of a request's text becomes one prompt.
enum class PromptText { kNothing, kOneString, kEverything };

// A header that would make the engine keep a generation alive after its client has left is dropped, since its
// slot must be free then.
void drop_conversation_id(const server_http_req& request) {
  auto& headers = const_cast<server_http_req&>(request).headers;  // it is never const where it is made
  std::erase_if(headers, [](const auto& header) {
    return std::ranges::equal(header.first, std::string_view("x-conversation-id"), {},
                              [](char c) { return std::tolower(c); });
  });
}

server_http_res_ptr refusal(int status, std::string body) {
  auto response = std::make_unique<server_http_res>();
  response->status = status;
  response->data = std::move(body);
  return response;
}

// Handlers must not throw.
server_http_res_ptr answered(const server_http_context::handler_t& handler, const server_http_req& request) {
  error_type type = ERROR_TYPE_SERVER;
  std::string message = "unknown error";
  try {
    return handler(request);
  } catch (const std::invalid_argument& e) {
    type = ERROR_TYPE_INVALID_REQUEST;
    message = e.what();
  } catch (const std::exception& e) {
    message = e.what();
  } catch (...) {
  }
  const int status = type == ERROR_TYPE_INVALID_REQUEST ? 400 : 500;
  try {
    return refusal(status, safe_json_to_str({{"error", format_error_response(message, type)}}));
  } catch (const std::exception&) {
    return refusal(status, R"({"error":{"message":"an answer could not be written","type":"server_error"}})");
  }
}

// Held until a request with a large body has been answered to its end.
struct LargeBody {
  LargeBody() = default;
  LargeBody(const LargeBody&) = delete;
  LargeBody& operator=(const LargeBody&) = delete;
  ~LargeBody() { large_body_answered(); }
};

server_http_context::handler_t guarded(const server_http_context::handler_t& handler, PromptText text = {},
                                       PromptBound bound = {}) {
  return [=](const server_http_req& request) -> server_http_res_ptr {
    drop_conversation_id(request);
    std::shared_ptr<LargeBody> large;
    if (request.body.size() >= kLargeBody) large = std::make_shared<LargeBody>();
    if (text != PromptText::kNothing) {
      const TextSize size = text_size(request.body);
      const std::size_t bytes = text == PromptText::kEverything ? size.all : size.longest;
      if (bound.is_exceeded_by(bytes))
        return refusal(400, too_long_for(request.path, bytes, bound.slot_context));
    }
    auto response = answered(handler, request);
    if (response->status >= 400 && !response->is_stream())
      response->data = refusal_for(request.path, std::move(response->data));
    if (large && response->is_stream())
      response->next = [next = std::move(response->next), large](std::string& piece) { return next(piece); };
    return response;
  };
}

// Of a model that also sees or hears nothing is known: a picture's text stands for few tokens.
PromptBound prompt_bound(const server_context_meta& meta, const llama_context* context) {
  if (meta.has_mtmd) return {};
  PromptBound bound{.slot_context = static_cast<std::size_t>(meta.slot_n_ctx)};
  const llama_vocab* vocabulary = llama_model_get_vocab(llama_get_model(context));
  for (llama_token token = 0; token < llama_vocab_n_tokens(vocabulary); ++token) {
    const char* text = llama_vocab_get_text(vocabulary, token);
    if (text != nullptr) bound.longest_token = std::max(bound.longest_token, std::strlen(text));
  }
  return bound;
}

// The engine's inference routes, under the names that its own server gives them.
void add_routes(const server_http_context& http, const server_routes& routes, PromptBound bound) {
  const auto get = [&](const char* path, const auto& handler) { http.get(path, guarded(handler)); };
  const auto post = [&](const char* path, const auto& handler) { http.post(path, guarded(handler)); };
  const auto post_prompt = [&](const char* path, const auto& handler) {
    http.post(path, guarded(handler, PromptText::kOneString, bound));
  };
  const auto post_chat = [&](const char* path, const auto& handler) {
    http.post(path, guarded(handler, PromptText::kEverything, bound));
  };
  get("/health", routes.get_health);
  get("/v1/health", routes.get_health);
  get("/metrics", routes.get_metrics);
  get("/props", routes.get_props);
  get("/models", routes.get_models);
  get("/v1/models", routes.get_models);
  post_prompt("/completion", routes.post_completions);
  post_prompt("/completions", routes.post_completions);
  post_prompt("/v1/completions", routes.post_completions_oai);
  post_chat("/chat/completions", routes.post_chat_completions);
  post_chat("/v1/chat/completions", routes.post_chat_completions);
  post("/v1/chat/completions/control", routes.post_control);
  post_chat("/responses", routes.post_responses_oai);
  post_chat("/v1/responses", routes.post_responses_oai);
  post("/audio/transcriptions", routes.post_transcriptions_oai);
  post("/v1/audio/transcriptions", routes.post_transcriptions_oai);
  post_chat("/v1/messages", routes.post_anthropic_messages);
  post_prompt("/infill", routes.post_infill);
  post("/embedding", routes.post_embeddings);
  post("/embeddings", routes.post_embeddings);
  post("/v1/embeddings", routes.post_embeddings_oai);
  post("/rerank", routes.post_rerank);
  post("/reranking", routes.post_rerank);
  post("/v1/rerank", routes.post_rerank);
  post("/v1/reranking", routes.post_rerank);
  post("/tokenize", routes.post_tokenize);
  post("/detokenize", routes.post_detokenize);
  post("/apply-template", routes.post_apply_template);
  post_chat("/chat/completions/input_tokens", routes.post_chat_completions_tok);
  post_chat("/v1/chat/completions/input_tokens", routes.post_chat_completions_tok);
  post_chat("/responses/input_tokens", routes.post_responses_tok_oai);
  post_chat("/v1/responses/input_tokens", routes.post_responses_tok_oai);
  post_chat("/v1/messages/count_tokens", routes.post_anthropic_count_tokens);
  get("/lora-adapters", routes.get_lora_adapters);
  post("/lora-adapters", routes.post_lora_adapters);
  get("/slots", routes.get_slots);
  post("/slots/:id_slot", routes.post_slots);
}

// Spans from one stage's begin to the next one's.
class Stages {
 public:
  explicit Stages(const std::function<void(LoadStage, double)>& progress) : progress_(progress) {}

  // Stages only go forwards: the engine shows some twice.
  void enter(LoadStage stage) {
    if (stage <= stage_) return;
    close();
    stage_ = stage;
    began_ = std::chrono::steady_clock::now();
    progress_(stage, 0);
  }
  void fraction(double done) { progress_(stage_, std::clamp(done, 0.0, 1.0)); }
  LoadStage now() const { return stage_; }
  std::vector<Phase> finish() {
    close();
    stage_ = LoadStage::kReady;
    return std::move(phases_);
  }

 private:
  void close() {
    if (stage_ == LoadStage::kStarting) return;
    const auto took = std::chrono::steady_clock::now() - began_;
    phases_.push_back({std::string(to_string(stage_)), std::chrono::duration_cast<Duration>(took)});
  }

  const std::function<void(LoadStage, double)>& progress_;
  LoadStage stage_ = LoadStage::kStarting;
  SteadyTime began_;
  std::vector<Phase> phases_;
};

}  // namespace

struct Model::Engine {
  // The order of declaration is that of dependence: the routes refer to both before them.
  std::unique_ptr<common_params> params;
  server_context context;
  std::unique_ptr<server_routes> routes;
  server_http_context http;
};

Model::Model(std::string socket) : socket_(std::move(socket)), engine_(std::make_unique<Engine>()) {}
Model::~Model() = default;

Result<wire::Ready> Model::load(wire::Load order, const std::function<void(LoadStage, double)>& progress) {
  auto& engine = *engine_;
  Stages stages(progress);
  stages.enter(LoadStage::kMetadata);

  // Our own look at the files first: it says precisely what is wrong with them, and the engine crashes on
  // some.
  int context_train = 0;
  {
    LM_TRY(auto artifact, Artifact::open(order.path));
    LM_TRY_VOID(artifact.read());
    context_train = describe(artifact).context_train;
    order.options = for_file(std::move(order.options), artifact.padding());
    if (!order.projector.empty()) {
      LM_TRY(auto projector, Artifact::open(order.projector));
      LM_TRY_VOID(projector.read());
    }
  }
  LM_TRY(engine.params, load_parameters(order, context_train, socket_));

  watch_stages([&](LoadStage stage) { stages.enter(stage); });
  engine.context.set_state_callback([&](server_state state, const common_json& payload) {
    if (state != SERVER_STATE_LOADING || !payload.contains("value") ||
        payload.value("current", "") != "text_model")
      return;
    const auto fraction = payload.at("value").get<double>();
    if (stages.now() == LoadStage::kWeights) stages.fraction(fraction);
  });
  bool loaded = false;
  std::string thrown;
  try {
    loaded = engine.context.load_model(*engine.params);
  } catch (const std::bad_alloc&) {
    thrown = "bad_alloc";
  } catch (const std::exception& e) {
    thrown = e.what();
  }
  watch_stages({});
  if (!loaded) {
    auto error = why_it_failed(thrown.empty() ? "the engine refused the model without saying why" : thrown);
    return fail(std::move(error).with_context(order.path.filename().string()));
  }

  stages.enter(LoadStage::kWarmUp);
  ::unlink(socket_.c_str());
  if (!engine.http.init(*engine.params))
    return fail(ErrorCode::kInternal, "the worker's HTTP server cannot be set up", "io_error");
  engine.routes = std::make_unique<server_routes>(*engine.params, engine.context);
  const auto meta = engine.context.get_meta();
  const auto* context = engine.context.get_llama_context();
  add_routes(engine.http, *engine.routes,
             order.kind == ModelKind::kGeneration ? prompt_bound(meta, context) : PromptBound{});
  engine.routes->update_meta(engine.context);
  engine.http.is_ready = true;
  if (!engine.http.start()) {
    return fail(ErrorCode::kInternal, "the worker cannot listen on " + socket_, "io_error");
  }

  const auto capable = [&](const char* name) {
    const auto found = meta.chat_template_caps.find(name);
    return found != meta.chat_template_caps.end() && found->second;
  };
  wire::Ready ready;
  ready.generation = order.generation;
  ready.kind = order.kind;
  ready.memory = memory_report(context);
  ready.slots = engine.params->n_parallel;
  ready.context = static_cast<int>(llama_n_ctx(context));
  ready.slot_context = meta.slot_n_ctx;
  ready.context_train = meta.model_n_ctx_train;
  const bool generates = order.kind == ModelKind::kGeneration;
  ready.capabilities = {
      .chat = generates && llama_model_chat_template(llama_get_model(context), nullptr) != nullptr,
      .tools = generates && capable("supports_tool_calls"),
      .vision = meta.has_inp_image,
      .audio = meta.has_inp_audio,
      .embeddings = order.kind == ModelKind::kEmbedding,
      .rerank = order.kind == ModelKind::kRerank};
  ready.keeps_states = generates && llama_get_memory(context) != nullptr;
  slots_ = ready.slots;
  for (const DeviceMemory& device : ready.memory)
    bytes_per_token_ += static_cast<double>(device.context.count()) / std::max(1, ready.context);
  ready.phases = stages.finish();
  return ready;
}

void Model::keep(SlotStates& states) {
  states.open(engine_->context, slots_, bytes_per_token_);
}

void Model::serve() {
  engine_->context.start_loop();
}

}  // namespace lm::worker
